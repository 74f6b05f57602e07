// Read models that are filled in SQL: what takes an hour by way of the log is there in a second.
import type pg from "pg";
import { type Projection, tableName } from "../../src/projections/projection.ts";

/** Rows of a read model, all alike but for some columns: these in SQL, of the n-th of so many, or of each row of a query. */
export async function fillRows(
  pool: pg.Pool,
  of: Projection,
  each: number | string,
  columns: Readonly<Record<string, string>>,
): Promise<void> {
  const defaults = {
    text: "'x'",
    integer: "0",
    bigint: "0",
    boolean: "false",
    json: "'{}'::json",
    integers: "'{}'",
    tsvector: "''",
  };
  const names = Object.keys(of.columns);
  const values = Object.entries(of.columns).map(
    ([name, { type, nullable }]) => columns[name] ?? (nullable ? "null" : defaults[type]),
  );
  await pool.query(`insert into read.${tableName(of)} (${names.join(", ")})
    select ${values.join(", ")} from ${typeof each === "string" ? each : `generate_series(1, ${each}) n`}`);
}
