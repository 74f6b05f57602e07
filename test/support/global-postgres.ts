// Before all tests: one embedded PostgreSQL for the run, in a folder of its own, tuned for speed. After: both are gone.

import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The role that tests work as; it may create databases. */
    postgresUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(join(tmpdir(), "chatapi-test-"));
  await chmod(dataDir, 0o711); // as root, PostgreSQL's own account has to get in
  const postgres = await startEmbeddedPostgres({
    dataDir,
    log: () => {},
    onExit: (error) => console.error("the tests' PostgreSQL ended", error),
    // What a crash would lose is of no interest here.
    settings: { fsync: "off", synchronous_commit: "off", full_page_writes: "off", max_connections: "200" },
  });
  project.provide("postgresUrl", postgres.url);
  return async () => {
    await postgres[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true, force: true });
  };
}
