// The API's routes on the router: for each its middleware, in the order in which the interface checks a request.
import type Router from "koa-router";
import type { Services } from "../../app/services.ts";
import { PROBLEMS } from "../../contract/errors.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { StageClock } from "../../platform/metrics.ts";
import { clientAddress } from "./address.ts";
import { authorize, commandContext, createAuthentication, wantsStream } from "./authentication.ts";
import { type Bodies, ClientGone, readBody } from "./body.ts";
import { readCursor } from "./cursor.ts";
import { InFlight, identifyCommand, runOnce } from "./idempotency.ts";
import { baseUrlOf } from "./origin.ts";
import { Problem, problemBody, toProblem } from "./problems.ts";
import { limitRequests, limitUsers, showRate } from "./rate-limits.ts";
import { ReadYourWrites, readReadAfter, waitForWrites } from "./read-your-writes.ts";
import {
  API_PREFIX,
  type ApiContext,
  type ApiMiddleware,
  type ApiState,
  type Reply,
  type Route,
  type RouterFields,
  type Streams,
} from "./route.ts";
import { validate } from "./validation.ts";

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
