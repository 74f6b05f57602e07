// One request of the API, from its first header to its reply. The order of the checks is part of the interface.
import type { IncomingMessage } from "node:http";
import type { Caller } from "../../app/authenticate.ts";
import type { Services } from "../../app/services.ts";
import type { FieldFault } from "../../contract/errors.ts";
import type { Instant } from "../../contract/time.ts";
import type { CommandContext } from "../../event-store/envelope.ts";
import { batchPerTick } from "../../platform/batch-loader.ts";
import { type Admission, actorOf, checkAccess, newClient, type Registrant } from "./admission.ts";
import { type ParsedBody, parseBody, readBody } from "./body.ts";
import { BodyBudget, type BodyShare } from "./body-budget.ts";
import { decodeCursor, encodeCursor, type Filters } from "./cursor.ts";
import { idempotencyKey, ifMatch } from "./headers.ts";
import { commandIdOf, fingerprintOf, InFlight } from "./idempotency.ts";
import { OwnWrites } from "./own-writes.ts";
import { Problem } from "./problems.ts";
import type { Reply, Route } from "./route.ts";
import type { ReadyRoute, RouteTable } from "./route-table.ts";
import { checkInput, readQuery } from "./validate.ts";

/** A request below `/api/v1`, as the kernel hands it over. */
type ApiRequest = {
  readonly request: IncomingMessage;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** The query with its question mark, or nothing. */
  readonly search: string;
  readonly id: string;
  readonly at: Instant;
  /** Told once it is known, also when the request then fails: for metrics. */
  readonly onRoute: (ready: ReadyRoute) => void;
};

export type Answer = Reply & { readonly headers?: Readonly<Record<string, string>> };

/** Whether a browser's page may register a client: only one of our own. */
export type OwnOrigin = (origin: string, host: string | undefined) => boolean;

type ApiServer = { serve(request: ApiRequest): Promise<Answer> };

type AnyHandling = Parameters<Route["handle"]>[0];
type Paging = { readonly filters: Filters; readonly secret: Uint8Array } | undefined;

