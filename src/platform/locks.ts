// Every advisory lock in PostgreSQL, in one table, and the only statements that take them.
import type pg from "pg";
import { transactionOn, withClient } from "./postgres.ts";

type Lock = readonly [lockClass: number, key: number];

/** "chat" in ASCII. */
const CHAT = 0x63686174;
/** "clog" in ASCII: the Postgres log, which may be in another database than the rest. */
const CLOG = 0x636c6f67;

/** Two versions of this program take the same locks during an upgrade: a key keeps its meaning for ever. */
export const LOCKS = {
  /** Held by the server that owns the embedded database, for as long as it runs. */
  server: [CHAT, 1],
  /** While the table of data keys is made. */
  keyTable: [CHAT, 20],
  /** While the schema of the read models is made. */
  readSchema: [CHAT, 30],
  /** While read models are built: one build at a time. */
  build: [CHAT, 31],
  /** While our tables in the schema `jobs` are made. */
  jobTables: [CHAT, 40],
  /** While the log's schema is made. */
  logSchema: [CLOG, 1],
  /** While a flush is written: commit order is position order. */
  logAppend: [CLOG, 2],
  // [CLOG, 3] belonged to a function of an earlier version, which may still be in a database.
} as const satisfies Record<string, Lock>;

type Connection = { query(text: string, values: number[]): Promise<pg.QueryResult> };

/** The expression that takes a lock until the transaction ends; for the text of SQL functions. */
export const lockInTransactionSql = ([lockClass, key]: Lock): string => `pg_advisory_xact_lock(${lockClass}, ${key})`;

/** Takes a lock until the transaction ends; waits for it as long as the transaction's `lock_timeout` allows. */
export async function lockInTransaction(client: Connection, lock: Lock): Promise<void> {
  await client.query("select pg_advisory_xact_lock($1, $2)", [...lock]);
}

/** Takes a lock for the session; waits for it. */
export async function lockSession(client: Connection, lock: Lock): Promise<void> {
  await client.query("select pg_advisory_lock($1, $2)", [...lock]);
}

/** Takes a lock for the session if it is free now. */
export async function tryLockSession(client: Connection, lock: Lock): Promise<boolean> {
  const { rows } = await client.query("select pg_try_advisory_lock($1, $2) as taken", [...lock]);
  return rows[0]?.taken === true;
}

/** Gives back a lock of the session. */
export async function unlockSession(client: Connection, lock: Lock): Promise<void> {
  await client.query("select pg_advisory_unlock($1, $2)", [...lock]);
}

/** How long a process waits for another one that holds the lock of a set-up. */
const SET_UP_TIMEOUT_MS = 30_000;

/**
 * Makes a schema and what is in it while no other process does: `if not exists` alone fails beside others. Takes the lock
 * for the session before any transaction of `work` begins. One that waited for it inside a transaction would go on from
 * PostgreSQL's caches of the time before, and make again what the other one made. `onBroken` is called when the connection
 * may still have the lock, which then goes with it.
 */
export async function setUpAlone<T>(
  client: pg.ClientBase,
  lock: Lock,
  work: () => Promise<T>,
  onBroken: (error: Error) => void,
): Promise<T> {
  const take = async () => {
    await client.query(`set local lock_timeout = ${SET_UP_TIMEOUT_MS}`);
    // fence: set-up-lock
    await lockSession(client, lock);
  };
  try {
    await transactionOn(client, take);
    return await work();
  } finally {
    await unlockSession(client, lock).catch(onBroken);
  }
}

/** The same in one transaction, on a connection of the pool. */
export const setUpInTransaction = <T>(
  pool: pg.Pool,
  lock: Lock,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> =>
  withClient(pool, (client, onBroken) =>
    setUpAlone(client, lock, () => transactionOn(client, () => work(client)), onBroken),
  );

/** The `application_name` of the session that holds a lock in this database; empty when there is none. */
export async function holderOf(client: Connection, lock: Lock): Promise<string> {
  const { rows } = await client.query(
    `select a.application_name as name from pg_locks l join pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid = $1 and l.objid = $2
       and l.database = (select oid from pg_database where datname = current_database())`,
    [...lock],
  );
  return rows[0]?.name ?? "";
}
