// The projector on a real database: batches, the fence, resuming, faults.
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { positionOf } from "../../src/event-store/event-store.ts";
import { type Bus, postgresBus, processBus } from "../../src/platform/bus.ts";
import { foldBatch } from "../../src/projections/fold.ts";
import { ForeignCheckpoint, readGroup } from "../../src/projections/group.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { listMessages } from "../../src/projections/models/messages.ts";
import { rooms } from "../../src/projections/models/rooms.ts";
import { change, projection, put, text } from "../../src/projections/projection.ts";
import { createProjector } from "../../src/projections/projector.ts";
import { openReadSide } from "../../src/projections/read-side.ts";
import { buildMissing } from "../../src/projections/rebuild.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { until } from "../support/until.ts";
import { ANNA, BEN, CLIENT, joined, left, member, posted, ROOM, roomCreated, storedEvents } from "./log.ts";
import { roomById } from "./lookups.ts";
import { pausing, type Setting, setting } from "./setting.ts";

const STREAM = `room-${ROOM}`;
/** Who needs a timer where timers never end hangs. */
const STANDSTILL_MS = 30_000;

describe("the group", () => {
  let given: Setting;
  beforeAll(async () => {
    given = await setting();
  });
  afterAll(() => given[Symbol.asyncDispose]());

  test("folds many events of one row in a batch, and moves over events that nobody handles", async () => {
    const { write, store } = given;
    const readSide = await given.open();
    await write(STREAM, [roomCreated([member(ANNA)])]);
    const many = Array.from({ length: 700 }, (_, index) => posted(ANNA, index + 2, index + 1));
    await write(STREAM, many);
    await write(STREAM, [joined(BEN), left(BEN), joined(BEN)]);
    await write("claim-abc", [{ type: "Claimed", data: { room: ROOM } }]);
    await readSide.caughtUp();
    expect(readSide.checkpoint()).toBe(await store.tail());
    const read = readSide.readAs(CLIENT);
    expect(await roomById(read, ROOM)).toMatchObject({ seq: 704, ordinal: 700, member_count: 2, message_count: 700 });
    const page = await listMessages(read, ROOM, { order: "desc", includeDeleted: false, limit: 2 });
    expect(page.rows.map((row) => [row.seq, row.content])).toEqual([
      [701, "message 701"],
      [700, "message 700"],
    ]);
    expect(await readSide.status()).toMatchObject({ state: "live", lag: 0, lastError: null });
    await readSide[Symbol.asyncDispose]();
  });

  test("goes on where it was when it starts again", async () => {
    await given.write(STREAM, [posted(ANNA, 705, 701)]);
    const before = await readGroup(given.database.pool);
    const readSide = await given.open();
    await readSide.caughtUp();
    expect(await roomById(readSide.readAs(CLIENT), ROOM)).toMatchObject({ seq: 705, message_count: 701 });
    expect((await readGroup(given.database.pool))?.generation).toBe(before?.generation);
    expect(readSide.checkpoint() > (before?.checkpoint ?? "")).toBe(true);
    await readSide[Symbol.asyncDispose]();
  });

  test("a checkpoint of another log, or beyond the log's end, stops the start", async () => {
    await using other = await openInMemoryLog();
    const foreign = await openReadSide({ ...given.parts, store: other });
    await expect(foreign.start()).rejects.toThrow(ForeignCheckpoint);
    await using shorter = await openInMemoryLog({ logId: given.store.logId });
    const ahead = await openReadSide({ ...given.parts, store: shorter });
    await expect(ahead.start()).rejects.toThrow(/beyond the log's end/);
    await foreign[Symbol.asyncDispose]();
    await ahead[Symbol.asyncDispose]();
  });

  test("a waiter is told in time, by this process or by another one's work", async () => {
    const working = await given.open();
    const idle = await openReadSide(given.parts);
    const { position } = await given.write("claim-w", [{ type: "Claimed", data: { room: ROOM } }]);
    expect(await idle.waitFor(position, 5_000)).toBe(true);
    await until(() => working.checkpoint() === position); // committed, it may not have heard so yet
    expect(await working.waitFor(position, 0)).toBe(true);
    const next = positionOf(given.store.logId, 1_000_000);
    expect(await working.waitFor(next, 20)).toBe(false);
    expect(await working.compare(next)).toBe("beyond");
    expect(await working.compare(position)).toBe("reached");
    expect(await working.compare("nonsense")).toBe("foreign");
    expect(await working.compare(positionOf("another", 1))).toBe("foreign");
    await working[Symbol.asyncDispose]();
    const later = await given.write("claim-w", [{ type: "Claimed", data: { room: ROOM } }]);
    expect(await idle.compare(later.position)).toBe("ahead");
    await idle[Symbol.asyncDispose]();
  });
});

describe("a node that only follows", () => {
  const ROUNDS = 20;
  /** Timers never end while it is held: no pause, linger or poll, nor the time that a waiter gives. */
  const standstill = (): Disposable => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    return { [Symbol.dispose]: () => void vi.useRealTimers() };
  };

  /** Has some writes readable on the following node; `settled`: the read models have each before it is waited for. */
  async function waits(given: Setting, wakeUps: { working: Bus; following: Bus }, settled: boolean): Promise<void> {
    using _timers = standstill();
    const working = await openReadSide(given.parts, { wakeUps: wakeUps.working });
    await using _working = working;
    await working.start();
    await using following = await openReadSide(given.parts, { projector: false, wakeUps: wakeUps.following });
    for (let round = 0; round < ROUNDS; round += 1) {
      const { position } = await given.write("claim-f", [{ type: "Claimed", data: { room: ROOM } }]);
      if (settled) await working.waitFor(position, 5_000);
      expect(await following.waitFor(position, 5_000)).toBe(true);
    }
  }

  test("looks before it pauses", { timeout: STANDSTILL_MS }, async () => {
    await using given = await setting();
    await waits(given, { working: processBus(), following: processBus() }, true);
  });

  test("has a write that nobody else waits for without the projector's linger", {
    timeout: STANDSTILL_MS,
  }, async () => {
    await using given = await setting();
    const { url } = given.database;
    const parts = { url, logId: given.store.logId, logger: given.parts.logger };
    await using working = postgresBus(parts);
    await using following = postgresBus(parts);
    await until(() => working.status().connected && following.status().connected);
    await waits(given, { working, following }, false);
  });
});

