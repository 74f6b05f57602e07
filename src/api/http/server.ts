// The HTTP server: koa, the API's requests through their checks, everything else beside it; every error a problem.
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import Koa from "koa";
import type { Registry } from "prom-client";
import { failpoint } from "../../failpoint.ts";
import { createLimits, type Limits } from "../rate-limit.ts";
import type { Services } from "../services.ts";
import { clientAddress } from "./address.ts";
import { createAdmission } from "./admission.ts";
import { ClientGone } from "./body.ts";
import { isPreflight, setCorsHeaders, setPreflightHeaders } from "./cors.ts";
import { type DevMailbox, mailboxRoutes } from "./dev-mailbox.ts";
import { checkExpectation, createGuardedServer } from "./guarded-server.ts";
import { requestId } from "./headers.ts";
import { HTTP_TIMINGS, type HttpTimings } from "./limits.ts";
import { createMetrics } from "./metrics.ts";
import { hostCheck, ownOriginCheck } from "./origin.ts";
import { docsRoutes } from "./pages/docs.ts";
import { type Probes, probeRoutes } from "./probes.ts";
import { PROBLEMS, Problem, problemBody, toProblem } from "./problems.ts";
import type { Route } from "./route.ts";
import { API_PREFIX, routeTable } from "./route-table.ts";
import { type Answer, createApiServer } from "./serve.ts";
import { findHandler, type SiteReply } from "./site.ts";
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

  /** Answers; gives the path as metrics name it. */
  async function answer(ctx: Koa.Context, id: string, note: (path: string) => void): Promise<void> {
    const { req: request, res: response } = ctx;
    const target = targetOf(request);
    if (target === undefined) throw new Problem("malformed_request");
    const { path, search, host } = target;
    // HTTP/1.1 asks for exactly one, also where any host goes.
    if (host === undefined ? request.httpVersion === "1.1" : host.includes(",")) throw new Problem("malformed_request");
    if (!isKnownHost(host)) throw new Problem("unknown_host");
    checkExpectation(request);
    if (path === API_PREFIX || path.startsWith(`${API_PREFIX}/`)) {
      if (!isRegistration(path)) setCorsHeaders(config, request, response);
      if (isPreflight(request)) {
        if (response.hasHeader("Access-Control-Allow-Origin")) setPreflightHeaders(response);
        ctx.status = 204;
        return;
      }
      const onRoute = (ready: { readonly path: string }) => note(ready.path);
      send(ctx, await api.serve({ request, method: ctx.method, path, search, id, at: now(), onRoute }));
      return;
    }
    const { route, handler, steps } = findHandler(site, ctx.method, path);
    note(route.path);
    sendSite(ctx, await handler({ request, steps, query: readQuery(search) }));
  }

  function fail(ctx: Koa.Context, error: unknown, id: string, route: string): void {
    if (error instanceof ClientGone) {
      ctx.respond = false;
      ctx.res.destroy();
      return;
    }
    let problem = toProblem(error);
    if (problem === undefined) {
      // By its template: in the target are people's ids, and what was meant to be a secret.
      logger.error({ err: error, request_id: id, method: ctx.method, route }, "a request failed");
      problem = new Problem("internal");
    }
    if (ctx.res.headersSent) return;
    for (const [name, value] of Object.entries(problem.headers)) ctx.res.setHeader(name, value);
    ctx.res.setHeader("Content-Type", "application/problem+json; charset=utf-8");
    ctx.status = PROBLEMS[problem.code].status;
    ctx.body = JSON.stringify(problemBody(problem, base(ctx.req), id));
  }

  const app = new Koa();
  // Connections that break while they are answered; every other error has been answered by then.
  app.on("error", (error: unknown) => logger.debug({ err: error }, "a connection broke"));
  app.use(async (ctx) => {
    const started = performance.now();
    const id = requestId(ctx.req, newId);
    ctx.res.setHeader("X-Request-Id", id);
    ctx.res.setHeader("X-Content-Type-Options", "nosniff");
    ctx.res.setHeader("Cache-Control", "no-store");
    let route = "other";
    try {
      await answer(ctx, id, (path) => {
        route = path;
      });
    } catch (error) {
      fail(ctx, error, id, route);
    }
    const seconds = (performance.now() - started) / 1_000;
    metrics.observe(knownMethod(ctx.method), route, ctx.status, seconds);
    if (logger.isLevelEnabled("debug")) {
      logger.debug({ request_id: id, method: ctx.method, route, status: ctx.status, seconds }, "request");
    }
  });

  const handle = app.callback();
  const timings = options.timings ?? HTTP_TIMINGS;
  const server = createGuardedServer(
    {
      ...{ config, newId, timings },
      // Both are answered as all else is. Of a header that comes twice both values count, so that neither can hide the other.
      requireHostHeader: false,
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

function send(ctx: Koa.Context, answer: Answer): void {
  failpoint("reply-made/sent");
  const response: ServerResponse = ctx.res;
  if (answer.position !== undefined) response.setHeader("Position", answer.position);
  if (answer.etag !== undefined) response.setHeader("ETag", `"${answer.etag}"`);
  if (answer.location !== undefined) response.setHeader("Location", answer.location);
  if (answer.replayed === true) response.setHeader("Idempotent-Replayed", "true");
  if (answer.headers !== undefined) {
    for (const [name, value] of Object.entries(answer.headers)) response.setHeader(name, value);
  }
  ctx.status = answer.status;
  if (answer.status === 204) return;
  response.setHeader("Content-Type", "application/json; charset=utf-8");
  ctx.body = JSON.stringify(answer.body);
}

function sendSite(ctx: Koa.Context, reply: SiteReply): void {
  for (const [name, value] of Object.entries(reply.headers ?? {})) ctx.res.setHeader(name, value);
  if (reply.type !== undefined) ctx.res.setHeader("Content-Type", reply.type);
  ctx.body = reply.body instanceof Uint8Array ? Buffer.from(reply.body) : reply.body;
  // After the body, whose absence alone would say 204.
  ctx.status = reply.status;
}
