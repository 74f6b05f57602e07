// A database of its own for a test file, on the PostgreSQL that the whole run shares.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { inject } from "vitest";
import { SUPERUSER } from "../../src/embedded/postgres-home.ts";

export type TestDatabase = {
  /** `postgresql://` with password, for a role that owns the database. */
  readonly url: string;
  readonly pool: pg.Pool;
  /** Ends the pool and drops the database, whoever is still connected. */
  [Symbol.asyncDispose](): Promise<void>;
};

/** Creates an empty database. Dispose it (`afterAll`, or `await using`) so that long runs do not pile them up. */
export const testDatabase = (): Promise<TestDatabase> => copyDatabase("template0");

/** Creates a copy of a database that nobody is connected to. */
export async function copyDatabase(template: string): Promise<TestDatabase> {
  const server = inject("postgresUrl");
  const name = `test_${randomBytes(8).toString("hex")}`;
  await execute(server, `create database ${name} template ${template} strategy file_copy`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  const pool = new pg.Pool({ connectionString: url.href, max: 10 });
  pool.on("error", () => {}); // idle connections of a database that is being dropped
  return {
    url: url.href,
    pool,
    async [Symbol.asyncDispose]() {
      await pool.end();
      await dropDatabase(server, name);
    },
  };
}

/** The same database, for the cluster's superuser. */
export function superuserUrl(database: Pick<TestDatabase, "url">): string {
  const url = new URL(database.url);
  url.username = SUPERUSER;
  return url.href;
}

/** A small pool of its own. */
export function poolOf(url: string, max = 2): pg.Pool & AsyncDisposable {
  const pool = new pg.Pool({ connectionString: url, max });
  return Object.assign(pool, { [Symbol.asyncDispose]: () => pool.end() });
}

const DROP_TRIES = 20;
const DROP_WAIT_MS = 500;
const NOT_ALLOWED = "42501";

/** Autovacuum is PostgreSQL's own, and may not be sent away by us: it is waited for. */
async function dropDatabase(server: string, name: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await execute(server, `drop database if exists ${name} with (force)`);
    } catch (error) {
      const vacuumed = error instanceof pg.DatabaseError && error.code === NOT_ALLOWED;
      if (!vacuumed || tries === DROP_TRIES) throw error;
      await sleep(DROP_WAIT_MS);
    }
  }
}

async function execute(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
