// The PostgreSQL that benchmarks work on: our own embedded one, durable as in production, in a folder that goes away.
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";

export type BenchDatabase = AsyncDisposable & { readonly url: string; readonly name: string };
export type BenchPostgres = AsyncDisposable & {
  /** An empty database, or a copy of one that nobody is connected to. */
  database(template?: string): Promise<BenchDatabase>;
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
  return {
    async database(template = "template0") {
      const name = `bench_${randomBytes(6).toString("hex")}`;
      await execute(server.url, `create database ${name} template ${template} strategy file_copy`);
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      const drop = () => execute(server.url, `drop database if exists ${name} with (force)`);
      return { url: url.href, name, [Symbol.asyncDispose]: drop };
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await rm(dataDir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
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
