// Taking jobs over a connection that breaks: whatever answer is lost, no job is lost with it.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createJob, type Job } from "../../src/workers/jobs.ts";
import { JobQueue } from "../../src/workers/queue.ts";
import { surrounded } from "../projections/setting.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database[Symbol.asyncDispose]());

const logger = pino({ level: "silent" });
let count = 0;
const job = (at: number | null = null): Job => {
  count += 1;
  const work = { kind: "route", notification: `ntf_${count}` } as const;
  return createJob({ client: "cli_one", priority: "normal", cause: null, work, at }, randomUUID());
};

/** Once armed, of the first statement that matches the answer does not come: it was carried out, and the session is over. */
function losing(pool: pg.Pool, statement: RegExp) {
  let state: "off" | "armed" | "lost" = "off";
  const breaking = surrounded(pool, async (text, query) => {
    if (state !== "armed" || !statement.test(text)) return query();
    state = "lost";
    await query();
    await pool.query(
      `select pg_terminate_backend(pid, 5000) from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and state = 'idle in transaction'`,
    );
    throw new Error("Connection terminated unexpectedly");
  });
  const arm = () => {
    state = "armed";
  };
  return { pool: breaking, arm, lost: () => state === "lost" };
}

const open = (pool: pg.Pool) => JobQueue.open({ pool, logger, now: Date.now });

test.each([
  ["the jobs", /skip locked/i],
  ["their round", /insert into jobs\.current_rounds/],
  ["the commit", /^commit/],
])("the answer with %s is lost: they are handled all the same, once or twice", async (_name, statement) => {
  const { pool, arm, lost } = losing(database.pool, statement);
  await using store = await open(database.pool);
  await using breaking = await open(pool);
  const one = job();
  await store.add([one]);
  arm();
  const first = await breaking.fetch("tasks", 10, []).catch(() => []);
  expect(lost()).toBe(true);
  const second = await store.fetch("tasks", 10, []);
  expect([...first, ...second].map(({ id }) => id)).toContain(one.id);
  await store.settle("tasks", { done: [...first, ...second], retried: [] });
  expect(await store.fetch("tasks", 10, [])).toEqual([]);
});

test.each([
  ["what is due", /skip locked/i],
  ["its new place", /insert into jobs\.rounds/],
])("the answer with %s is lost: it becomes due again at once", async (_name, statement) => {
  const { pool, arm, lost } = losing(database.pool, statement);
  await using store = await open(database.pool);
  await using breaking = await open(pool);
  const later = job(Date.now() + 300);
  await store.add([later]);
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  arm();
  await expect(breaking.promote()).rejects.toThrow();
  expect(lost()).toBe(true);
  expect(await store.promote()).toBe(1);
  const taken = await store.fetch("tasks", 10, []);
  expect(taken.map(({ id }) => id)).toEqual([later.id]);
  await store.settle("tasks", { done: taken, retried: [] });
});
