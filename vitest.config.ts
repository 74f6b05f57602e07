// How the tests run, on one embedded PostgreSQL: the parts, then files that start servers, then those that start clusters.

import { join } from "node:path";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that start several nodes, or hold a server to a time: more than two of them would take the processor from each other. */
const CLUSTERS = [
  "test/e2e/nodes*.test.ts",
  "test/e2e/setups.test.ts",
  "test/e2e/start*.test.ts",
  "test/faults/log-away.test.ts",
  "test/faults/network-*.test.ts",
  "test/faults/slow-*.test.ts",
];

/** Files that start whole servers: beside the parts they would only wait for the processor. */
const SERVERS = [
  "test/e2e/**/*.test.ts",
  "test/docs/**/*.test.ts",
  "test/cli/**/*.test.ts",
  "test/faults/**/*.test.ts",
];

/** Files that take longest, which begin first: on a fresh machine nothing but the size of a file would tell. */
const LONGEST = [
  ...[
    "e2e/setups",
    "e2e/nodes",
    "e2e/pages",
    "cli/commands",
    "cli/events-moving",
    "faults/forgery",
    "faults/failpoints",
  ],
  ...["faults/kill-loop", "faults/tenants", "faults/secrets", "event-store/postgres-log"],
  ...["event-store/eventstore-db-faults", "embedded/postgres"],
];

/** Two files leave a third of two processors idle: each waits for timers, leases, disks and other processes. */
const WORKERS = 3;

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) =>
      LONGEST.some((name) => moduleId.endsWith(`test/${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    pool: "forks",
    // On a machine that is busy with other things all of it takes several times as long.
    testTimeout: 90_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 20_000 } },
    teardownTimeout: 30_000,
    // Half of a server's start is compiling, and these tests start hundreds.
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, "node_modules/.cache/chatapi") },
    globalSetup: ["test/support/global-postgres.ts"],
    setupFiles: ["test/support/frame-violations.ts"],
    projects: [
      {
        extends: true,
        test: {
          name: "parts",
          include: ["test/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...SERVERS],
          maxWorkers: WORKERS,
          isolate: false,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "servers",
          include: SERVERS,
          exclude: ["**/node_modules/**", ...CLUSTERS],
          maxWorkers: WORKERS,
          // Nearly all of them load the whole server, which takes longer than many of their tests.
          isolate: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: { name: "clusters", include: CLUSTERS, maxWorkers: 2, sequence: { groupOrder: 2 } },
      },
    ],
  },
});
