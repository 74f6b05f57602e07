// Many new rows into a table: PostgreSQL's COPY in its text format.
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import type { Projection, Row } from "./projection.ts";
import { scalar } from "./row-store.ts";

const ROWS_A_CHUNK = 200;
const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

const SPECIAL = /[\\\n\r\t]/;

/** One line of the text format, with its end. */
export function copyLine(projection: Projection, row: Row): string {
  let line = "";
  let separator = "";
  for (const name in projection.columns) {
    const column = projection.columns[name];
    const value = column === undefined ? null : scalar(column, row[name] ?? null);
    const text = value === null ? "\\N" : typeof value === "string" ? escaped(value) : String(value);
    line += separator + text;
    separator = "\t";
  }
  return `${line}\n`;
}

// Most values hold nothing special, and looking is cheaper than replacing nothing.
const escaped = (text: string): string =>
  SPECIAL.test(text) ? text.replace(/[\\\n\r\t]/g, (found) => ESCAPES[found] ?? found) : text;

/** Writes rows whose keys the table does not hold; throws the database's unique violation when it does. */
export async function copyRows(
  client: pg.ClientBase,
  projection: Projection,
  table: string,
  rows: readonly Row[],
): Promise<void> {
  const columns = Object.keys(projection.columns).join(", ");
  function* chunks() {
    for (let start = 0; start < rows.length; start += ROWS_A_CHUNK) {
      yield rows
        .slice(start, start + ROWS_A_CHUNK)
        .map((row) => copyLine(projection, row))
        .join("");
    }
  }
  await pipeline(Readable.from(chunks()), client.query(copyFrom(`copy read.${table} (${columns}) from stdin`)));
}
