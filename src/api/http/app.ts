// The HTTP server: koa with its middleware and one router, on Node's server as hardening.ts makes it.
import type { IncomingMessage, Server } from "node:http";
import { Registry } from "@prometheus-io/client";
import Koa from "koa";
import Router from "koa-router";
import { notificationOfDelivery } from "../../app/notifications.ts";
import { createLimits } from "../../app/rate-limit.ts";
import type { NodeServices, Services } from "../../app/services.ts";
import { PROBLEMS } from "../../contract/errors.ts";
import type { Peers } from "../../platform/processes.ts";
import { type ApiRouter, addApiRoutes, type SharedCommands, sharedCommands } from "./api.ts";
import { BodyBudget, ClientGone } from "./body.ts";
import {
  checkHeaders,
  createGuardedServer,
  type Handler,
  HTTP_TIMINGS,
  type HttpTimings,
  normalizeTarget,
} from "./hardening.ts";
import { addHooks, addUnsubscribing } from "./mail-paths.ts";
import { addMailbox, type DevMailbox } from "./mailbox-pages.ts";
import { prefersPage } from "./markup.ts";
import { allowOrigins, baseUrlOf, type HostCheck, hostCheck, ownOriginCheck } from "./origin.ts";
import { addDocs, sendJson, sendProblemPage } from "./pages.ts";
import { addHttpMetrics, addProbes, type ObserveRequest, type Probes } from "./probes.ts";
import { commonHeaders, Problem, problemBody, requestId, toProblem } from "./problems.ts";
import {
  type ApiContext,
  type ApiMiddleware,
  type ApiState,
  isUnderApi,
  type NamedRoute,
  type RouterFields,
  SOCKET_PATHS,
  type Streams,
} from "./route.ts";

type HttpServerOptions = {
  /** The development mailbox; without it there is no `/dev/mailbox`. */
  readonly mailbox?: DevMailbox;
  /** Parts of the process beside the API's own, for `/readyz`. */
  readonly probes?: Probes;
  /** Where parts of the process keep their metrics; HTTP adds its own. */
  readonly registry?: Registry;
  /** For tests. Default: HTTP_TIMINGS. */
  readonly timings?: HttpTimings;
  /** Those of the node's sockets. Default: none. */
  readonly commands?: SharedCommands;
  /** What sends streams of events; without it there are none. */
  readonly streams?: Streams;
  /** The server that listens already. */
  readonly waiting?: WaitingServer;
  /** The other processes of the node; without them it has one. */
  readonly peers?: Peers;
};

/** `upgrade` is left to the gateway. `open` takes up requests; until then a server that waits refuses them. */
type HttpServer = { readonly server: Server; readonly open: () => void };

/**
 * A server that may listen before the node is ready. `shut`: the node stops. Connections that are kept open outlive the end of
 * listening: what else comes on them is refused, and they end with the answer.
 */
export type WaitingServer = {
  readonly server: Server;
  readonly open: (handle: Handler) => void;
  readonly shut: () => void;
};

/** Answers `/livez`, and 503 to all else, until it is given what handles requests, and once it is shut. Not listening yet. */
export function createWaitingServer(
  services: Pick<NodeServices, "config" | "logger" | "newId">,
  timings = HTTP_TIMINGS,
): WaitingServer {
  const app = newApp(services, () => undefined, baseUrlOf(services.config));
  let doing = "starting";
  app.use((ctx) => {
    if (ctx.path === "/livez") return sendJson(ctx, { status: "ok" });
    if (ctx.path !== "/readyz") throw new Problem("unavailable", { detail: `The server is ${doing}. Try again.` });
    ctx.set("Retry-After", "1");
    sendJson(ctx, { status: "not_ready" }, 503);
  });
  const refuse: Handler = app.callback();
  let handle = refuse;
  const server = createGuardedServer(services, timings, (request, response) => handle(request, response));
  return {
    server,
    open(given) {
      handle = given;
    },
    shut() {
      doing = "stopping";
      handle = (request, response) => {
        response.shouldKeepAlive = false;
        return refuse(request, response);
      };
    },
  };
}

