// The two handles for reading: one that sees a single client, and the operator's, which sees all.
import {
  type CompiledQuery,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryCreator,
  type RawBuilder,
  type SqlBool,
  sql,
} from "kysely";
import pg from "pg";
import type { ClientId } from "../contract/ids.ts";
import { parseJson } from "../contract/json.ts";
import type { SharedSlots } from "../platform/bounded.ts";
import { queryAsClient, snapshotAsClient } from "./fence.ts";
import { type Projection, type Row, type RowOf, tableName } from "./projection.ts";

/** Read models by the names that a query gives them. */
type Named = Readonly<Record<string, Projection>>;
type RowsOf<T extends Named> = { [N in keyof T]: RowOf<T[N]["columns"]> };
/** A query that kysely has built: its rows are typed by the columns that the projections declare. */
type Built<R> = { compile(): CompiledQuery<R> };

type Reading = {
  /**
   * A kysely query creator over read models, by the names given here: `read.over({ m: members }).selectFrom("m")`. Each is a
   * `with` query in front, never materialised, so that PostgreSQL plans as if it were the table.
   */
  over<const T extends Named>(tables: T): QueryCreator<RowsOf<T>>;
  /**
   * The rows of a query: bigint as number, json parsed. One with a name is planned once for each connection, whatever its
   * parameters: for a query whose text is always the same, that takes longer to plan than to carry out, and for which there
   * is one good plan. Throws when the database does.
   */
  rows<R extends object>(query: Built<R>, name?: string): Promise<readonly R[]>;
};

/** Reads as one client: every table in a query is that client's part of it, whatever the query says. */
export type ReadAs = Reading & { readonly kind: "client"; readonly client: ClientId };

/** Reads across clients: for workers, the client directory and operators' tools, never for a request's answer. */
export type OperatorRead = Reading & { readonly kind: "operator" };

export type Queryable = Pick<pg.Pool | pg.PoolClient, "query">;

/** Builds queries only: they are run by `queryAsClient`, or by the operator's pool. */
const builder = new Kysely<Record<string, Row>>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
});

function creatorOver<T extends Named>(tables: T, client: ClientId | null): QueryCreator<RowsOf<T>> {
  let creator: QueryCreator<Record<string, Row>> = builder;
  for (const [name, projection] of Object.entries(tables)) {
    const table = sql.table(`read.${tableName(projection)}`);
    const rows =
      client === null
        ? sql<Row>`(select * from ${table})`
        : sql<Row>`(select * from ${table} /* fence: tenant-read */ where client = ${client} /* end */)`;
    creator = creator.with(
      (cte) => cte(name).notMaterialized(),
      () => rows,
    );
  }
  // The columns are those that the projections declare: a table of another version has another name.
  return creator as unknown as QueryCreator<RowsOf<T>>;
}

/** How long a query waits for one of its client's slots. */
const SLOT_WAIT_MS = 5_000;

type ReadLimits = {
  /** How many connections clients' queries have, and each client of them. */
  readonly slots?: SharedSlots;
  /** Aborted when nobody reads the answers any more. */
  readonly signal?: AbortSignal | undefined;
};

/**
 * The first fence: of each table the part that belongs to the client. PostgreSQL flattens it, so that indexes serve as if
 * it were not there. The second one, PostgreSQL's own, is in `fence.ts`: each holds without the other.
 */
export function readAs(pool: pg.Pool, client: ClientId, { slots, signal }: ReadLimits = {}): ReadAs {
  return {
    ...{ kind: "client", client },
    over: (tables) => creatorOver(tables, client),
    async rows(query, name) {
      using _slot = await slots?.acquire(client, SLOT_WAIT_MS, signal);
      return await queryAsClient(pool, client, configOf(query, name), { signal }); // the slot is held until the answer
    },
  };
}

/**
 * Hands out a handle for reading whose answers are all of one moment, with what `before` reads in the same moment. The
 * handle must not be used any more when `work` has ended.
 */
export async function readSnapshotAs<B, T>(
  pool: pg.Pool,
  client: ClientId,
  { slots, signal }: ReadLimits,
  before: (db: Queryable) => Promise<B>,
  work: (read: ReadAs, before: B) => Promise<T>,
): Promise<T> {
  using _slot = await slots?.acquire(client, SLOT_WAIT_MS, signal);
  return await snapshotAsClient(pool, client, before, (query, known) => {
    const over: ReadAs["over"] = (tables) => creatorOver(tables, client);
    return work({ ...{ kind: "client", client }, over, rows: (built, name) => query(configOf(built, name)) }, known);
  });
}

/** Reads across clients on a pool or in a transaction. */
export function readAsOperator(pool: Queryable): OperatorRead {
  return {
    kind: "operator",
    over: (tables) => creatorOver(tables, null),
    rows: async (query) => (await pool.query(configOf(query))).rows,
  };
}

/** `column = any(values)`; one value is compared by `=`, so that an index that begins with the column gives the order too. */
export const anyOf = (column: string, values: readonly (string | number)[]): RawBuilder<SqlBool> =>
  values.length === 1
    ? sql<SqlBool>`${sql.ref(column)} = ${values[0]}`
    : sql<SqlBool>`${sql.ref(column)} = any(${values})`;

const { INT8, JSON: JSON_TYPE } = pg.types.builtins;
/** bigint columns hold milliseconds, which a number holds exactly. */
export const columnTypes = {
  getTypeParser: ((oid: number, format?: "text" | "binary") => {
    if (oid === INT8) return Number;
    if (oid === JSON_TYPE) return parseJson;
    return pg.types.getTypeParser(oid, format as "text");
  }) as typeof pg.types.getTypeParser,
};

// Not prepared without a name: a plan made while a table was small may stay in use until PostgreSQL analyses it again.
const configOf = (query: Built<unknown>, name?: string) => {
  const { sql: text, parameters } = query.compile();
  return { text, values: [...parameters], types: columnTypes, ...(name === undefined ? {} : { name }) };
};

/** The first row, if there is one. */
export const first = <R>(rows: readonly R[]): R | undefined => rows[0];
