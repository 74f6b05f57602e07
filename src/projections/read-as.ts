// The two handles for reading: one that sees a single client, and the operator's, which sees all.
import pg from "pg";
import type { ClientId } from "../domain/ids.ts";
import { type Projection, tableName } from "./projection.ts";
import { type Query, render, type Sql } from "./sql.ts";

/** Reads as one client: every table in a query is that client's part of it, whatever the query says. */
export type ReadAs = {
  readonly kind: "client";
  readonly client: ClientId;
  /** The rows of a query, as its columns say: bigint as number, json parsed. Throws when the database does. */
  rows<R extends object>(query: Sql): Promise<readonly R[]>;
};

/** Reads across clients: for workers, the client directory and operators' tools, never for a request's answer. */
export type OperatorRead = {
  readonly kind: "operator";
  rows<R extends object>(query: Sql): Promise<readonly R[]>;
};

export type Queryable = Pick<pg.Pool | pg.PoolClient, "query">;

/** The part of a table that belongs to the client. PostgreSQL flattens it, so that indexes serve as if it were not there. */
export function readAs(pool: Queryable, client: ClientId): ReadAs {
  const tableOf = (projection: Projection, parameter: (value: string) => string) =>
    `(select * from read.${tableName(projection)} where client = ${parameter(client)})`;
  return { kind: "client", client, rows: (query) => run(pool, render(query, tableOf)) };
}

export function readAsOperator(pool: Queryable): OperatorRead {
  const tableOf = (projection: Projection) => `read.${tableName(projection)}`;
  return { kind: "operator", rows: (query) => run(pool, render(query, tableOf)) };
}

const { INT8, JSON: JSON_TYPE } = pg.types.builtins;
/** bigint columns hold milliseconds, which a number holds exactly. */
export const columnTypes = {
  getTypeParser: ((oid: number, format?: "text" | "binary") => {
    if (oid === INT8) return Number;
    if (oid === JSON_TYPE) return JSON.parse;
    return pg.types.getTypeParser(oid, format as "text");
  }) as typeof pg.types.getTypeParser,
};

// Not prepared: a plan made while a table was small would stay in use while it grows.
async function run<R extends object>(pool: Queryable, { text, values }: Query): Promise<readonly R[]> {
  return (await pool.query<R>({ text, values: [...values], types: columnTypes })).rows;
}

/** The first row, if there is one. */
export const first = <R>(rows: readonly R[]): R | undefined => rows[0];
