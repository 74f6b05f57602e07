// Cursors as callers see them: opaque, with the filters of their list inside, and signed, so that none can be made up.
import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import type { Services } from "../../app/services.ts";
import type { Cursor } from "../../contract/fields.ts";
import { Problem } from "./problems.ts";
import type { ApiMiddleware } from "./route.ts";
import { parseQuery } from "./validation.ts";

const MAC_BYTES = 12;

const PayloadSchema = z.tuple([z.record(z.string(), z.string()), z.array(z.union([z.string(), z.number()]))]);

/** A query's parameters as text. */
type Filters = Readonly<Record<string, string>>;

/** Takes the cursor out of a list's query and puts its filters there; what schemas see is where the page begins. */
export function readCursor({ keyring }: Services): ApiMiddleware {
  return async ({ path, querystring, state }, next) => {
    const secret = await keyring.pepper(state.caller.client);
    const query: Record<string, unknown> = parseQuery(querystring);
    let filters = filtersOf(query);
    if (typeof query.cursor === "string") {
      const decoded = decodeCursor(secret, path, filters, query.cursor);
      filters = decoded.filters;
      Object.assign(query, filters, { cursor: decoded.next });
    }
    state.query = query;
    state.cursorFor = (next) => encodeCursor(secret, path, filters, next);
    return next();
  };
}

function filtersOf(query: Readonly<Record<string, unknown>>): Filters {
  const filters: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    // Defined, not assigned: a parameter may be called `__proto__`.
    if (name !== "cursor" && name !== "limit") Object.defineProperty(filters, name, { value, enumerable: true });
  }
  return filters;
}

function mac(secret: Uint8Array, list: string, payload: string): Buffer {
  return createHmac("sha256", secret).update(`cursor\0${list}\0${payload}`).digest().subarray(0, MAC_BYTES);
}

/** `secret` is the client's, `list` the path of the list. */
function encodeCursor(secret: Uint8Array, list: string, filters: Filters, next: Cursor): string {
  const payload = JSON.stringify([filters, next]);
  return Buffer.concat([mac(secret, list, payload), Buffer.from(payload)]).toString("base64url");
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
  const payload = bytes.subarray(MAC_BYTES).toString("utf8");
  const isEncoded = bytes.length > MAC_BYTES && bytes.toString("base64url") === text;
  if (
    !isEncoded ||
    /* fence: cursor-signature */ !timingSafeEqual(bytes.subarray(0, MAC_BYTES), mac(secret, list, payload))
  ) {
    throw new Problem("invalid_cursor");
  }
  const [filters, next] = PayloadSchema.parse(JSON.parse(payload));
  const others = Object.entries(given).filter(([name, value]) => filters[name] !== value);
  if (others.length > 0) {
    throw new Problem("invalid_cursor", {
      detail: `the cursor was made with another ${others.map(([name]) => name).join(", ")}`,
    });
  }
  return { filters, next };
}