describe("the fence", () => {
  const slow = projection({
    name: "slow",
    version: 1,
    key: ["room"],
    columns: { room: text(), client: text(), seen: text() },
    indexes: [],
    personal: [],
    on: {
      RoomCreated: (e) => [put([e.stream], { client: CLIENT, seen: "created" })],
      RoomDeactivated: (e) => [change([e.stream], (row) => ({ ...row, seen: `${row.seen},off` }))],
    },
  });

  test("of two projectors the one that is late writes nothing, and goes on from where the other is", async () => {
    await using given = await setting();
    const parts = { ...given.parts, projections: [slow] };
    const first = await openReadSide(parts);
    await first.start();
    await given.write(STREAM, [roomCreated()]);
    await first.caughtUp();

    // The second has folded a batch and falls asleep before it writes.
    const { promise: awake, resolve: wake } = Promise.withResolvers<void>();
    let asleep = false;
    const sleeping = pausing(given.parts.pool, async (query) => {
      if (!query.startsWith("with moved") || asleep) return;
      asleep = true;
      await awake;
    });
    await using late = createProjector({ ...parts, pool: sleeping });
    await late.start();
    await until(() => late.status().state === "live");
    await first[Symbol.asyncDispose]();
    await given.write(STREAM, [{ type: "RoomDeactivated", data: {} }]);
    await until(() => asleep);
    const again = await openReadSide(parts);
    await again.start();
    await given.write(STREAM, [{ type: "RoomDeactivated", data: {} }]);
    await again.caughtUp();
    const seen = async () => (await given.database.pool.query("select seen from read.slow_v1")).rows;
    expect(await seen()).toEqual([{ seen: "created,off,off" }]);

    await again[Symbol.asyncDispose]();
    wake();
    await given.write(STREAM, [{ type: "RoomDeactivated", data: {} }]);
    await until(async () => (await readGroup(given.database.pool))?.checkpoint === (await given.store.tail()));
    expect(await seen()).toEqual([{ seen: "created,off,off,off" }]);
    expect(late.status()).toMatchObject({ lastError: null });
  });

  test("a read side whose tables another version has taken over stops and says so", async () => {
    await using given = await setting();
    const old = await given.open();
    const projections = storedProjections.map((one) =>
      one.name === "rooms" ? { ...one, version: one.version + 1 } : one,
    );
    await buildMissing({ ...given.parts, projections });
    await given.write(STREAM, [roomCreated()]);
    await until(async () => (await old.status()).lastError?.includes(`rooms_v${rooms.version}`) === true);
    expect((await old.status()).state).toBe("superseded");
    const checkpoint = (await readGroup(given.database.pool))?.checkpoint;
    expect(checkpoint).not.toBe(await given.store.tail());
  });
});

