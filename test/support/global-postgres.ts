// Before all tests: one embedded PostgreSQL for the run, in a folder of its own, tuned for speed, and a copy of its cluster
// as initdb made it, for servers with a data folder of their own. After: all are gone.

import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { openPostgresHome } from "../../src/embedded/postgres-home.ts";

const run = promisify(execFile);

declare module "vitest" {
  interface ProvidedContext {
    /** The role that tests work as; it may create databases. */
    postgresUrl: string;
    /** A folder with a cluster that nothing has started yet: what a data folder holds just after initdb. */
    emptyCluster: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(join(tmpdir(), "chatapi-test-"));
  await chmod(dataDir, 0o711); // as root, PostgreSQL's own account has to get in
  const home = join(dataDir, "run");
  await mkdir(home, { mode: 0o711 });
  const { dir } = await openPostgresHome(home, { durable: false, log: () => {} });
  const emptyCluster = join(dataDir, "empty");
  await run("cp", ["-a", dir, emptyCluster]); // it keeps the owner
  const postgres = await startEmbeddedPostgres({
    dataDir: home,
    log: () => {},
    onExit: (error) => console.error("the tests' PostgreSQL ended", error),
    // What a crash would lose is of no interest here.
    settings: { fsync: "off", synchronous_commit: "off", full_page_writes: "off", max_connections: "200" },
  });
  project.provide("postgresUrl", postgres.url);
  project.provide("emptyCluster", emptyCluster);
  return async () => {
    await postgres[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true, force: true });
  };
}
