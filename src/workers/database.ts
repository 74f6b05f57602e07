// The schema `jobs`: pg-boss's tables and ours, reached through one pool. Dropped, it comes back empty.
import type pg from "pg";
import type { Db } from "pg-boss";
import { createLeases } from "../platform/leader.ts";

export const JOBS_SCHEMA = "jobs";

/** Runs statements, alone or inside a transaction; what pg-boss takes as `db`, too. */
export type Sql = Db;

/** Each statement on its own. */
export const onPool = (pool: pg.Pool): Sql => ({
  executeSql: async (text, values) => pool.query(text, values ? [...values] : undefined),
});

/** How long PostgreSQL keeps a transaction open, and rows locked, of which nothing more is heard: its connection is gone. */
const SILENCE_MS = 5_000;
const BEGIN = `begin; set local idle_in_transaction_session_timeout = ${SILENCE_MS}`;

/** Commits what `run` did, or nothing when it throws. */
export async function inTransaction<T>(pool: pg.Pool, run: (sql: Sql) => Promise<T>): Promise<T> {
  const connection = await pool.connect();
  let broken: Error | undefined;
  const onError = (error: Error) => {
    broken = error;
  };
  connection.on("error", onError);
  try {
    // fence: jobs-transaction
    await connection.query(BEGIN);
    const result = await run({
      executeSql: async (text, values) => connection.query(text, values ? [...values] : undefined),
    });
    await connection.query("commit");
    return result;
  } catch (error) {
    await connection.query("rollback").catch((fault: Error) => {
      broken = fault;
    });
    throw error;
  } finally {
    connection.off("error", onError);
    connection.release(broken);
  }
}

/** Makes our own tables; pg-boss has made the schema. Several processes may do so at once. */
export async function createTables(pool: pg.Pool): Promise<void> {
  await inTransaction(pool, async (sql) => {
    await sql.executeSql("select pg_advisory_xact_lock(hashtextextended('chatapi.jobs.tables', 0))");
    await sql.executeSql(`create table if not exists jobs.reactor_checkpoints (
      name text primary key, position text not null)`);
    await sql.executeSql(createLeases("jobs.leases"));
    await sql.executeSql(`create table if not exists jobs.rounds (
      queue text not null, client text not null, priority text not null, last integer not null,
      primary key (queue, client, priority))`);
    await sql.executeSql(`create table if not exists jobs.current_rounds (
      queue text primary key, round integer not null)`);
  });
}
