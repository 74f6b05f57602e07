// Cursors as callers see them: sealed, with the filters of their list inside, so that none can be made up or read.
import { createCipheriv, createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import type { Services } from "../../app/services.ts";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId } from "../../contract/ids.ts";
import { Problem } from "./problems.ts";
import type { ApiMiddleware } from "./route.ts";
import { parseQuery } from "./validation.ts";

const MAC_BYTES = 16;

const PayloadSchema = z.tuple([z.record(z.string(), z.string()), z.array(z.union([z.string(), z.number()]))]);

/** A query's parameters as text. */
type Filters = Readonly<Record<string, string>>;

/** Takes the cursor out of a list's query and puts its filters there; what schemas see is where the page begins. */
export function readCursor({ keyring }: Services): ApiMiddleware {
  return async ({ path, querystring, state }, next) => {
    const secret = await keyring.pepper(state.caller.client);
    const list = listAt(path);
    const query: Record<string, unknown> = parseQuery(querystring);
    let filters = filtersOf(query);
    if (typeof query.cursor === "string") {
      const decoded = decodeCursor(secret, list, filters, query.cursor);
      filters = decoded.filters;
      Object.assign(query, filters, { cursor: decoded.next });
    }
    state.query = query;
    state.cursorFor = (next) => encodeCursor(secret, list, filters, next);
    return next();
  };
}

const NO_FILTERS: ReadonlySet<string> = new Set(["cursor", "limit", "ticket"]);

/** The cursor of a list without filters, for who tells of its first page elsewhere. `path`: as a request names it. */
export async function cursorOfList(
  { keyring }: Pick<Services, "keyring">,
  client: ClientId,
  path: string,
  next: Cursor,
): Promise<string> {
  return encodeCursor(await keyring.pepper(client), listAt(path), {}, next);
}

/** A path has several spellings. */
function listAt(path: string): string {
  try {
    return decodeURIComponent(path.replace(/(.)\/$/, "$1"));
  } catch {
    return path;
  }
}

function filtersOf(query: Readonly<Record<string, unknown>>): Filters {
  const filters: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    // Defined, not assigned: a parameter may be called `__proto__`.
    if (!NO_FILTERS.has(name)) Object.defineProperty(filters, name, { value, enumerable: true });
  }
  return filters;
}

function mac(secret: Uint8Array, list: string, payload: Uint8Array): Buffer {
  return createHmac("sha256", secret).update(`cursor\0${list}\0`).update(payload).digest().subarray(0, MAC_BYTES);
}

/** The MAC of the plain text serves as the nonce (SIV): positions in it say how much others write. */
function crypt(secret: Uint8Array, nonce: Uint8Array, bytes: Uint8Array): Buffer {
  const key = createHmac("sha256", secret).update("cursor key").digest();
  return createCipheriv("aes-256-ctr", key, nonce).update(bytes);
}

/** `secret` is the client's, `list` the path of the list. */
function encodeCursor(secret: Uint8Array, list: string, filters: Filters, next: Cursor): string {
  const payload = Buffer.from(JSON.stringify([filters, next]));
  const nonce = mac(secret, list, payload);
  return Buffer.concat([nonce, crypt(secret, nonce, payload)]).toString("base64url");
}

/**
 * Where the page begins, and the filters of its list. Throws Problem (invalid_cursor) when it was changed, is of another
 * list, or when `given` has a filter that the list did not have, or another value for one.
 */
function decodeCursor(
  secret: Uint8Array,
  list: string,
  given: Filters,
  text: string,
): { readonly filters: Filters; readonly next: Cursor } {
  const bytes = Buffer.from(text, "base64url");
  // One spelling alone is ours.
  if (bytes.length <= MAC_BYTES || bytes.toString("base64url") !== text) throw new Problem("invalid_cursor");
  const nonce = bytes.subarray(0, MAC_BYTES);
  const payload = crypt(secret, nonce, bytes.subarray(MAC_BYTES));
  // fence: cursor-signature
  if (!timingSafeEqual(nonce, mac(secret, list, payload))) throw new Problem("invalid_cursor");
  const [filters, next] = PayloadSchema.parse(JSON.parse(payload.toString("utf8")));
  const others = Object.entries(given).filter(([name, value]) => filters[name] !== value);
  if (others.length > 0) {
    throw new Problem("invalid_cursor", {
      detail: `the cursor was made with another ${others.map(([name]) => name).join(", ")}`,
    });
  }
  return { filters, next };
}
