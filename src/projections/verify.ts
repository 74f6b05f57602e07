// Comparing a rebuilt table with the live one, row by row.
import type pg from "pg";
import { type Projection, type Row, tableName } from "./projection.ts";
import { columnTypes } from "./read-as.ts";
import { shadowName } from "./tables.ts";

/** Differences that are told of one table; further ones are only counted. */
const MAX_DIFFERENCES = 100;

export type Difference = {
  readonly table: string;
  readonly key: Row;
  /** `missing`: only the rebuilt table has the row; `extra`: only the live one; `different`: in these columns. */
  readonly kind: "missing" | "extra" | "different";
  readonly columns: readonly string[];
};
export type Comparison = { readonly table: string; readonly rows: number; readonly differing: number };

/** Compares within the caller's transaction, whose snapshot must have both tables at the same position. */
export async function compareTables(
  client: pg.ClientBase,
  projection: Projection,
): Promise<Comparison & { readonly differences: readonly Difference[] }> {
  const [live, built] = [`read.${tableName(projection)}`, `read.${shadowName(projection)}`];
  const names = Object.keys(projection.columns);
  const text = (alias: string, name: string) =>
    projection.columns[name]?.type === "json" ? `${alias}.${name}::text` : `${alias}.${name}`;
  const differs = names.map((name) => `${text("l", name)} is distinct from ${text("b", name)}`);
  const same = projection.key.map((name) => `l.${name} = b.${name}`).join(" and ");
  const [first = names[0]] = projection.key;
  const found = await client.query<Row & { kind: Difference["kind"]; columns: string[]; differing: number }>({
    text: `
      select ${projection.key.map((name) => `coalesce(l.${name}, b.${name}) as ${name}`).join(", ")},
        case when l.${first} is null then 'missing' when b.${first} is null then 'extra' else 'different' end as kind,
        array_remove(array[${names.map((name, at) => `case when ${differs[at]} then '${name}' end`).join(", ")}], null)
          as columns,
        count(*) over () as differing
      from ${live} l full join ${built} b on ${same}
      where ${differs.join(" or ")}
      limit ${MAX_DIFFERENCES}`,
    types: columnTypes,
  });
  const counted = await client.query<{ count: number }>({
    text: `select count(*) as count from ${built}`,
    types: columnTypes,
  });
  const differences = found.rows.map(({ kind, columns, differing: _, ...key }) => ({
    table: tableName(projection),
    key: Object.fromEntries(projection.key.map((name) => [name, key[name] ?? null])),
    kind,
    columns: kind === "different" ? columns : [],
  }));
  return {
    table: tableName(projection),
    rows: counted.rows[0]?.count ?? 0,
    differing: found.rows[0]?.differing ?? 0,
    differences,
  };
}
