// How the tests run: in two processes, on one embedded PostgreSQL; then, two files at a time, those that start servers.

import { join } from "node:path";
import { defineConfig } from "vitest/config";

/** Files that start whole servers, several nodes at once: beside the others they would only wait for the processor. */
const SERVERS = [
  "test/e2e/**/*.test.ts",
  "test/docs/**/*.test.ts",
  "test/cli/**/*.test.ts",
  "test/faults/**/*.test.ts",
];

export default defineConfig({
  test: {
    pool: "forks",
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
    // Half of a server's start is compiling, and these tests start hundreds.
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, "node_modules/.cache/chatapi") },
    globalSetup: ["test/support/global-postgres.ts"],
    projects: [
      {
        extends: true,
        test: {
          name: "parts",
          include: ["test/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...SERVERS],
          maxWorkers: 2,
          isolate: false,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: "servers", include: SERVERS, maxWorkers: 2, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
