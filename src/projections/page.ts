// Pages of lists: by keyset, so that a page costs the same wherever it is and shifts with nothing that is added.
import { type SelectQueryBuilder, sql } from "kysely";
import type { Cursor } from "../contract/fields.ts";
import type { ReadAs } from "./read-as.ts";

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

/** One page of a list: the columns that order it and tell its rows apart, which way, how many, and after which row. */
export type Keyset = {
  readonly by: Readonly<Record<string, Kind>>;
  readonly order: "asc" | "desc";
  readonly limit: number;
  readonly cursor: Cursor | undefined;
};

/** The query for a page and one row more. Throws InvalidCursor. */
export function keyset<DB, T extends keyof DB, R>(
  query: SelectQueryBuilder<DB, T, R>,
  { by, order, limit, cursor }: Keyset,
): SelectQueryBuilder<DB, T, R> {
  const columns = Object.keys(by).map((name) => sql.ref(name));
  const after = readCursor(cursor, Object.values(by));
  const ordered = columns.reduce((sorted, column) => sorted.orderBy(column, order), query).limit(limit + 1);
  if (after === undefined) return ordered;
  const comparison = sql.raw(order === "asc" ? ">" : "<");
  return ordered.where(sql<boolean>`(${sql.join(columns)}) ${comparison} (${sql.join(after)})`);
}

/** Reads a page. `cursorOf` gives the values of the columns in `by`. Throws InvalidCursor. */
export async function readPage<DB, T extends keyof DB, R extends object>(
  read: Pick<ReadAs, "rows">,
  query: SelectQueryBuilder<DB, T, R>,
  page: Keyset,
  cursorOf: (last: R) => Cursor,
): Promise<Page<R>> {
  return pageOf(await read.rows(keyset(query, page)), page.limit, cursorOf);
}
