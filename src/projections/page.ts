// Pages of lists: by keyset, so that a page costs the same wherever it is and shifts with nothing that is added.

import type { Cursor } from "../contract/fields.ts";

/** `next` is null when this page is the last. */
export type Page<R> = { readonly rows: readonly R[]; readonly next: Cursor | null };

/** A cursor that none of our pages gave. */
export class InvalidCursor extends Error {
  override readonly name = "InvalidCursor";
}

type Kind = "text" | "integer";
type Values<K extends readonly Kind[]> = { -readonly [I in keyof K]: K[I] extends "text" ? string : number };

/** Checks a cursor's shape; undefined when there is none. Throws InvalidCursor. */
export function readCursor<const K extends readonly Kind[]>(
  cursor: Cursor | undefined,
  kinds: K,
): Values<K> | undefined {
  if (cursor === undefined) return undefined;
  const fits = (value: string | number, kind: Kind | undefined) =>
    kind === "text"
      ? typeof value === "string" && !value.includes("\0")
      : Number.isInteger(value) && Math.abs(Number(value)) < 2 ** 31;
  if (cursor.length !== kinds.length || !cursor.every((value, index) => fits(value, kinds[index]))) {
    throw new InvalidCursor("not a cursor of this list");
  }
  return [...cursor] as Values<K>;
}

/** The page of rows that were asked for with one more than `limit`. */
export function pageOf<R>(rows: readonly R[], limit: number, cursorOf: (last: R) => Cursor): Page<R> {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return { rows: page, next: rows.length > limit && last !== undefined ? cursorOf(last) : null };
}