test("others have their turn between handlers that take long", async () => {
  await using given = await setting();
  const slow = projection({
    name: "slow",
    version: 1,
    key: ["message"],
    columns: { message: text(), client: text() },
    indexes: [],
    personal: [],
    on: {
      MessagePosted: (e) => {
        const ends = performance.now() + 15;
        while (performance.now() < ends);
        return [put([e.data.id], { client: CLIENT })];
      },
    },
  });
  const stored = storedEvents();
  const events = [2, 3, 4, 5, 6].map((seq) => {
    const event = stored(STREAM, posted(ANNA, seq, seq - 1));
    return { facts: event, opened: event };
  });
  let turns = 0;
  const counting = setInterval(() => {
    turns += 1;
  }, 1);
  const [folded] = await foldBatch(given.parts.pool, [slow], events);
  clearInterval(counting);
  expect(folded?.put).toHaveLength(5);
  expect(turns).toBeGreaterThanOrEqual(3);
});

test("a handler that throws is tried again with the same batch, and shows", async () => {
  await using given = await setting();
  let faults = 2;
  const touchy = projection({
    name: "touchy",
    version: 1,
    key: ["room"],
    columns: { room: text(), client: text() },
    indexes: [],
    personal: [],
    on: {
      RoomCreated: (e) => {
        if (faults > 0) throw new Error(`fault ${faults--}`);
        return [put([e.stream], { client: CLIENT })];
      },
    },
  });
  await using readSide = await openReadSide({ ...given.parts, projections: [touchy] });
  await readSide.start();
  await given.write(STREAM, [roomCreated()]);
  await until(async () => (await readSide.status()).state === "retrying");
  expect((await readSide.status()).lastError).toMatch(/^fault/);
  await readSide.caughtUp();
  expect((await given.database.pool.query("select * from read.touchy_v1")).rowCount).toBe(1);
  await until(async () => (await readSide.status()).state === "live");
});

test("a batch whose answer was lost is not folded twice", async () => {
  await using given = await setting();
  let cut = true;
  const pool = pausing(
    given.parts.pool,
    async () => {},
    async (query) => {
      if (!query.startsWith("with moved") || !cut) return;
      cut = false;
      throw new Error("the connection was cut");
    },
  );
  await using readSide = await openReadSide({ ...given.parts, pool });
  await readSide.start();
  await given.write(STREAM, [roomCreated([member(ANNA)]), joined(BEN), posted(ANNA, 3, 1)]);
  await readSide.caughtUp();
  await until(async () => (await readSide.status()).state === "live");
  expect(cut).toBe(false);
  expect(await roomById(readSide.readAs(CLIENT), ROOM)).toMatchObject({ member_count: 2, message_count: 1 });
});
