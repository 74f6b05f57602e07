// Two writers on one stream: whoever loses every race is given turns, and whoever wins them is told.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Contention } from "../../src/event-store/contention.ts";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { createCommands } from "../../src/event-store/handle-command.ts";
import { localTurns, type StreamTurns } from "../../src/event-store/stream-turns.ts";
import { contextOf, counter } from "../support/counter.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";

const STREAM = "counter-1";
const fail = (error: unknown, message: string) => {
  throw new Error(message, { cause: error });
};

/** Turns that say which streams they were asked about, each time. */
function watched(turns: StreamTurns) {
  const looks: string[][] = [];
  const taken = (streams: ReadonlySet<string>) => {
    looks.push([...streams]);
    return turns.taken(streams);
  };
  return { looks, turns: { ...turns, taken } };
}

test("a stream that is written now and then is not looked at", async () => {
  const { looks, turns } = watched(localTurns());
  const contention = new Contention(turns, fail);
  expect(contention.inTurns(STREAM)).toBe(false);
  await sleep(250);
  expect(contention.inTurns(STREAM)).toBe(false);
  await sleep(100);
  expect(looks).toEqual([]);
});

test("busy ones are, all with one question now and then, and one is written in turns once somebody has taken one", async () => {
  const { looks, turns } = watched(localTurns());
  const contention = new Contention(turns, fail);
  await using _turn = await turns.acquire(STREAM, { timeoutMs: 1_000 });
  for (let n = 0; n < 100; n += 1) {
    for (const stream of [STREAM, "counter-2"]) expect(contention.inTurns(stream)).toBe(false);
  }
  await expect.poll(() => looks).toEqual([[STREAM, "counter-2"]]);
  await expect.poll(() => contention.inTurns(STREAM)).toBe(true);
  expect(contention.inTurns("counter-2")).toBe(false);
});

test("it is looked again while a stream is busy", async () => {
  const { looks, turns } = watched(localTurns());
  const contention = new Contention(turns, fail);
  await expect
    .poll(() => {
      contention.inTurns(STREAM);
      return looks.length;
    })
    .toBeGreaterThan(2);
  await using _turn = await turns.acquire(STREAM, { timeoutMs: 1_000 });
  await expect.poll(() => contention.inTurns(STREAM)).toBe(true);
});

test("after a lost race a stream is written in turns", () => {
  const contention = new Contention(localTurns(), fail);
  contention.lost(STREAM);
  expect(contention.inTurns(STREAM)).toBe(true);
});

test("that nobody can say is warned of, and stops nobody", async () => {
  const warnings: string[] = [];
  const taken = () => Promise.reject(new Error("away"));
  const contention = new Contention({ ...localTurns(), taken }, (_error, message) => warnings.push(message));
  contention.inTurns(STREAM);
  expect(contention.inTurns(STREAM)).toBe(false);
  await expect.poll(() => warnings).toHaveLength(1);
  expect(contention.inTurns(STREAM)).toBe(false);
});

test("a slow writer beside a fast one gets its turns", async () => {
  const log = await openInMemoryLog();
  const turns = localTurns();
  const keyring = memoryKeyring();
  // What it has read is old by the time it appends.
  const readStream: EventStore["readStream"] = async (...args) => {
    const events = await log.readStream(...args);
    await sleep(5);
    return events;
  };
  const slow: EventStore = { ...log, readStream };
  const commandsOn = (store: EventStore) =>
    createCommands({ store, keyring, snapshots: undefined, turns, olderCommands: undefined, warn: fail });
  const [here, there] = [commandsOn(log), commandsOn(slow)];
  const add = (commands: typeof here) => commands.execute(counter, STREAM, { type: "Add", at: 1_000 }, contextOf());

  let going = true;
  let fast = 0;
  const racing = (async () => {
    while (going) {
      await Promise.all([add(here), add(here)]);
      fast += 2;
      // As a log on disk would: an append is not done before the event loop has turned.
      await sleep(1);
    }
  })();
  await expect.poll(() => fast).toBeGreaterThan(10);
  await Promise.all(Array.from({ length: 20 }, () => add(there)));
  const before = fast;
  await expect.poll(() => fast).toBeGreaterThan(before + 10);
  going = false;
  await racing;
  expect((await here.load(counter, STREAM)).state.count).toBe(fast + 20);
});
