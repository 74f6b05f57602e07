// CORS: browsers may call what is below /api/v1, with a bearer token only. Never registration.
import type { IncomingMessage } from "node:http";
import type { Config } from "../../config.ts";

const EXPOSED = "Position, ETag, Location, Retry-After, Idempotent-Replayed, RateLimit, RateLimit-Policy, X-Request-Id";
const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE";
const HEADERS = "Authorization, X-API-Key, Content-Type, Idempotency-Key, If-Match, Read-After, X-Request-Id";
const MAX_AGE_SECONDS = "600";
/** There when a page may call. */
export const ALLOW_ORIGIN = "Access-Control-Allow-Origin";
const NO_HEADERS = {};

/** The headers for a request's origin: none when a page of that origin may not call. */
export function corsHeaders(
  { corsOrigins }: Pick<Config, "corsOrigins">,
  request: IncomingMessage,
): Readonly<Record<string, string>> {
  const { origin } = request.headers;
  const vary = corsOrigins === undefined ? NO_HEADERS : { Vary: "Origin" };
  if (origin === undefined || (corsOrigins !== undefined && !corsOrigins.includes(origin))) return vary;
  return {
    ...vary,
    [ALLOW_ORIGIN]: corsOrigins === undefined ? "*" : origin,
    "Access-Control-Expose-Headers": EXPOSED,
  };
}

/** Whether a browser asks before it calls. */
export const isPreflight = (request: IncomingMessage): boolean =>
  request.method === "OPTIONS" &&
  request.headers.origin !== undefined &&
  request.headers["access-control-request-method"] !== undefined;

/** What the answer to a preflight says to a page that may call, beside the headers of every answer. */
export const PREFLIGHT_HEADERS: Readonly<Record<string, string>> = {
  "Access-Control-Allow-Methods": METHODS,
  "Access-Control-Allow-Headers": HEADERS,
  "Access-Control-Max-Age": MAX_AGE_SECONDS,
};
