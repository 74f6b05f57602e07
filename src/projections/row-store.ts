// Rows in PostgreSQL: loaded by key, written many in one statement (arrays go in, `unnest` makes rows of them), or by COPY.
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import type { Column, Key, Projection, Row } from "./projection.ts";
import { columnTypes, type Queryable } from "./read-as.ts";

/** Changes of one table. */
export type TableWrite = {
  readonly projection: Projection;
  readonly table: string;
  readonly put: readonly Row[];
  readonly removed: readonly Key[];
};

const ARRAY_TYPES = {
  text: "text[]",
  integer: "int[]",
  bigint: "bigint[]",
  boolean: "bool[]",
  json: "text[]",
  integers: "text[]", // each in text: `unnest` would take an array of arrays apart
  tsvector: "tsvector[]",
} as const;

/** The rows with these keys, in no order. */
export async function loadRows(
  db: Queryable,
  projection: Projection,
  table: string,
  keys: readonly Key[],
): Promise<readonly Row[]> {
  if (keys.length === 0) return [];
  const parameters = new Parameters();
  const text = `select t.* from ${keyRows(projection, keys, parameters)} join read.${table} t using (${projection.key.join(", ")})`;
  const { rows } = await db.query<Row>({ text, values: parameters.values, types: columnTypes });
  return rows;
}

/** Collects the values of a statement. */
export class Parameters {
  readonly values: unknown[] = [];
  add(value: unknown): string {
    return `$${this.values.push(value)}`;
  }
}

/** The statements that write a table, as parts of one; `condition` must hold for them to do anything. */
export function writeParts(write: TableWrite, parameters: Parameters, condition: string): readonly string[] {
  const parts: string[] = [];
  if (write.put.length > 0) parts.push(upsertRows(write, parameters, condition));
  if (write.removed.length > 0) parts.push(deleteRows(write, parameters, condition));
  return parts;
}

function upsertRows({ projection, table, put }: TableWrite, parameters: Parameters, condition: string): string {
  const columns = Object.entries(projection.columns);
  const names = columns.map(([name]) => name);
  const arrays = columns.map(([name, column]) => {
    const values = put.map((row) => scalar(column, row[name] ?? null));
    return `${parameters.add(values)}::${ARRAY_TYPES[column.type]}`;
  });
  const selected = columns.map(([name, { type }]) =>
    type === "json" ? `n.${name}::json` : type === "integers" ? `n.${name}::integer[]` : `n.${name}`,
  );
  const rest = names.filter((name) => !projection.key.includes(name));
  const update =
    rest.length === 0 ? "nothing" : `update set ${rest.map((name) => `${name} = excluded.${name}`).join(", ")}`;
  return `insert into read.${table} (${names.join(", ")})
    select ${selected.join(", ")} from unnest(${arrays.join(", ")}) as n(${names.join(", ")}) where ${condition}
    on conflict (${projection.key.join(", ")}) do ${update}`;
}

function deleteRows({ projection, table, removed }: TableWrite, parameters: Parameters, condition: string): string {
  const same = projection.key.map((name) => `t.${name} = k.${name}`).join(" and ");
  return `delete from read.${table} t using ${keyRows(projection, removed, parameters)} where ${same} and ${condition}`;
}

function keyRows(projection: Projection, keys: readonly Key[], parameters: Parameters): string {
  const arrays = projection.key.map((name, index) => {
    const type = projection.columns[name]?.type ?? "text";
    return `${parameters.add(keys.map((key) => key[index] ?? null))}::${ARRAY_TYPES[type]}`;
  });
  return `unnest(${arrays.join(", ")}) as k(${projection.key.join(", ")})`;
}

/** A value as the driver takes it; JSON as the text that is kept. */
function scalar({ type }: Column, value: Row[string]): string | number | boolean | null {
  if (value === null) return null;
  if (type === "integers" && Array.isArray(value)) return `{${value.join()}}`;
  return type === "json" || typeof value === "object" ? JSON.stringify(value) : value;
}

const ROWS_A_CHUNK = 200;
const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const escaped = (text: string): string => text.replace(/[\\\n\r\t]/g, (found) => ESCAPES[found] ?? found);

/** Copies rows whose keys the table does not hold; throws the database's unique violation when it does. */
export async function copyRows(
  client: pg.ClientBase,
  { columns }: Projection,
  table: string,
  rows: readonly Row[],
): Promise<void> {
  const named = Object.entries(columns);
  const lineOf = (row: Row): string => {
    const values = named.map(([name, column]) => scalar(column, row[name] ?? null));
    return `${values.map((value) => (value === null ? "\\N" : escaped(String(value)))).join("\t")}\n`;
  };
  function* chunks() {
    for (let start = 0; start < rows.length; start += ROWS_A_CHUNK) {
      yield rows
        .slice(start, start + ROWS_A_CHUNK)
        .map(lineOf)
        .join("");
    }
  }
  const copy = copyFrom(`copy read.${table} (${Object.keys(columns).join(", ")}) from stdin`);
  await pipeline(Readable.from(chunks()), client.query(copy));
}