/** The server of a node with the role api. Throws when two routes could match one request. */
export function createHttpServer(
  services: Services,
  routes: readonly NamedRoute[],
  options: HttpServerOptions = {},
): HttpServer {
  const { config, limits } = services;
  const { registry = new Registry(), timings = HTTP_TIMINGS, probes = {}, peers } = options;
  const isKnownHost = hostCheck(config);
  const router = newRouter();
  addProbes(router, services, { probes, registry, limits, peers });
  addDocs(router, routes, config);
  if (options.mailbox !== undefined) {
    addMailbox(router, options.mailbox, ownOriginCheck(config), (id) => notificationOfDelivery(services, id));
  }
  for (const path of SOCKET_PATHS) router.get(path, requireUpgrade);
  const bodies = { budget: new BodyBudget(), slowMs: timings.bodyMs };
  addHooks(router, services, bodies);
  addUnsubscribing(router, services, bodies);
  const { commands = sharedCommands(services), streams } = options;
  const admit = addApiRoutes(router, routes, services, bodies, commands, streams);
  requireUnambiguous(router);

  const app = newApp(services, addHttpMetrics(registry), baseUrlOf(config));
  app.use(checkRequests(isKnownHost));
  app.use(allowOrigins(config));
  // Whoever has no credential does not learn which paths the API has.
  useRoutes(app, router, (ctx) =>
    isUnderApi(ctx.path) ? admit(ctx, async () => refuseUnmatched(ctx)) : refuseUnmatched(ctx),
  );
  return servedBy(options.waiting ?? createWaitingServer(services, timings), app);
}

const servedBy = ({ server, open }: WaitingServer, app: Koa<ApiState, RouterFields>) => ({
  server,
  open: () => open(app.callback()),
});

/** The server of a node without the role api: `/livez`, `/readyz` and `/metrics` alone. */
type ProbeServerOptions = {
  readonly probes: Probes;
  readonly registry: Registry;
  readonly waiting?: WaitingServer;
  readonly peers?: Peers;
};

export function createProbeServer(services: NodeServices, { probes, registry, waiting, peers }: ProbeServerOptions) {
  const router = newRouter();
  addProbes(router, services, { probes, registry, limits: createLimits(services.config), peers });
  const app = newApp(services, addHttpMetrics(registry), baseUrlOf(services.config));
  app.use(checkRequests(() => true));
  useRoutes(app, router, refuseUnmatched);
  return servedBy(waiting ?? createWaitingServer(services), app);
}

/** An application whose requests have an id, are measured, and end with a problem when they fail. */
function newApp(
  { logger, newId }: Pick<NodeServices, "logger" | "newId">,
  observe: ObserveRequest,
  baseUrl: (request: IncomingMessage) => string,
): Koa<ApiState, RouterFields> {
  const app = new Koa<ApiState, RouterFields>();
  app.on("error", (error: Error & { readonly headerSent?: boolean }) => {
    // Mostly a connection that broke while its answer was sent.
    if (error.headerSent === true) logger.debug({ err: error }, "HTTP answer was not sent whole; connection closed");
    else logger.error({ err: error }, "HTTP middleware failed; answered 500");
  });
  app.use(identifyRequest(newId));
  app.use(measureRequests(logger, observe));
  app.use(answerProblems(logger, baseUrl));
  return app;
}

function identifyRequest(newId: () => string): ApiMiddleware {
  return (ctx, next) => {
    ctx.state.id = requestId(ctx.req, newId);
    // Of Node's own response: koa's \`set\` costs more, and every request comes through here.
    for (const [name, value] of commonHeaders(ctx.state.id)) ctx.res.setHeader(name, value);
    return next();
  };
}

const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** Methods come from outside; those that mean nothing here share a name. */
const knownMethod = (method: string): string => (METHODS.has(method) ? method : "other");

/** What metrics call the end of a request whose sender went away; no answer has it. */
const CLIENT_GONE = 499;

function measureRequests(logger: Services["logger"], observe: ObserveRequest): ApiMiddleware {
  return async (ctx, next) => {
    const started = performance.now();
    ctx.state.started = started;
    await next();
    ctx.state.stages?.passed("answer");
    const { method, _matchedRoute: route = "other" } = ctx;
    const isGone = ctx.respond === false && !ctx.res.headersSent;
    const status = isGone ? CLIENT_GONE : ctx.res.statusCode;
    const seconds = (performance.now() - started) / 1_000;
    observe(knownMethod(method), route, status, seconds);
    if (logger.isLevelEnabled("debug")) {
      logger.debug({ request_id: ctx.state.id, method, route, status, seconds }, "request answered");
    }
    // Writing to what is destroyed would be an error without a listener.
    if (ctx.res.destroyed) ctx.respond = false;
  };
}

