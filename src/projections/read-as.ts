// The two handles for reading: one that sees a single client, and the operator's, which sees all.
import pg from "pg";
import type { ClientId } from "../contract/ids.ts";
import { queryAsClient } from "./fence.ts";
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

/**
 * The first fence: of each table the part that belongs to the client. PostgreSQL flattens it, so that indexes serve as if
 * it were not there. The second one, PostgreSQL's own, is in `fence.ts`: each holds without the other.
 */
export function readAs(pool: pg.Pool, client: ClientId): ReadAs {
  const tableOf = (projection: Projection, parameter: (value: string) => string) =>
    `(select * from read.${tableName(projection)} /* fence: tenant-read */ where client = ${parameter(client)} /* end */)`;
  return { kind: "client", client, rows: (query) => queryAsClient(pool, client, configOf(render(query, tableOf))) };
}

export function readAsOperator(pool: Queryable): OperatorRead {
  const tableOf = (projection: Projection) => `read.${tableName(projection)}`;
  return { kind: "operator", rows: async (query) => (await pool.query(configOf(render(query, tableOf)))).rows };
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
const configOf = ({ text, values }: Query) => ({ text, values: [...values], types: columnTypes });

/** The first row, if there is one. */
export const first = <R>(rows: readonly R[]): R | undefined => rows[0];
