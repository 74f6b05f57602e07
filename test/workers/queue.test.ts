// The job queue in PostgreSQL: rounds between clients, jobs that are refused, transactions.
import { randomUUID } from "node:crypto";
import { PgBoss } from "pg-boss";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Priority } from "../../src/contract/deliveries.ts";
import type { ClientId, EndpointId, NotificationId } from "../../src/contract/ids.ts";
import { createJob, type Job } from "../../src/workers/jobs.ts";
import { inTransaction, JobQueue } from "../../src/workers/queue.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";

const logger = pino({ level: "silent" });
let database: TestDatabase;
let jobs: JobQueue;
beforeAll(async () => {
  database = await testDatabase();
  jobs = await JobQueue.open({ pool: database.pool, logger, now: Date.now });
});
afterAll(async () => {
  await jobs[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

let count = 0;
const job = (client: ClientId, options: { priority?: Priority; at?: number; endpoint?: EndpointId } = {}): Job => {
  count += 1;
  const notification: NotificationId = `ntf_${count}`;
  const { priority = "normal", at = null, endpoint = null } = options;
  return createJob(
    { client, endpoint, priority, cause: null, work: { kind: "route", notification }, at },
    randomUUID(),
  );
};
const many = (client: ClientId, length: number, options: Parameters<typeof job>[1] = {}) =>
  Array.from({ length }, () => job(client, options));
const take = async (limit: number, without: readonly ClientId[] = []) => {
  const taken = await jobs.fetch("tasks", limit, without);
  await jobs.settle("tasks", { done: taken, retried: [] });
  return taken.map((one) => one.client);
};
const tally = (clients: readonly ClientId[], client: ClientId) => clients.filter((one) => one === client).length;

describe("rounds", () => {
  test("another client's first job is in the next batch, however long the flood is", async () => {
    await jobs.add(many("cli_flood", 3_000));
    await take(100);
    await jobs.add([job("cli_other")]);
    expect(tally(await take(100), "cli_other")).toBe(1);
  });

  test("two floods take turns, the one that began later does not wait for the other", async () => {
    await jobs.add(many("cli_late", 500));
    const batch = await take(100);
    expect(tally(batch, "cli_late")).toBeGreaterThanOrEqual(45);
    expect(tally(batch, "cli_flood")).toBeGreaterThanOrEqual(45);
  });

  test("a client's urgent job overtakes its own flood, its low one waits behind others", async () => {
    const [low, urgent] = [job("cli_low", { priority: "low" }), job("cli_flood", { priority: "critical" })];
    await jobs.add([low, urgent]);
    const taken = await jobs.fetch("tasks", 20, []);
    expect(taken.map((one) => one.id)).toContain(urgent.id);
    expect(taken.map((one) => one.id)).not.toContain(low.id);
    await jobs.settle("tasks", { done: taken, retried: [] });
  });

  test("busy clients are left out", async () => {
    await jobs.add(many("cli_third", 3));
    const taken = new Set(await take(100, ["cli_flood", "cli_late"]));
    expect(taken).toEqual(new Set(["cli_third", "cli_low"]));
  });

  test("a job is taken in once under its id", async () => {
    const one = job("cli_once");
    await jobs.add([one, one]);
    await jobs.add([one]);
    expect(tally(await take(2_000, ["cli_flood", "cli_late"]), "cli_once")).toBe(1);
    await jobs.add([one]);
    expect(tally(await take(2_000, ["cli_flood", "cli_late"]), "cli_once")).toBe(0);
  });

  test("what is for later comes when it is due, and gets its turn then", async () => {
    await jobs.add(many("cli_then", 3, { at: Date.now() + 1_000 }));
    expect(await jobs.promote()).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 1_050));
    expect(await jobs.promote()).toBe(3);
    expect(tally(await take(100, ["cli_flood", "cli_late"]), "cli_then")).toBe(3);
  });

  test("a job that is retried runs again after its time, in its round, and knows how often it failed", async () => {
    await jobs.add([job("cli_back")]);
    const others: readonly ClientId[] = ["cli_flood", "cli_late"];
    const [taken] = await jobs.fetch("tasks", 1, others);
    if (taken === undefined) throw new Error("nothing was fetched");
    await jobs.settle("tasks", { done: [], retried: [{ job: { ...taken, failures: 3 }, at: Date.now() + 1_000 }] });
    expect(await jobs.fetch("tasks", 1, others)).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 1_050));
    const [retried] = await jobs.fetch("tasks", 1, others);
    expect(retried).toMatchObject({ id: taken.id, key: taken.key, round: taken.round, failures: 3 });
    await jobs.settle("tasks", { done: retried === undefined ? [] : [retried], retried: [] });
  });
});

