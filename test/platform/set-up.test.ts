// Processes that start at once on an empty PostgreSQL: each part is made once, and nobody fails.
import type pg from "pg";
import { pino } from "pino";
import { expect, test } from "vitest";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { postgresSnapshots } from "../../src/event-store/stream-state.ts";
import { createKeyTable } from "../../src/event-store/wrapped-keys.ts";
import { createGroups } from "../../src/projections/group.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { JobQueue } from "../../src/workers/queue.ts";
import { poolOf, testDatabase } from "../support/postgres.ts";
import { sized, sizedTimeout } from "../support/size.ts";

const PROCESSES = 8;
const ROUNDS = sized(3, 200);

/** What fills PostgreSQL's caches: a connection has made another schema, and has seen that these are not there. */
const WARM_UP = `create schema if not exists other;
  select to_regclass('keys.data_keys'), to_regclass('jobs.version'), to_regclass('read.groups')`;
const logger = pino({ level: "silent" });

const SET_UPS: Readonly<Record<string, (pool: pg.Pool, url: string) => Promise<unknown>>> = {
  keys: (pool) => createKeyTable(pool),
  log: async (_, url) => (await openPostgresLog({ url }))[Symbol.asyncDispose](),
  "read models": (pool) => createGroups(pool, storedProjections),
  snapshots: (pool) => postgresSnapshots(pool, "log").discard("stream"),
  jobs: async (pool) => (await JobQueue.open({ pool, logger, now: Date.now }))[Symbol.asyncDispose](),
};

test(
  "eight processes set up an empty database at once",
  async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      await using database = await testDatabase();
      await using open = new AsyncDisposableStack();
      const pools = Array.from({ length: PROCESSES }, () => open.use(poolOf(database.url, 3)));
      for (const pool of pools) await pool.query(WARM_UP);
      for (const [part, setUp] of Object.entries(SET_UPS)) {
        const ended = await Promise.allSettled(pools.map((pool) => setUp(pool, database.url)));
        const errors = ended.flatMap((one) => (one.status === "rejected" ? [`${part}: ${one.reason}`] : []));
        expect(errors).toEqual([]);
      }
    }
  },
  sizedTimeout(30_000, 3_600_000),
);
