// The HTTP server: the API's requests through their checks, everything else beside it; every error a problem.
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import { createLimits, type Limits } from "../../app/rate-limit.ts";
import type { Services } from "../../app/services.ts";
import { PROBLEMS } from "../../contract/errors.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { clientAddress } from "./address.ts";
import { createAdmission } from "./admission.ts";
import { ClientGone } from "./body.ts";
import { ALLOW_ORIGIN, corsHeaders, isPreflight, PREFLIGHT_HEADERS } from "./cors.ts";
import { type DevMailbox, mailboxRoutes } from "./dev-mailbox.ts";
import { checkExpectation, createGuardedServer } from "./guarded-server.ts";
import { headersOfAll, requestId } from "./headers.ts";
import { HTTP_TIMINGS, type HttpTimings } from "./limits.ts";
import { createMetrics } from "./metrics.ts";
import { hostCheck, ownOriginCheck } from "./origin.ts";
import { docsRoutes } from "./pages/docs.ts";
import { type Probes, probeRoutes } from "./probes.ts";
import { Problem, problemBody, toProblem } from "./problems.ts";
import { respond, type Whole } from "./respond.ts";
import type { Route } from "./route.ts";
import { API_PREFIX, routeTable } from "./route-table.ts";
import { type Answer, createApiServer } from "./serve.ts";
import { findHandler, wholeOf } from "./site.ts";
import { targetOf } from "./target.ts";
import { readQuery } from "./validate.ts";

type HttpServerOptions = {
  /** The development mailbox; without it there is no `/dev/mailbox`. */
  readonly mailbox?: DevMailbox;
  /** Parts of the process beside the API's own, for `/readyz`. */
  readonly probes?: Probes;
  /** Where parts of the process keep their metrics; HTTP adds its own. */
  readonly registry?: Registry;
  /** Shared with the WebSocket gateway. */
  readonly limits?: Limits;
  /** For tests. Default: HTTP_TIMINGS. */
  readonly timings?: HttpTimings;
};

/** Not listening yet; `upgrade` is left to the gateway. */
type HttpServer = { readonly server: Server; readonly limits: Limits };