export function createApiServer(
  services: Services,
  table: RouteTable,
  { admission, isOwnOrigin }: { admission: Admission; isOwnOrigin: OwnOrigin },
): ApiServer {
  const { keyring, readSide } = services;
  const bodies = new BodyBudget();
  const inFlight = new InFlight();
  const ownWrites = new OwnWrites(readSide);

  async function serve(api: ApiRequest): Promise<Answer> {
    const found = table.find(api.method, api.path);
    const registrant =
      found.kind === "route" && isRegistration(found.ready) ? admission.registrant(api.request, api.at) : undefined;
    const known = registrant === undefined ? await admission.caller(api.request, api.at) : undefined;
    if (found.kind === "none") throw new Problem("not_found", { detail: "There is no such path." });
    if (found.kind === "method") throw new Problem("method_not_allowed", { headers: { Allow: found.allow } });
    const { ready } = found;
    api.onRoute(ready);
    if (known !== undefined) checkAccess(ready.route.access, known);
    const headers = registrant === undefined ? undefined : checkRegistration(api, registrant);

    using share = bodies.open(known?.client ?? "registration");
    const parsed = ready.body === null ? undefined : await receive(api, ready, share);
    const faults: FieldFault[] = [];
    const key = api.method === "POST" && registrant !== "anybody" ? idempotencyKey(api.request, faults) : undefined;
    const commandId = key === undefined ? services.newId() : commandIdOf({ ...addressee(api, known), key });
    const caller = known ?? newClient(commandId);
    const query = readQuery(api.search);
    const paging = ready.paged ? await readPaging(caller, api, query) : undefined;
    const reads = api.method === "GET" || api.method === "HEAD";
    const readAfter = reads ? api.request.headers["read-after"] : undefined;
    const wait = reads
      ? await ownWrites.waitOf(caller, readAfter === undefined ? undefined : String(readAfter))
      : undefined;
    const condition = ready.route.conditional === true ? ifMatch(api.request, faults) : null;
    faults.push(...(ready.route.faultsFor?.(caller, parsed?.value) ?? []));
    const further = () => ready.route.furtherFaults?.(caller, parsed?.value, api.at) ?? [];
    const input = checkInput(ready, { params: found.params, query, body: parsed, faults, further });

    const fingerprint =
      key === undefined ? undefined : fingerprintOf(await keyring.pepper(caller.client), parsed?.value ?? {});
    const handling: AnyHandling = {
      services,
      caller,
      read: readSide.readAs(caller.client),
      params: input.params,
      query: input.query,
      body: input.body,
      at: api.at,
      context: contextOf(api, caller, registrant, commandId, fingerprint),
      ifMatch: condition,
      cursorFor: (next) => encodeCursor(paging?.secret ?? NO_SECRET, api.path, paging?.filters ?? {}, next),
    };
    if (wait !== undefined) await ownWrites.settle(wait);
    const reply =
      fingerprint === undefined
        ? await ready.route.handle(handling)
        : await inFlight.run(commandId, fingerprint, (repeated) => again(ready.route, handling, repeated));
    if (reply.position !== undefined) ownWrites.note(caller, reply.position);
    return headers === undefined ? reply : { ...reply, headers };
  }

  function checkRegistration(api: ApiRequest, registrant: Registrant): Readonly<Record<string, string>> {
    const { origin, host } = api.request.headers;
    // fence: registration-origin
    if (origin !== undefined && !isOwnOrigin(origin, host)) {
      throw new Problem("forbidden", { detail: "A page of another origin cannot register a client." });
    }
    return registrant === "operator" ? {} : admission.countRegistration(api.request, api.at);
  }

  /** Takes the cursor out of the query and puts its filters there; what schemas see is where the page begins. */
  async function readPaging(caller: Caller, api: ApiRequest, query: Record<string, unknown>): Promise<Paging> {
    const secret = await keyring.pepper(caller.client);
    const given: Record<string, string> = {};
    for (const [name, value] of Object.entries(query)) {
      if (name !== "cursor" && name !== "limit") Object.defineProperty(given, name, { value, enumerable: true });
    }
    if (typeof query.cursor !== "string") return { filters: given, secret };
    const { filters, next } = decodeCursor(secret, api.path, given, query.cursor);
    Object.assign(query, filters, { cursor: next });
    return { filters, secret };
  }

  return { serve };
}

const NO_SECRET = new Uint8Array();

const isRegistration = ({ route }: ReadyRoute): boolean => route.access.kind === "registration";

async function receive(api: ApiRequest, { route }: ReadyRoute, share: BodyShare): Promise<ParsedBody> {
  const bytes = await readBody(api.request, share);
  await batchPerTick();
  return parseBody(api.request, bytes, route.method === "PATCH");
}

/** Whose key it is and for what. Operators share one place. */
function addressee(api: ApiRequest, caller: Caller | undefined) {
  const user = caller?.kind === "user" ? caller.subject : "";
  return { client: caller?.client ?? "operator", user, method: api.method, path: canonicalPath(api.path) };
}

/** One name for a path, however it was percent-encoded. */
function canonicalPath(path: string): string {
  const bare = path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
  try {
    return decodeURIComponent(bare);
  } catch {
    return bare;
  }
}

function contextOf(
  api: ApiRequest,
  caller: Caller,
  registrant: Registrant | undefined,
  commandId: string,
  fingerprint: string | undefined,
): CommandContext {
  return {
    client: caller.client,
    actor: actorOf(caller, registrant),
    commandId,
    ...(fingerprint === undefined ? {} : { fingerprint }),
    correlation: api.id,
    causation: commandId,
  };
}

/** A request that waited for one with its key, which succeeded, is a repetition, whatever the log remembers of it. */
async function again(route: Route, handling: AnyHandling, repeated: boolean): Promise<Reply> {
  const reply = await route.handle(handling);
  return repeated ? { ...reply, replayed: true } : reply;
}
