// A server process for tests to kill: holds the data folder given as its argument, and says in one line of JSON how.

import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";

try {
  const postgres = await startEmbeddedPostgres({ dataDir: process.argv[2] ?? "", log: () => {} });
  const end = async () => {
    await postgres[Symbol.asyncDispose]();
    process.exit(0);
  };
  process.once("SIGTERM", end);
  process.stdin.once("end", end).resume(); // the test is over, or its process has died
  // Last: whoever has read this may send the signal at once.
  console.log(JSON.stringify({ url: postgres.url, adopted: postgres.adopted }));
} catch (error) {
  console.log(JSON.stringify({ error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) }));
  process.exitCode = 78;
}