describe("a job whose work waits already", () => {
  const others: readonly ClientId[] = ["cli_flood", "cli_late"];
  const twinOf = (one: Job): Job => ({ ...one, id: randomUUID() });

  test("is refused, and takes no round from its client", async () => {
    const waiting = many("cli_twin", 3);
    expect(await jobs.add(waiting)).toBe(3);
    expect(await jobs.add(waiting.map(twinOf))).toBe(0);
    const [next] = many("cli_twin", 1);
    if (next === undefined) throw new Error("no job");
    await jobs.add([next]);
    const taken = (await jobs.fetch("tasks", 100, others)).filter(({ client }) => client === "cli_twin");
    const [first] = taken;
    expect(taken.map(({ id, round }) => [id, round - (first?.round ?? 0)])).toEqual(
      [...waiting, next].map(({ id }, index) => [id, index]),
    );
    await jobs.settle("tasks", { done: taken, retried: [] });
  });

  test("is accepted once the other was fetched, so that work of a crashed worker is not lost", async () => {
    const one = job("cli_crashed");
    await jobs.add([one]);
    const [taken] = await jobs.fetch("tasks", 1, others);
    expect(taken?.id).toBe(one.id);
    expect(await jobs.add([twinOf(one)])).toBe(1);
    const [twin] = await jobs.fetch("tasks", 1, others);
    await jobs.settle("tasks", { done: [taken, twin].filter((each) => each !== undefined), retried: [] });
  });

  test("is refused among those for later, unless it is due at another time", async () => {
    const work = { kind: "release", notification: "ntf_later" } as const;
    const at = Date.now() + 600_000;
    const release = (time: number) =>
      createJob({ client: "cli_later", priority: "normal", cause: null, work, at: time }, randomUUID());
    expect(await jobs.add([release(at)])).toBe(1);
    expect(await jobs.add([release(at)])).toBe(0);
    expect(await jobs.add([release(at - 1_000)])).toBe(1);
  });
});

test("a queue of an older version, in which a key could wait twice, is replaced", async () => {
  await using own = await testDatabase();
  const { pool } = own;
  const old = new PgBoss({ db: { executeSql: (text, values) => pool.query(text, values) }, schema: "jobs" });
  await old.start();
  await old.createQueue("tasks", { policy: "standard" });
  await old.stop({ graceful: false, close: false });
  await using queue = await JobQueue.open({ pool, logger, now: Date.now });
  const one = job("cli_one");
  expect(await queue.add([one])).toBe(1);
  expect(await queue.add([{ ...one, id: randomUUID() }])).toBe(0);
});

test("nothing of a transaction that throws is kept, all of one that does not", async () => {
  const { pool } = database;
  await pool.query("create table kept (n int)");
  const kept = async () => (await pool.query("select n from kept order by n")).rows.map((row) => row.n);
  const failing = inTransaction(pool, async (sql) => {
    await sql.executeSql("insert into kept values (1)");
    throw new Error("in the middle");
  });
  await expect(failing).rejects.toThrow("in the middle");
  expect(await kept()).toEqual([]);
  await inTransaction(pool, async (sql) => {
    await sql.executeSql("insert into kept values (2)");
    await sql.executeSql("insert into kept values (3)");
  });
  expect(await kept()).toEqual([2, 3]);
});

test("another endpoint's job, and one of the client itself, are in the next batch, however far one endpoint is behind", async () => {
  const others: readonly ClientId[] = ["cli_flood", "cli_late"];
  await jobs.add(many("cli_hooks", 500, { endpoint: "whk_behind" }));
  const taken = [...(await jobs.fetch("tasks", 20, others))];
  await jobs.add([job("cli_hooks", { endpoint: "whk_other" }), job("cli_hooks")]);
  const next = await jobs.fetch("tasks", 20, others);
  expect(next.map(({ endpoint }) => endpoint)).toEqual(expect.arrayContaining(["whk_other", null]));
  // One that is left out leaves out neither its client nor the client's other endpoints.
  await jobs.add([job("cli_hooks", { endpoint: "whk_other" })]);
  const without = await jobs.fetch("tasks", 500, [...others, "whk_behind"]);
  expect(without.map(({ endpoint }) => endpoint)).toEqual(["whk_other"]);
  await jobs.settle("tasks", { done: [...taken, ...next, ...without], retried: [] });
});
