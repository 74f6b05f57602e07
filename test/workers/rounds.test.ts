// Turns between clients, in PostgreSQL, through the job store.
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId, NotificationId } from "../../src/contract/ids.ts";
import type { Priority } from "../../src/contract/resources.ts";
import { type JobStore, openJobStore } from "../../src/workers/job-store.ts";
import type { Job } from "../../src/workers/jobs.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";

let database: TestDatabase;
let jobs: JobStore;
beforeAll(async () => {
  database = await testDatabase();
  jobs = await openJobStore({ pool: database.pool, logger: pino({ level: "silent" }), now: Date.now });
});
afterAll(async () => {
  await jobs[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

let count = 0;
const job = (client: ClientId, options: { priority?: Priority; at?: number } = {}): Job => {
  count += 1;
  const notification: NotificationId = `ntf_${count}`;
  const { priority = "normal", at = null } = options;
  return { id: randomUUID(), client, priority, cause: null, work: { kind: "route", notification }, at };
};
const many = (client: ClientId, length: number, options = {}) => Array.from({ length }, () => job(client, options));
const take = async (limit: number, without: readonly ClientId[] = []) => {
  const taken = await jobs.fetch("tasks", limit, without);
  await jobs.settle("tasks", { done: taken, back: [], failed: [] });
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
    await jobs.settle("tasks", { done: taken, back: [], failed: [] });
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

  test("what goes back comes again after its time, one that failed after a backoff", async () => {
    await jobs.add([job("cli_back")]);
    const others: readonly ClientId[] = ["cli_flood", "cli_late"];
    const [taken] = await jobs.fetch("tasks", 1, others);
    if (taken === undefined) throw new Error("nothing was taken");
    await jobs.settle("tasks", { done: [], back: [{ job: taken, at: Date.now() + 1_000 }], failed: [] });
    expect(await jobs.fetch("tasks", 1, others)).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 1_050));
    const [again] = await jobs.fetch("tasks", 1, others);
    expect(again).toMatchObject({ id: taken.id, round: taken.round });
    if (again === undefined) throw new Error("it did not come again");
    await jobs.settle("tasks", { done: [], back: [], failed: [{ job: again, message: "no" }] });
    expect(
      await jobs.liveKeys([`route:${again.work.kind === "route" ? again.work.notification : ""}`], 60_000),
    ).toHaveProperty("size", 1);
  });
});
