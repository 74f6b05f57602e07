// Cursors as callers see them: opaque, with the filters of their list inside, and signed, so that none can be made up.
import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import type { Cursor } from "../../contract/fields.ts";
import { Problem } from "./problems.ts";

const MAC_BYTES = 12;

const PayloadSchema = z.tuple([z.record(z.string(), z.string()), z.array(z.union([z.string(), z.number()]))]);

/** A query's parameters as text. */
export type Filters = Readonly<Record<string, string>>;

function mac(secret: Uint8Array, list: string, payload: string): Buffer {
  return createHmac("sha256", secret).update(`cursor\0${list}\0${payload}`).digest().subarray(0, MAC_BYTES);
}

/** `secret` is the client's, `list` the path of the list. */
export function encodeCursor(secret: Uint8Array, list: string, filters: Filters, next: Cursor): string {
  const payload = JSON.stringify([filters, next]);
  return Buffer.concat([mac(secret, list, payload), Buffer.from(payload)]).toString("base64url");
}

/**
 * Where the page begins, and the filters of its list. Throws Problem (invalid_cursor) when it was changed, is of another
 * list, or when `given` has a filter that the list did not have, or another value for one.
 */
export function decodeCursor(
  secret: Uint8Array,
  list: string,
  given: Filters,
  text: string,
): { readonly filters: Filters; readonly next: Cursor } {
  const bytes = Buffer.from(text, "base64url");
  const payload = bytes.subarray(MAC_BYTES).toString("utf8");
  const signed = bytes.length > MAC_BYTES && bytes.toString("base64url") === text;
  if (
    !signed ||
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
