// The schema `jobs`: pg-boss's tables and ours, reached through one pool. Dropped, it comes back empty.
import type pg from "pg";
import type { Db } from "pg-boss";
import { createLeases } from "../platform/leader.ts";
import { LOCKS, lockInTransaction } from "../platform/locks.ts";
import { inTransaction as transaction } from "../platform/postgres.ts";

export const JOBS_SCHEMA = "jobs";

/** Runs statements, alone or inside a transaction; what pg-boss takes as `db`, too. */
export type Sql = Db;

/** Each statement on its own. */
export const onPool = (pool: pg.Pool): Sql => ({
  executeSql: async (text, values) => pool.query(text, values ? [...values] : undefined),
});

/** Commits what `run` did, or nothing when it throws. */
export const inTransaction = <T>(pool: pg.Pool, run: (sql: Sql) => Promise<T>): Promise<T> =>
  transaction(pool, (client) =>
    run({ executeSql: async (text, values) => client.query(text, values ? [...values] : undefined) }),
  );

/** Makes our own tables; pg-boss has made the schema. Several processes may do so at once. */
export async function createTables(pool: pg.Pool): Promise<void> {
  await transaction(pool, async (client) => {
    await lockInTransaction(client, LOCKS.jobTables);
    await client.query(`create table if not exists jobs.reactor_checkpoints (
      name text primary key, position text not null)`);
    await client.query(createLeases("jobs.leases"));
    await client.query(`create table if not exists jobs.rounds (
      queue text not null, client text not null, priority text not null, last integer not null,
      primary key (queue, client, priority))`);
    await client.query(`create table if not exists jobs.current_rounds (
      queue text primary key, round integer not null)`);
  });
}