export function createHttpServer(
  services: Services,
  routes: readonly Route[],
  options: HttpServerOptions = {},
): HttpServer {
  const { config, logger, now, newId } = services;
  const limits = options.limits ?? createLimits();
  const metrics = createMetrics(options.registry);
  const admission = createAdmission(services, limits, clientAddress(config));
  const isOwnOrigin = ownOriginCheck(config);
  const isKnownHost = hostCheck(config);
  const table = routeTable(routes);
  const api = createApiServer(services, table, { admission, isOwnOrigin });
  const site = [
    ...probeRoutes(services, {
      ...{ admission, metrics },
      probes: { directory: () => ({ ok: services.directory.ready() }), ...options.probes },
    }),
    ...docsRoutes(table, config),
    ...(options.mailbox === undefined ? [] : mailboxRoutes(options.mailbox, isOwnOrigin)),
  ];
  const base = ({ headers: { host }, socket }: IncomingMessage): string =>
    config.publicUrl ?? `http://${host !== undefined && isKnownHost(host) ? host : `localhost:${socket.localPort}`}`;

  /** The answer. What is put into `headers` is said also when it then throws; `note` is told the path as metrics name it. */
  async function answer(request: IncomingMessage, { id, headers, note }: Asked): Promise<Whole> {
    const method = request.method ?? "GET";
    const target = targetOf(request);
    if (target === undefined) throw new Problem("malformed_request");
    const { path, search, host } = target;
    // HTTP/1.1 asks for exactly one, also where any host goes.
    if (host === undefined ? request.httpVersion === "1.1" : host.includes(",")) throw new Problem("malformed_request");
    if (!isKnownHost(host)) throw new Problem("unknown_host");
    checkExpectation(request);
    if (path === API_PREFIX || path.startsWith(`${API_PREFIX}/`)) {
      if (!isRegistration(path)) Object.assign(headers, corsHeaders(config, request));
      if (isPreflight(request)) {
        return { status: 204, headers: ALLOW_ORIGIN in headers ? PREFLIGHT_HEADERS : {}, body: null };
      }
      const onRoute = (ready: { readonly path: string }) => note(ready.path);
      return wholeOfApi(await api.serve({ request, method, path, search, id, at: now(), onRoute }));
    }
    const { route, handler, steps } = findHandler(site, method, path);
    note(route.path);
    return wholeOf(await handler({ request, steps, query: readQuery(search) }));
  }

  function failed(request: IncomingMessage, error: unknown, id: string, route: string): Whole {
    let problem = toProblem(error);
    if (problem === undefined) {
      // By its template: in the target are people's ids, and what was meant to be a secret.
      logger.error(
        { err: error, request_id: id, method: request.method, /* fence: failed-request-path */ route },
        "a request failed",
      );
      problem = new Problem("internal");
    }
    const headers = { ...problem.headers, "Content-Type": "application/problem+json; charset=utf-8" };
    const body = JSON.stringify(problemBody(problem, base(request), id));
    return { status: PROBLEMS[problem.code].status, headers, body };
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const started = performance.now();
    const id = requestId(request, newId);
    const headers = headersOfAll(id);
    let route = "other";
    const note = (path: string) => {
      route = path;
    };
    let status = CLIENT_GONE;
    const send = (whole: Whole) => {
      respond(request, response, { ...whole, headers: { ...headers, ...whole.headers } });
      status = whole.status;
    };
    try {
      const whole = await answer(request, { id, headers, note });
      failpoint("reply-made/sent");
      send(whole);
    } catch (error) {
      if (error instanceof ClientGone) response.destroy();
      else send(failed(request, error, id, route));
    }
    const seconds = (performance.now() - started) / 1_000;
    const method = request.method ?? "GET";
    metrics.observe(knownMethod(method), route, status, seconds);
    if (logger.isLevelEnabled("debug")) logger.debug({ request_id: id, method, route, status, seconds }, "request");
  }

  const timings = options.timings ?? HTTP_TIMINGS;
  const server = createGuardedServer(
    {
      ...{ config, newId, timings },
      // Both are answered as all else is. Of a header that comes twice both values count, so that neither can hide the other.
      requireHostHeader: false,
      // fence: duplicate-headers
      joinDuplicateHeaders: true,
      // Some clients offer HTTP/2 with every request (`Upgrade: h2c`); the offer is declined by an answer.
      shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === "websocket",
    },
    (request, response) => {
      void handle(request, response).then(() => endUntaken(response, timings.answerMs));
    },
  );
  return { server, limits };
}

/** Gives up an answer that its reader does not take, with the connection: it would wait in memory for ever. */
function endUntaken(response: ServerResponse, answerMs: number): void {
  const { socket } = response;
  if (socket === null || socket.writableLength === 0) return;
  const timer = setTimeout(() => socket.destroy(), answerMs);
  response.once("close", () => clearTimeout(timer));
}

const isRegistration = (path: string): boolean => path === `${API_PREFIX}/clients` || path === `${API_PREFIX}/clients/`;

const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** Methods come from outside; those that mean nothing here share a name. */
const knownMethod = (method: string): string => (METHODS.has(method) ? method : "other");

/** What metrics call the end of a request whose sender went away; no answer has it. */
const CLIENT_GONE = 499;

type Asked = {
  readonly id: string;
  readonly headers: Record<string, string>;
  readonly note: (path: string) => void;
};

function wholeOfApi({ status, body, position, etag, location, replayed, headers }: Answer): Whole {
  const own: Record<string, string> = {};
  if (position !== undefined) own.Position = position;
  if (etag !== undefined) own.ETag = `"${etag}"`;
  if (location !== undefined) own.Location = location;
  if (replayed === true) own["Idempotent-Replayed"] = "true";
  if (headers !== undefined) Object.assign(own, headers);
  if (status === 204) return { status, headers: own, body: null };
  own["Content-Type"] = "application/json; charset=utf-8";
  return { status, headers: own, body: JSON.stringify(body) };
}
