// Hosts and origins: which names this server answers to, and which pages may call it.
import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import cors from "@koa/cors";
import ipaddr from "ipaddr.js";
import type { Config } from "../../config.ts";
import { API_PREFIX, type ApiContext, type ApiMiddleware, isUnderApi } from "./route.ts";

type Hosts = Pick<Config, "development" | "publicUrl" | "allowedHosts">;

/** The name in `host` or `host:port`: lower case, without brackets and final dot. Undefined when it is not valid. */
function hostName(host: string): string | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^\s:[\]/@]+))(?::\d{1,5})?$/i.exec(host);
  const name = match?.[1] ?? match?.[2]?.replace(/\.$/, "");
  return name?.toLowerCase();
}

const isLoopback = (name: string): boolean =>
  name === "localhost" ||
  name.endsWith(".localhost") ||
  (isIP(name) !== 0 && ipaddr.process(name).range() === "loopback");

/**
 * Tells whether a `Host` is one of ours: loopback's, PUBLIC_URL's, or in ALLOWED_HOSTS. Against DNS rebinding: a page
 * whose own name was made to point here sends its own name. Outside development mode any host is allowed while neither
 * variable is set.
 */
export type HostCheck = (host: string | undefined) => boolean;

export function hostCheck({ development, publicUrl, allowedHosts }: Hosts): HostCheck {
  const open = !development && publicUrl === undefined && allowedHosts.length === 0;
  const names = new Set(allowedHosts.map((host) => host.toLowerCase()));
  if (publicUrl !== undefined) names.add(hostName(new URL(publicUrl).host) ?? "");
  // The last known one: nearly every request has the same.
  let known: string | undefined;
  return (host) => {
    if (open || (host !== undefined && host === known)) return true;
    const name = host === undefined ? undefined : hostName(host);
    if (name === undefined || host === undefined) return false;
    const ours = isLoopback(name) || names.has(name) || /* fence: host */ names.has(host.toLowerCase());
    if (ours) known = host;
    return ours;
  };
}

/** The host of an origin such as `https://app.example.com`; undefined for `null` and whatever is not an origin. */
function originHost(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

/** Tells whether a page of `origin` is the server's own. `host` is the request's `Host`, which was checked. */
export type OwnOriginCheck = (origin: string, host: string | undefined) => boolean;

export function ownOriginCheck({ publicUrl }: Hosts): OwnOriginCheck {
  const own = publicUrl === undefined ? undefined : new URL(publicUrl).origin;
  return (origin, host) =>
    /^https?:\/\//.test(origin) &&
    (origin === own || (host !== undefined && originHost(origin) === host.toLowerCase()));
}

/** Tells whether a page of `origin` may open a socket. Without an origin it is not a page. */
export function socketOriginCheck(
  config: Pick<Config, "development" | "corsOrigins">,
): (origin: string | undefined) => boolean {
  return (origin) => {
    if (origin === undefined || config.corsOrigins?.includes(origin) === true) return true;
    if (!config.development) return /* fence: socket-origin */ config.corsOrigins === undefined;
    const host = originHost(origin);
    const name = host === undefined ? undefined : hostName(host);
    return name !== undefined && isLoopback(name);
  };
}

/**
 * CORS: pages may call what is under /api/v1, with a bearer token only, and never register a client. A preflight is
 * answered without a key, and tells a page that may not call nothing.
 */
export function allowOrigins({ corsOrigins }: Pick<Config, "corsOrigins">): ApiMiddleware {
  const allow = cors({
    origin: ({ req: { headers } }) => {
      if (corsOrigins === undefined) return "*";
      return headers.origin !== undefined && corsOrigins.includes(headers.origin) ? headers.origin : "";
    },
    exposeHeaders:
      "Position, ETag, Location, Retry-After, Idempotent-Replayed, RateLimit, RateLimit-Policy, X-Request-Id",
    allowMethods: "GET, HEAD, POST, PUT, PATCH, DELETE",
    allowHeaders:
      "Authorization, X-API-Key, Content-Type, Idempotency-Key, If-Match, Last-Event-ID, Read-After, X-Request-Id",
    maxAge: 600,
    keepHeadersOnError: false, // problems keep the headers that are set
  });
  return (ctx, next) => {
    const { origin } = ctx.req.headers;
    if ((origin === undefined && corsOrigins === undefined) || !isUnderApi(ctx.path)) return next();
    const isPreflight =
      ctx.method === "OPTIONS" &&
      origin !== undefined &&
      ctx.req.headers["access-control-request-method"] !== undefined;
    const then = isPreflight ? () => answerNothing(ctx) : next;
    return isRegistration(ctx.path) ? then() : allow(ctx, then);
  };
}

async function answerNothing(ctx: ApiContext): Promise<void> {
  ctx.status = 204;
}

const isRegistration = (path: string): boolean => path.replace(/\/$/, "") === `${API_PREFIX}/clients`;

/** Where a request's caller reaches the pages: as PUBLIC_URL says, else as it came. */
export function baseUrlOf(config: Config): (request: IncomingMessage) => string {
  const isKnownHost = hostCheck(config);
  return ({ headers: { host }, socket }) =>
    config.publicUrl ?? `http://${host !== undefined && isKnownHost(host) ? host : `localhost:${socket.localPort}`}`;
}
