// The PostgreSQL that benchmarks work on: our own embedded one, durable as in production, in a folder that goes away.
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { SUPERUSER } from "../../src/embedded/postgres-home.ts";
import { parentOf } from "./processor-time.ts";

const DROP_TRIES = 5;
const DROP_WAIT_MS = 500;

export type BenchDatabase = AsyncDisposable & {
  readonly url: string;
  readonly name: string;
  /** As a superuser, who may look at the plans within functions. */
  readonly superuserUrl: string;
};
export type BenchPostgres = AsyncDisposable & {
  /** An empty database, or a copy of one that nobody is connected to. */
  database(template?: string): Promise<BenchDatabase>;
  /** Of the server, whose children are its sessions. */
  pid(): number;
};

/** Starts it. */
export async function startBenchPostgres(): Promise<BenchPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), "chatapi-bench-"));
  await chmod(dataDir, 0o711); // as root, PostgreSQL's own account has to get in
  const server = await startEmbeddedPostgres({
    dataDir,
    log: () => {},
    onExit: (error) => console.error("the benchmarks' PostgreSQL ended", error),
    settings: { max_connections: "300" },
  });
  const pid = await serverPid(server.url);
  return {
    pid: () => pid,
    async database(template = "template0") {
      const name = `bench_${randomBytes(6).toString("hex")}`;
      await execute(server.url, `create database ${name} template ${template} strategy file_copy`);
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      const asSuperuser = new URL(url);
      asSuperuser.username = SUPERUSER;
      return {
        url: url.href,
        name,
        superuserUrl: asSuperuser.href,
        [Symbol.asyncDispose]: () => dropDatabase(server.url, name),
      };
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await rm(dataDir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/**
 * Plainly first, which sends autovacuum away; a force may not end that, only what is left of processes that were
 * killed. One that cannot be dropped stays until the folder goes: what was measured on it must not be lost for it.
 */
async function dropDatabase(url: string, name: string): Promise<void> {
  for (let tries = 0; tries < DROP_TRIES; tries += 1) {
    for (const force of ["", " with (force)"]) {
      try {
        return await execute(url, `drop database if exists ${name}${force}`);
      } catch (error) {
        if (!(error instanceof pg.DatabaseError)) throw error;
      }
    }
    await sleep(DROP_WAIT_MS);
  }
}

/** The server's process, which is the parent of each session's; 0 where the system does not say. */
async function serverPid(url: string): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
    return parentOf(rows[0]?.pid ?? 0);
  } finally {
    await client.end();
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
