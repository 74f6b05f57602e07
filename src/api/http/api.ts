// The API's routes on the router: for each its middleware, in the order in which the interface checks a request.

import type Router from "koa-router";
import { LRUCache } from "lru-cache";
import type { Positions } from "../../app/positions.ts";
import { type Limits, type OnRate, ratesHeaders, spend, spendRequest } from "../../app/rate-limit.ts";
import type { Caller, Services } from "../../app/services.ts";
import { PROBLEMS } from "../../contract/errors.ts";
import type { Position } from "../../event-store/event-store.ts";
import { maxEntries } from "../../platform/bounded.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { StageClock } from "../../platform/metrics.ts";
import type { ReadSide } from "../../projections/read-side.ts";
import { clientAddress } from "./address.ts";
import { authorize, commandContext, createAuthentication, wantsStream } from "./authentication.ts";
import { type Bodies, ClientGone, readBody } from "./body.ts";
import { readCursor } from "./cursor.ts";
import { InFlight, identifyCommand, runOnce } from "./idempotency.ts";
import { baseUrlOf } from "./origin.ts";
import { Problem, problemBody, toProblem } from "./problems.ts";
import {
  API_PREFIX,
  type ApiContext,
  type ApiMiddleware,
  type ApiState,
  type ReadTarget,
  type Reply,
  type Route,
  type RouterFields,
  type Streams,
} from "./route.ts";
import { validate } from "./validation.ts";

// Reading one's own writes: a read waits until the read model has what its caller wrote, or the position it names.

/** How long a read waits for the position in `Read-After`. */
const NAMED_WAIT_MS = 5_000;
/** How long it waits, without the header, for what its caller wrote through this node. */
const OWN_WAIT_MS = 1_000;
/** Callers whose last write is remembered. */
const REMEMBERED_CALLERS = 50_000;

/** The last writes through this node, by key and by user. */
class ReadYourWrites {
  readonly #readSide: Pick<ReadSide, "compare" | "waitFor">;
  readonly #positions: Positions;
  readonly #lastWrites = new LRUCache<string, Position>(maxEntries(REMEMBERED_CALLERS));

  constructor({ readSide, positions }: Pick<Services, "readSide" | "positions">) {
    this.#readSide = readSide;
    this.#positions = positions;
  }

  record(caller: Caller, position: Position): void {
    const name = nameOf(caller);
    const before = this.#lastWrites.get(name);
    // Positions of one log compare bytewise; answers may overtake each other.
    if (before === undefined || position > before) this.#lastWrites.set(name, position);
  }

  /** What a read with this `Read-After` waits for. Throws Problem (invalid_position), StoreUnavailable. */
  async targetOf(caller: Caller, readAfter: string | undefined): Promise<ReadTarget | undefined> {
    if (readAfter === undefined) {
      const position = this.#lastWrites.get(nameOf(caller));
      return position === undefined ? undefined : { position, named: false };
    }
    if (readAfter === "none") return undefined;
    const position = this.#positions.open(caller.client, readAfter);
    if (position === undefined) throw new Problem("invalid_position");
    const found = await this.#readSide.compare(position);
    if (found === "beyond" || found === "foreign") throw new Problem("invalid_position");
    return found === "reached" ? undefined : { position, named: true };
  }

  /** Throws Problem (read_model_behind) when a named position is not reached in time. */
  async waitFor(target: ReadTarget | undefined): Promise<void> {
    if (target === undefined) return;
    const isReadable = await this.#readSide.waitFor(target.position, target.named ? NAMED_WAIT_MS : OWN_WAIT_MS);
    if (!isReadable && target.named) throw new Problem("read_model_behind");
  }
}

const nameOf = (caller: Caller): string => (caller.kind === "key" ? caller.keyId : caller.subject);

/** Reads `Read-After`. A wrong one is refused before any other fault of the request. */
function readReadAfter(writes: ReadYourWrites): ApiMiddleware {
  return async ({ req: { headers }, state }, next) => {
    const readAfter = headers["read-after"];
    const target = await writes.targetOf(state.caller, readAfter === undefined ? undefined : String(readAfter));
    if (target !== undefined) state.readTarget = target;
    return next();
  };
}

/** Waits for it: only once the request is known to be valid. */
function waitForWrites(writes: ReadYourWrites): ApiMiddleware {
  return async ({ state: { readTarget } }, next) => {
    await writes.waitFor(readTarget);
    return next();
  };
}

// Limits of clients and users: each request is counted, and what is left is told in the headers of its answer.

/** Tells of a limit in the answer's headers; of two of one policy the one with less left. */
const showRate =
  ({ state, res }: ApiContext): OnRate =>
  (policy, rate) => {
    state.rates ??= new Map();
    const before = state.rates.get(policy);
    if (before !== undefined && before.remaining < rate.remaining) return;
    state.rates.set(policy, rate);
    for (const [name, value] of Object.entries(ratesHeaders(state.rates))) res.setHeader(name, value);
  };

/** Counts each request of a client or user. Throws AppError (429). */
const limitRequests =
  (limits: Limits): ApiMiddleware =>
  async (ctx, next) => {
    await spendRequest(limits, ctx.state.caller, showRate(ctx));
    return next();
  };

