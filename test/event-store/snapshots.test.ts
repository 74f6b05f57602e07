// Snapshots: a long stream is loaded without reading all of it, at its end and at any earlier revision.
import type pg from "pg";
import { describe, expect, test } from "vitest";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { Commands } from "../../src/event-store/handle-command.ts";
import { emptyStream, postgresSnapshots, type Snapshots } from "../../src/event-store/stream-state.ts";
import { contextOf, counter } from "../support/counter.ts";
import { faultyStore } from "../support/faulty-store.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import { testDatabase } from "../support/postgres.ts";

const STREAM = "counter-1";
const keyring = memoryKeyring();
const codec = counter.snapshot;
if (codec === undefined) throw new Error("the counter must have a snapshot");

const commandsOn = (store: EventStore, snapshots?: Snapshots): Commands =>
  new Commands({ store, keyring, snapshots, olderCommands: undefined, warn: () => undefined });
const add = (commands: Commands, key?: string) =>
  commands.execute(counter, STREAM, { type: "Add", at: 1_000 }, contextOf(key));
const addMany = (commands: Commands, count: number) => Promise.all(Array.from({ length: count }, () => add(commands)));
const stateAt = (revision: number) => ({
  ...emptyStream({ count: revision + 1, at: revision }),
  ...{ revision, at: revision, position: "log.0000000000000001" as const },
});

async function savedRevisions(pool: pg.Pool): Promise<number[]> {
  const { rows } = await pool.query<{ revision: string }>(
    "select revision from read.stream_snapshots where stream = $1 order by revision",
    [STREAM],
  );
  return rows.map(({ revision }) => Number(revision));
}

describe("a long stream", () => {
  test("is loaded from its newest snapshot, with the commands of its idempotency window", async () => {
    await using database = await testDatabase();
    const store = faultyStore(await openInMemoryLog());
    const first = commandsOn(store, postgresSnapshots(database.pool, store.logId));
    await add(first, "key-1");
    for (let round = 0; round < 3; round += 1) await addMany(first, 500);
    await expect.poll(() => savedRevisions(database.pool)).toHaveLength(1);
    store.reads.length = 0;
    const second = commandsOn(store, postgresSnapshots(database.pool, store.logId));
    expect((await second.load(counter, STREAM)).state.count).toBe(1_501);
    expect(store.reads[0]?.read.from).toBeGreaterThan(999);
    expect(await add(second, "key-1")).toMatchObject({ replayed: true, state: { count: 1 } });
  });

  test("is loaded at an earlier revision from the newest snapshot at or before it", async () => {
    await using database = await testDatabase();
    const store = faultyStore(await openInMemoryLog());
    const commands = commandsOn(store, postgresSnapshots(database.pool, store.logId));
    for (let round = 0; round < 7; round += 1) await addMany(commands, 500);
    await expect.poll(() => savedRevisions(database.pool)).toHaveLength(3);
    const [one = 0, two = 0, three = 0] = await savedRevisions(database.pool);
    const read = async (revision: number) => {
      store.reads.length = 0;
      expect((await commands.loadAt(counter, STREAM, revision)).count).toBe(revision + 1);
      return store.reads.map((each) => each.read.from);
    };
    expect(await read(two + 5)).toEqual([two + 1]);
    expect(await read(two)).toEqual([]);
    expect(await read(three - 1)).toContain(two + 1);
    expect(await read(one - 1)).toContain(0);
  });
});

describe("the snapshots of a stream", () => {
  test("are at most sixteen: the newest, and earlier ones spread over the stream's length", async () => {
    await using database = await testDatabase();
    const snapshots = postgresSnapshots(database.pool, "log");
    for (let n = 1; n <= 100; n += 1) await snapshots.save(STREAM, codec, stateAt(n * 1_000));
    const revisions = await savedRevisions(database.pool);
    expect(revisions).toHaveLength(16);
    expect(revisions.at(-1)).toBe(100_000);
    const gaps = revisions.map((revision, index) => revision - (revisions[index - 1] ?? 0));
    expect(Math.max(...gaps)).toBeLessThanOrEqual(16_000);
    expect((await snapshots.load(STREAM, codec, 99_999))?.revision).toBe(revisions.at(-2));
  });

  test("of a stream that is shorter than a snapshot says are thrown away", async () => {
    await using database = await testDatabase();
    const store = await openInMemoryLog();
    const snapshots = postgresSnapshots(database.pool, store.logId);
    await add(commandsOn(store));
    await snapshots.save(STREAM, codec, stateAt(8));
    expect((await add(commandsOn(store, snapshots))).state.count).toBe(2);
    expect(await savedRevisions(database.pool)).toEqual([]);
  });

  test("are not seen by another log, nor with another version of the state", async () => {
    await using database = await testDatabase();
    await postgresSnapshots(database.pool, "old").save(STREAM, codec, stateAt(8));
    const snapshots = postgresSnapshots(database.pool, "new");
    expect(await snapshots.load(STREAM, codec, 100)).toBeUndefined();
    await snapshots.save(STREAM, { ...codec, version: 2 }, stateAt(8));
    expect(await snapshots.load(STREAM, codec, 100)).toBeUndefined();
  });
});
