// CORS: browsers may call what is below /api/v1, with a bearer token only. Never registration.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Config } from "../../config.ts";

const EXPOSED = "Position, ETag, Location, Retry-After, Idempotent-Replayed, RateLimit, RateLimit-Policy, X-Request-Id";
const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE";
const HEADERS = "Authorization, X-API-Key, Content-Type, Idempotency-Key, If-Match, Read-After, X-Request-Id";
const MAX_AGE_SECONDS = "600";

/** Sets the headers for a request's origin; false when a page of that origin may not call. */
export function setCorsHeaders(
  { corsOrigins }: Pick<Config, "corsOrigins">,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const { origin } = request.headers;
  if (corsOrigins !== undefined) response.setHeader("Vary", "Origin");
  if (origin === undefined) return false;
  if (corsOrigins !== undefined && !corsOrigins.includes(origin)) return false;
  response.setHeader("Access-Control-Allow-Origin", corsOrigins === undefined ? "*" : origin);
  response.setHeader("Access-Control-Expose-Headers", EXPOSED);
  return true;
}

/** Whether a browser asks before it calls. */
export const isPreflight = (request: IncomingMessage): boolean =>
  request.method === "OPTIONS" &&
  request.headers.origin !== undefined &&
  request.headers["access-control-request-method"] !== undefined;

/** What a preflight says beyond the headers of every answer. */
export function setPreflightHeaders(response: ServerResponse): void {
  response.setHeader("Access-Control-Allow-Methods", METHODS);
  response.setHeader("Access-Control-Allow-Headers", HEADERS);
  response.setHeader("Access-Control-Max-Age", MAX_AGE_SECONDS);
}