/** Counts the rooms and members that a user makes by a route, once the request is known to be valid. Throws AppError (429). */
function limitUsers({ costs }: Route, { roomsOfUser, membersOfUser }: Limits): readonly ApiMiddleware[] {
  if (costs === undefined || (roomsOfUser === undefined && membersOfUser === undefined)) return [];
  return [
    async (ctx, next) => {
      const { caller, input } = ctx.state;
      if (caller.kind !== "user") return next();
      const { rooms = 0, members = 0 } = costs(caller.userId, input as never);
      const onRate = showRate(ctx);
      await spend(roomsOfUser, { policy: "rooms", key: caller.subject, count: rooms }, onRate);
      await spend(membersOfUser, { policy: "members", key: caller.subject, count: members }, onRate);
      return next();
    },
  ];
}

export type ApiRouter = Router<ApiState, RouterFields>;

/** What requests and socket commands share, so that they are one to their caller. */
export type SharedCommands = { readonly inFlight: InFlight; readonly writes: ReadYourWrites };

export const sharedCommands = (services: Pick<Services, "readSide" | "positions">): SharedCommands => ({
  inFlight: new InFlight(),
  writes: new ReadYourWrites(services),
});

/** Puts routes on the router. Gives the middleware that lets callers in, for paths that no route has. */
export function addApiRoutes(
  router: ApiRouter,
  routes: readonly Route[],
  services: Services,
  received: Bodies,
  { inFlight, writes }: SharedCommands,
  streams: Streams | undefined,
): ApiMiddleware {
  const authentication = createAuthentication(services);
  const bodies = { ...received, addressOf: clientAddress(services.config).group };
  const { limits } = services;
  const limited = limitRequests(limits);
  const admit: ApiMiddleware = (ctx, next) => authentication.authenticate(ctx, () => limited(ctx, next));

  for (const route of routes) {
    router.register(
      API_PREFIX + route.path,
      [route.method],
      [
        ...(route.access.kind === "registration"
          ? [authentication.authenticateRegistration, authentication.authorizeRegistration]
          : [...(route.stream === undefined ? [] : [authentication.takeTicket]), admit, authorize(route.access)]),
        ...(route.body === null ? [] : [readBody(route, bodies)]),
        identifyCommand(services),
        ...(route.paged ? [readCursor(services)] : []),
        ...(route.method === "GET"
          ? [readReadAfter(writes), validate(route), waitForWrites(writes)]
          : [validate(route), ...limitUsers(route, limits), runOnce(services, inFlight)]),
        handle(route, services, writes, streams),
      ],
    );
  }
  return admit;
}

/** Runs the route's handler and answers what it replies. */
function handle(route: Route, services: Services, writes: ReadYourWrites, streams?: Streams): ApiMiddleware {
  const { readSide, positions, logger, onStage } = services;
  const baseUrl = baseUrlOf(services.config);
  const refusal = (error: unknown, { req, state }: ApiContext) => {
    const problem = toProblem(error) ?? new Problem("internal");
    if (problem.code === "internal") {
      const about = { err: error, request_id: state.id, method: route.method, route: route.path };
      logger.error(about, "item of a batch failed; answered 500");
    }
    return { status: PROBLEMS[problem.code].status, body: problemBody(problem, baseUrl(req), state.id) };
  };
  return async (ctx) => {
    const { state } = ctx;
    if (route.method !== "GET" && onStage !== undefined) {
      state.stages = new StageClock(onStage, state.started);
      state.stages.passed("admission");
    }
    const gone = new AbortController();
    // Only a read ends with its reader.
    if (route.method === "GET") ctx.res.once("close", () => gone.abort(new ClientGone()));
    const handling: Parameters<Route["handle"]>[0] = {
      services,
      caller: state.caller,
      read: readSide.readAs(state.caller.client, gone.signal),
      ...(state.input as { params: undefined; query: undefined; body: undefined }),
      at: state.at,
      context: commandContext(state),
      onRate: showRate(ctx),
      refusal: (error) => refusal(error, ctx),
      ifMatch: state.ifMatch,
      onlyNew: state.onlyNew,
      cursorFor: state.cursorFor ?? noCursor,
      bearer: state.identity?.credential.bearer ?? "",
    };
    const { identity } = state;
    if (route.stream !== undefined && streams !== undefined && identity !== undefined && wantsStream(ctx)) {
      const stream = await route.stream(handling, ctx.get("Last-Event-ID") || undefined);
      await streams.open(stream, { identity, request: ctx.req, response: ctx.res });
      ctx.respond = false; // the stream goes on by itself
      return;
    }
    const reply = await route.handle(handling);
    if (reply.position !== undefined) {
      writes.record(state.caller, reply.position);
      ctx.res.setHeader("Position", positions.ofRequest(state.caller.client, reply.position));
    }
    answer(ctx, reply);
    failpoint("reply-made/sent");
  };
}

function noCursor(): never {
  throw new Error("the query of this route has no cursor");
}

function answer(ctx: ApiContext, { status, body, etag, location, replayed }: Reply): void {
  const { res } = ctx;
  ctx.status = status;
  if (etag !== undefined) res.setHeader("ETag", `"${etag}"`);
  if (location !== undefined) res.setHeader("Location", location);
  if (replayed === true) res.setHeader("Idempotent-Replayed", "true");
  if (status === 204) return;
  res.setHeader("Content-Type", "application/json; charset=utf-8");
  ctx.body = JSON.stringify(body);
}
