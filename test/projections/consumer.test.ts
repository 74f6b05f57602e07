// The consumer's promises: order, at least once, one batch at a time, and what ends a run.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Batch, type EventStore, type NewEvent, positionOf } from "../../src/event-store/event-store.ts";
import { createLeases, type LeaseTerm } from "../../src/platform/leader.ts";
import { type Checkpoint, Consumer, FenceLost, numberOf, PositionTracker } from "../../src/projections/consumer.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { quietLogger } from "../support/live.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const bytes = new TextEncoder().encode("{}");
const event = (): NewEvent => ({ id: crypto.randomUUID(), type: "T", data: bytes, metadata: bytes });
/** Appends one event after the other to a stream, from a revision on. */
async function append(store: EventStore, from: number, to: number): Promise<void> {
  for (let revision = from; revision < to; revision += 1) await store.append("s", revision - 1, [event()]);
}
const revisions = ({ events }: Batch): number[] =>
  events.filter((one) => one.stream === "s").map((one) => one.revision);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, revision) => revision);

test("batches come in order and one at a time; one that failed comes again with the same events", async () => {
  await using store = await openInMemoryLog();
  const seen: number[] = [];
  const failed: string[][] = [];
  let running = 0;
  let most = 0;
  await using consumer = new Consumer({
    ...{ name: "test", store, logger: quietLogger, maxBatch: 3 },
    open: async () => ({
      after: "start",
      async handle(batch) {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, 1));
        running -= 1;
        failed.push(batch.events.map((one) => one.id));
        if (failed.length <= 2) throw new Error("not now");
        seen.push(...revisions(batch));
      },
    }),
  });
  await append(store, 0, 8);
  await consumer.start();
  await append(store, 8, 12);
  await until(() => seen.length === 12);
  expect(seen).toEqual(upTo(12));
  expect(most).toBe(1);
  expect(failed[1]).toEqual(failed[0]);
  expect(failed[2]).toEqual(failed[0]);
  expect(consumer.status()).toEqual({ name: "test", state: "live", handled: await store.tail(), lastError: null });
});

test("a run that lost its fence ends, and the next one begins at the stored checkpoint", async () => {
  await using store = await openInMemoryLog();
  let stored: Checkpoint = "start";
  const seen: number[] = [];
  let opened = 0;
  await using consumer = new Consumer({
    ...{ name: "test", store, logger: quietLogger, maxBatch: 2 },
    async open() {
      opened += 1;
      if (opened === 2) throw new Error("not now");
      let own = stored;
      return {
        after: stored,
        async handle(batch) {
          if (own !== stored) throw new FenceLost("moved");
          seen.push(...revisions(batch));
          own = stored = batch.upTo;
        },
      };
    },
  });
  await consumer.start();
  await append(store, 0, 3);
  await until(() => seen.length === 3);
  // Another process handles the next two events.
  stored = positionOf(store.logId, numberOf(await store.tail()) + 2);
  await append(store, 3, 6);
  await until(() => seen.length === 4);
  expect(seen).toEqual([0, 1, 2, 5]);
  expect(opened).toBe(3);
  await until(() => consumer.status().lastError === null);
});

test("what is appended while it lingers comes as one batch; somebody who waits ends that", async () => {
  await using store = await openInMemoryLog();
  const sizes: number[] = [];
  await using consumer = new Consumer({
    ...{ name: "test", store, logger: quietLogger, lingerMs: 60_000 },
    open: async () => ({ after: await store.tail(), handle: async (batch) => void sizes.push(batch.events.length) }),
  });
  await consumer.start();
  await append(store, 0, 1);
  await until(() => sizes.length === 1);
  await append(store, 1, 5);
  expect(sizes).toEqual([1]);
  consumer.flushNow();
  await until(() => sizes.length === 2);
  expect(sizes).toEqual([1, 4]);
});

test("disposing waits for the handler that runs, and starts none after it", async () => {
  await using store = await openInMemoryLog();
  const handling = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  let handled = 0;
  const consumer = new Consumer({
    ...{ name: "test", store, logger: quietLogger, maxBatch: 1 },
    open: async () => ({
      after: "start",
      async handle() {
        handling.resolve();
        await release.promise;
        handled += 1;
      },
    }),
  });
  await append(store, 0, 3);
  await consumer.start();
  await handling.promise;
  const closed = consumer[Symbol.asyncDispose]();
  release.resolve();
  await closed;
  expect(handled).toBe(1);
  expect(consumer.status()).toMatchObject({ state: "stopped", lastError: null });
});

describe("under a lease", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await testDatabase();
    await database.pool.query("create schema read");
    await database.pool.query(createLeases("read.leases"));
  });
  afterAll(() => database[Symbol.asyncDispose]());

  test("one of two consumes; when its lease is lost its run ends, and the other goes on", async () => {
    await using store = await openInMemoryLog();
    let stored: Checkpoint = "start";
    let generation = 0;
    const seen: number[] = [];
    const member = () =>
      new Consumer({
        ...{ name: "test", store, logger: quietLogger },
        lease: { pool: database.pool, table: "read.leases", name: "test", alone: false },
        async open(term: LeaseTerm | undefined) {
          generation = term?.generation ?? 0;
          const own = generation;
          return {
            after: stored,
            async handle(batch) {
              if (own !== generation) throw new FenceLost("another process leads");
              seen.push(...revisions(batch));
              stored = batch.upTo;
            },
          };
        },
      });
    await using first = member();
    await first.start();
    await using second = member();
    await second.start();
    expect([first.leads, second.leads]).toEqual([true, false]);
    expect(second.status()).toMatchObject({ state: "standby" });
    await append(store, 0, 2);
    await until(() => seen.length === 2);
    await database.pool.query("update read.leases set expires_at = clock_timestamp() where name = 'test'");
    await until(() => second.leads);
    await append(store, 2, 5);
    await until(() => seen.length === 5 && !first.leads);
    expect(seen).toEqual(upTo(5));
    await until(() => first.status().state === "standby");
  });
});

test("a tracker never goes back, and tells who waits whether a position was reached", async () => {
  const tracker = new PositionTracker("start");
  const reached = tracker.waitFor("log.2", 10_000);
  const tooLate = tracker.waitFor("log.9", 10);
  expect(tracker.isAwaited).toBe(true);
  tracker.advance("log.3");
  tracker.advance("log.1");
  expect(tracker.position).toBe("log.3");
  expect(await reached).toBe(true);
  expect(await tooLate).toBe(false);
  expect(await tracker.waitFor("log.3", 0)).toBe(true);
  const closed = tracker.waitFor("log.9", 10_000);
  tracker[Symbol.dispose]();
  expect(await closed).toBe(false);
  expect(tracker.isAwaited).toBe(false);
});
