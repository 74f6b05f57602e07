// Headers that routes share: credentials, the request's id, the idempotency key, the precondition; what every answer says.
import type { IncomingMessage } from "node:http";
import type { FieldFault } from "../../contract/errors.ts";

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** The caller's `X-Request-Id` when it is one, else a new id. */
export function requestId(request: IncomingMessage, newId: () => string): string {
  const given = request.headers["x-request-id"];
  return typeof given === "string" && REQUEST_ID.test(given) ? given : newId();
}

/** What every answer says. */
export const headersOfAll = (requestId: string): Record<string, string> => ({
  "X-Request-Id": requestId,
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-store",
});

const BEARER = /^bearer +(\S+) *$/i;

/** The key or token that was sent: `Authorization: Bearer`, else `X-API-Key`. */
export function credential(request: IncomingMessage): string | undefined {
  const match = BEARER.exec(request.headers.authorization ?? "");
  if (match !== null) return match[1];
  const key = request.headers["x-api-key"];
  return typeof key === "string" && key !== "" ? key.trim() : undefined;
}

const VISIBLE = /^[\x21-\x7e]+$/;
const MAX_KEY_LENGTH = 255;

/** The idempotency key without its quotes; undefined when there is none. A wrong one is a fault. */
export function idempotencyKey(request: IncomingMessage, faults: FieldFault[]): string | undefined {
  const given = request.headers["idempotency-key"];
  if (given === undefined) return undefined;
  const text = String(given);
  const key = text.length >= 2 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text;
  const path = "Header: Idempotency-Key";
  if (key === "") faults.push({ path, code: "too_short", message: "must have at least 1 character" });
  else if (key.length > MAX_KEY_LENGTH) {
    faults.push({ path, code: "too_long", message: `must have at most ${MAX_KEY_LENGTH} characters` });
  } else if (!VISIBLE.test(key)) {
    faults.push({ path, code: "invalid_format", message: "must be visible ASCII characters without spaces" });
  } else return key;
  return undefined;
}

/** What no state has: an `ETag` that is none of ours, or a weak one, which never counts for a change. */
const NEVER = -1;
const ENTITY_TAG = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"$/;

/** The number in `If-Match`; null without one or for `*`. A malformed one is a fault. */
export function ifMatch(request: IncomingMessage, faults: FieldFault[]): number | null {
  const given = request.headers["if-match"]?.trim();
  if (given === undefined || given === "*") return null;
  const match = ENTITY_TAG.exec(given);
  if (match === null) {
    const message = 'must be one ETag as it was given, such as "17"';
    faults.push({ path: "Header: If-Match", code: "invalid_format", message });
    return null;
  }
  const [, weak, tag = ""] = match;
  return weak === undefined && /^\d{1,15}$/.test(tag) ? Number(tag) : NEVER;
}
