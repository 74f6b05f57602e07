// The log's sessions as a test sees and troubles them from outside.

import type pg from "pg";

// The lock that each flush takes ("clog", 2): a storage format as much as the table is, two versions must agree on it.
const APPEND_LOCK = [0x636c6f67, 2];

/** Holds every flush in the database back until disposed. */
export async function holdFlushes(pool: pg.Pool): Promise<AsyncDisposable> {
  const client = await pool.connect();
  await client.query("SELECT pg_advisory_lock($1, $2)", APPEND_LOCK);
  return {
    [Symbol.asyncDispose]: async () => {
      await client.query("SELECT pg_advisory_unlock($1, $2)", APPEND_LOCK);
      client.release();
    },
  };
}

/** How many flushes wait for the lock now. */
export async function flushesWaiting(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM pg_locks l JOIN pg_database d ON d.oid = l.database
     WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted AND l.classid = $1 AND l.objid = $2`,
    APPEND_LOCK,
  );
  return rows[0]?.count ?? 0;
}

/** Ends the log's sessions of this name in the pool's database; returns how many. */
export async function terminate(pool: pg.Pool, name: string): Promise<number> {
  const { rowCount } = await pool.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE $1",
    [name],
  );
  return rowCount ?? 0;
}
