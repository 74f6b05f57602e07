// The tables of read models: how they are made and replaced. Names in here come from declarations in code, checked as identifiers.
import type pg from "pg";
import { fenceOf } from "./fence.ts";
import { type ColumnType, type Projection, tableName } from "./projection.ts";

// Names and positions compare by their bytes, so that neither order nor indexes depend on a locale. `json` keeps the
// very text, so that members come back in the order in which they were sent.
const SQL_TYPES: Readonly<Record<ColumnType, string>> = {
  text: 'text collate "C"',
  integer: "integer",
  bigint: "bigint",
  boolean: "boolean",
  json: "json",
  integers: "integer[]",
  tsvector: "tsvector",
};

/** What a shadow's table and indexes are called until they take their place. */
export const shadowName = (projection: Projection): string => `${tableName(projection)}_new`;

/** A table with its primary key and its fence, without its other indexes. */
export function createTable(projection: Projection, table: string): readonly string[] {
  const columns = Object.entries(projection.columns).map(
    ([name, { type, nullable }]) => `${name} ${SQL_TYPES[type]}${nullable ? "" : " not null"}`,
  );
  const key = `constraint ${table}_pkey primary key (${projection.key.join(", ")})`;
  return [`create table read.${table} (${[...columns, key].join(", ")})`, ...fenceOf(table)];
}

export const createIndexes = (projection: Projection, table: string): readonly string[] =>
  projection.indexes.map((definition, number) => `create index ${table}_i${number} on read.${table} ${definition}`);

/** Puts a shadow into its place, dropping what is there. Needs both tables for itself. */
export function replaceTable(projection: Projection): readonly string[] {
  const [table, shadow] = [tableName(projection), shadowName(projection)];
  return [
    `drop table if exists read.${table}`,
    `alter table read.${shadow} rename to ${table}`,
    `alter table read.${table} rename constraint ${shadow}_pkey to ${table}_pkey`,
    ...projection.indexes.map((_, number) => `alter index read.${shadow}_i${number} rename to ${table}_i${number}`),
  ];
}

/** Which tables of these projections exist. One without a fence is of an older version, and does not count. */
export async function existingTables(
  client: Pick<pg.Pool, "query">,
  projections: readonly Projection[],
): Promise<ReadonlySet<string>> {
  const { rows } = await client.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'read' /* fence: rls-missing */ and rowsecurity /* end */ and tablename = any($1)",
    [projections.map(tableName)],
  );
  return new Set(rows.map((row) => row.name));
}

/** The rows and bytes of a table, indexes included. */
export async function tableSize(
  client: Pick<pg.Pool, "query">,
  projection: Projection,
): Promise<{ rows: number; bytes: number }> {
  const table = `read.${tableName(projection)}`;
  const { rows } = await client.query<{ rows: string; bytes: string }>(
    `select count(*) as rows, pg_total_relation_size($1) as bytes from ${table}`,
    [table],
  );
  return { rows: Number(rows[0]?.rows ?? 0), bytes: Number(rows[0]?.bytes ?? 0) };
}