/** Answers what is thrown with its problem. What is not the caller's fault is logged once and not shown. */
function answerProblems(logger: Services["logger"], baseUrl: (request: IncomingMessage) => string): ApiMiddleware {
  return async (ctx, next) => {
    try {
      await next();
    } catch (error) {
      if (error instanceof ClientGone) {
        ctx.respond = false;
        ctx.res.destroy();
        return;
      }
      const { id } = ctx.state;
      let problem = toProblem(error);
      if (problem === undefined) {
        // By the route's own path: the request's has people's ids in it, and perhaps a secret.
        const route = ctx._matchedRoute ?? "other";
        logger.error(
          { err: error, request_id: id, method: ctx.method, /* fence: failed-request-path */ route },
          "HTTP request failed; answered 500",
        );
        problem = new Problem("internal");
      }
      const { status } = PROBLEMS[problem.code];
      if (logger.isLevelEnabled("debug")) {
        const { caller } = ctx.state as Partial<ApiState>;
        const route = ctx._matchedRoute ?? "other";
        const about = { request_id: id, code: problem.code, status, client: caller?.client, method: ctx.method, route };
        logger.debug(about, "HTTP request refused");
      }
      ctx.status = status;
      ctx.set(problem.headers);
      if (prefersPage(ctx)) {
        ctx.set("Vary", "Accept");
        sendProblemPage(ctx, problem, baseUrl(ctx.req));
        return;
      }
      ctx.set("Content-Type", "application/problem+json; charset=utf-8");
      ctx.body = JSON.stringify(problemBody(problem, baseUrl(ctx.req), id));
    }
  };
}

function checkRequests(isKnownHost: HostCheck): ApiMiddleware {
  return ({ req }, next) => {
    normalizeTarget(req);
    if (!isKnownHost(req.headers.host)) throw new Problem("unknown_host");
    checkHeaders(req);
    return next();
  };
}

// Routing

/** Matches case-sensitively, and a path with and without a slash at its end. */
const newRouter = (): ApiRouter => new Router<ApiState, RouterFields>({ sensitive: true });

/** A segment that other software resolves, however it was encoded. */
const DOT_SEGMENT = /\/(?:\.|%2e){1,2}(?:\/|$)/i;

/** Serves the routes. No route has a path with a dot segment, or with a final slash where something may change. */
function useRoutes(app: Koa<ApiState, RouterFields>, router: ApiRouter, refuse: (ctx: ApiContext) => unknown): void {
  app.use((ctx, next) => {
    const { path, method } = ctx;
    const changes = method !== "GET" && method !== "HEAD";
    // fence: other-paths
    if (DOT_SEGMENT.test(path) || (changes && path.endsWith("/"))) return refuse(ctx);
    return next();
  });
  app.use(router.routes());
  app.use(refuse);
}

/** Of a WebSocket, whose upgrade has not come this far. */
const requireUpgrade: ApiMiddleware = () => {
  throw new Problem("upgrade_required", { headers: { Upgrade: "websocket" } });
};

/** Answers what the router has no route for. Throws Problem (404, 405). */
function refuseUnmatched({ matched = [] }: ApiContext): never {
  if (matched.length === 0) throw new Problem("not_found", { detail: "There is no such path." });
  // The router lists HEAD before its GET.
  // A path may be several routes': /notifications/batch, and /notifications/:notification_id.
  const allow = new Set(matched.flatMap(({ methods }) => methods.toReversed()));
  throw new Problem("method_not_allowed", { headers: { Allow: [...allow].join(", ") } });
}

/** Throws when a request for one route would be run by another: of several that match, the router runs the first. */
function requireUnambiguous(router: ApiRouter): void {
  for (const { path, methods } of router.stack) {
    const [method = "GET"] = methods;
    const { pathAndMethod } = router.match(String(path), method);
    const others = pathAndMethod.filter((one) => one.path !== path);
    if (pathAndMethod[0]?.path !== path || others.some((one) => !String(one.path).includes(":")))
      throw new Error(`${method} ${path} could be another route's`);
  }
}
