// Two writers on one stream: whoever loses every race is given turns, and whoever wins them is told.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Contention } from "../../src/event-store/contention.ts";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { createCommands } from "../../src/event-store/handle-command.ts";
import { openInMemoryLog } from "../../src/event-store/in-memory.ts";
import { localTurns, type StreamTurns } from "../../src/event-store/stream-turns.ts";
import { contextOf, counter } from "../support/counter.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";

const STREAM = "counter-1";
const fail = (error: unknown, message: string) => {
  throw new Error(message, { cause: error });
};

/** Turns that count how often they were asked about. */
function watched(turns: StreamTurns) {
  const looks: string[] = [];
  const taken = (stream: string) => {
    looks.push(stream);
    return turns.taken(stream);
  };
  return { looks, turns: { ...turns, taken } };
}

test("a stream that is written now and then is not looked at", async () => {
  const { looks, turns } = watched(localTurns());
  const contention = new Contention(turns, fail);
  expect(await contention.inTurns(STREAM)).toBe(false);
  await sleep(250);
  expect(await contention.inTurns(STREAM)).toBe(false);
  expect(looks).toEqual([]);
});

test("a busy one is, now and then, and is written in turns once somebody has taken one", async () => {
  const { looks, turns } = watched(localTurns());
  const contention = new Contention(turns, fail);
  for (let n = 0; n < 100; n += 1) expect(await contention.inTurns(STREAM)).toBe(false);
  expect(looks).toHaveLength(1);
  await using _turn = await turns.acquire(STREAM, { timeoutMs: 1_000 });
  await sleep(60);
  expect(await contention.inTurns(STREAM)).toBe(true);
  expect(await contention.inTurns("counter-2")).toBe(false);
});

test("after a lost race a stream is written in turns", async () => {
  const contention = new Contention(localTurns(), fail);
  contention.lost(STREAM);
  expect(await contention.inTurns(STREAM)).toBe(true);
});

test("that nobody can say is warned of, and stops nobody", async () => {
  const warnings: string[] = [];
  const taken = () => Promise.reject(new Error("away"));
  const contention = new Contention({ ...localTurns(), taken }, (_error, message) => warnings.push(message));
  await contention.inTurns(STREAM);
  expect(await contention.inTurns(STREAM)).toBe(false);
  expect(warnings).toHaveLength(1);
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
