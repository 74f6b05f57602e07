// The rules of handling commands, each with a test that fails without it.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type Appended, OutcomeUnknown } from "../../src/event-store/event-store.ts";
import { Commands, CommandTimedOut } from "../../src/event-store/handle-command.ts";
import { type CounterCommand, contextOf, counter, priorEventsSeen } from "../support/counter.ts";
import { type FaultyStore, faultyStore } from "../support/faulty-store.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";

const STREAM = "counter-1";
const keyring = memoryKeyring();

const commandsOn = (store: FaultyStore): Commands =>
  new Commands({
    store,
    keyring,
    snapshots: undefined,
    olderCommands: undefined,
    warn: () => undefined,
  });

async function setUp() {
  const store = faultyStore(await openInMemoryLog());
  return { store, commands: commandsOn(store) };
}

const add = (commands: Commands, command: Partial<CounterCommand> = {}, key?: string, fingerprint?: string) =>
  commands.execute(counter, STREAM, { type: "Add", at: 1_000, ...command }, contextOf(key, fingerprint));

const gate = () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { open: resolve, fate: async (append: () => Promise<Appended>) => promise.then(append) };
};
const lost = async (append: () => Promise<Appended>): Promise<Appended> => {
  await append();
  throw new OutcomeUnknown("the answer was lost");
};
const never = async (): Promise<Appended> => {
  throw new OutcomeUnknown("nothing was written, but nobody knows");
};
const names = async (store: FaultyStore) =>
  (await store.readStream(STREAM, { limit: 1_000 })).map(
    (event) => JSON.parse(Buffer.from(event.data).toString()).name,
  );
const settledWithin = async (promise: Promise<unknown>, ms: number) => {
  const quiet = promise.then(
    () => "settled",
    () => "settled",
  );
  return Promise.race([quiet, new Promise((resolve) => setTimeout(() => resolve("open"), ms))]);
};

describe("one queue per stream", () => {
  test("commands that wait are appended together, with the exact revision, in order", async () => {
    const { store, commands } = await setUp();
    const { open, fate } = gate();
    store.fates = [fate];
    const first = add(commands);
    await expect.poll(() => store.appends.length).toBe(1);
    const rest = Array.from({ length: 50 }, () => add(commands));
    open();
    const outcomes = await Promise.all([first, ...rest]);
    expect(store.appends.map(({ expected, events }) => [expected, events.length])).toEqual([
      [-1, 1],
      [0, 50],
    ]);
    expect(outcomes.map((outcome) => outcome.events[0]?.revision)).toEqual(Array.from({ length: 51 }, (_, n) => n));
    expect(outcomes.at(-1)?.state.count).toBe(51);
  });

  test("a batch is cut by bytes, never inside one command", async () => {
    const { store, commands } = await setUp();
    const note = "x".repeat(400_000);
    await add(commands);
    await Promise.all(Array.from({ length: 5 }, () => add(commands, { note })));
    expect(store.appends.slice(1).map(({ events }) => events.length)).toEqual([2, 2, 1]);
  });

  test("a command over the limit is refused alone", async () => {
    const { store, commands } = await setUp();
    const big = add(commands, { note: "x".repeat(1_000_001) });
    const small = add(commands);
    await expect(big).rejects.toThrow(/bytes is over the limit/);
    expect((await small).state.count).toBe(1);
    expect(await names(store)).toEqual(["1"]);
  });

  test("time never runs backwards within a stream", async () => {
    const { commands } = await setUp();
    await add(commands, { at: 5_000 });
    expect((await add(commands, { at: 4_000 })).events[0]?.at).toBe(5_000);
  });
});

describe("no answer leaves before the state it rests on is in the log", () => {
  test("a refusal that rests on an append under way waits for it", async () => {
    const { store, commands } = await setUp();
    await add(commands);
    const { open, fate } = gate();
    store.fates = [fate];
    const added = add(commands, { limit: 2 });
    const refused = add(commands, { limit: 2 });
    expect(await settledWithin(refused, 50)).toBe("open");
    open();
    await added;
    await expect(refused).rejects.toMatchObject({ code: "last_key" });
  });

  test("a replay waits for the append of the first command", async () => {
    const { store, commands } = await setUp();
    const { open, fate } = gate();
    store.fates = [fate];
    const first = add(commands, {}, "key-1");
    const second = add(commands, {}, "key-1");
    expect(await settledWithin(second, 50)).toBe("open");
    open();
    expect((await first).replayed).toBe(false);
    expect(await second).toMatchObject({ replayed: true, state: { count: 1 } });
    expect(await names(store)).toEqual(["1"]);
  });

  test("a stale state in a second process refuses nothing that the log allows, and allows nothing that it forbids", async () => {
    const { store, commands } = await setUp();
    const other = commandsOn(store);
    await add(other);
    await add(commands);
    // The other's cache still says 1. What it would refuse or allow by that must be decided on the log's 2.
    await expect(add(other, { limit: 2 })).rejects.toMatchObject({ code: "last_key" });
    await add(commands);
    expect((await add(other, { note: "nothing" })).state.count).toBe(3);
    expect((await other.load(counter, STREAM)).state.count).toBe(3);
  });

  test("a stale state never answers that nothing is to be done", async () => {
    const { store, commands } = await setUp();
    const other = commandsOn(store);
    await add(other);
    await add(commands);
    expect((await add(other, { note: "nothing" })).state.count).toBe(2);
  });
});

describe("a command on a stream that the caller believes to be new", () => {
  const anew = (commands: Commands, command: Partial<CounterCommand> = {}, key?: string, fingerprint?: string) =>
    commands.execute(counter, STREAM, { type: "Add", at: 1_000, ...command }, contextOf(key, fingerprint), {
      newStream: true,
    });

  async function counted() {
    const log = await openInMemoryLog();
    const reads: string[] = [];
    const readStream: typeof log.readStream = (stream, read) => {
      reads.push(stream);
      return log.readStream(stream, read);
    };
    const store = faultyStore({ ...log, readStream });
    return { store, commands: commandsOn(store), reads };
  }

  test("is written without being read", async () => {
    const { store, commands, reads } = await counted();
    expect(await anew(commands)).toMatchObject({ state: { count: 1 }, replayed: false });
    expect(reads).toEqual([]);
    expect(await names(store)).toEqual(["1"]);
  });

  test("is decided again when the stream has events after all", async () => {
    const { store, commands } = await counted();
    for (let n = 0; n < 3; n += 1) await add(commandsOn(store));
    expect((await anew(commands)).state.count).toBe(4);
    expect(await names(store)).toEqual(["1", "2", "3", "4"]);
    await expect(anew(commandsOn(store), { limit: 4 })).rejects.toMatchObject({ code: "last_key" });
    expect((await anew(commandsOn(store), { note: "nothing" })).state.count).toBe(4);
  });

  test("is answered from its first time when it made the stream before", async () => {
    const { store, commands } = await counted();
    await anew(commands, {}, "key", "print");
    await add(commands);
    const again = await anew(commandsOn(store), {}, "key", "print");
    expect(again).toMatchObject({ replayed: true, state: { count: 1 } });
    expect(await names(store)).toEqual(["1", "2"]);
  });
});

describe("the state known without reading the log", () => {
  test("is undefined at first, then the newest that passed through this process, whatever others wrote", async () => {
    const { store, commands } = await setUp();
    expect(commands.known(counter, STREAM)).toBeUndefined();
    await add(commands);
    expect(commands.known(counter, STREAM)).toMatchObject({ count: 1 });
    await add(commandsOn(store));
    expect(commands.known(counter, STREAM)).toMatchObject({ count: 1 });
    await commands.load(counter, STREAM);
    expect(commands.known(counter, STREAM)).toMatchObject({ count: 2 });
  });
});

describe("conflicts", () => {
  test("decide the complete batch again on the new state", async () => {
    const { store, commands } = await setUp();
    const other = commandsOn(store);
    await add(commands);
    const { open, fate } = gate();
    store.fates = [fate];
    const batch = [add(commands, { limit: 3 }), add(commands, { limit: 3 }), add(commands, { limit: 3 })];
    const results = Promise.allSettled(batch);
    await expect.poll(() => store.appends.length).toBe(2);
    await add(other);
    open();
    expect((await results).map((result) => result.status)).toEqual(["fulfilled", "rejected", "rejected"]);
    expect(await names(store)).toEqual(["1", "2", "3"]);
  });

  test("halve the batch; each success lets it grow by four", async () => {
    const { store, commands } = await setUp();
    const other = commandsOn(store);
    await add(commands);
    const beaten = async (append: () => Promise<Appended>) => {
      await add(other);
      return append();
    };
    const passed = (append: () => Promise<Appended>) => append();
    const { open, fate } = gate();
    // Each beaten append is followed by that of the other writer, which passes.
    store.fates = [fate, beaten, passed, beaten, passed];
    const first = add(commands);
    await expect.poll(() => store.appends.length).toBe(2);
    const rest = Array.from({ length: 40 }, () => add(commands));
    open();
    await Promise.all([first, ...rest]);
    const sizes = store.appends.slice(2).map(({ events }) => events.length);
    expect(sizes).toEqual([40, 1, 20, 1, 10, 14, 16]);
  });

  test("do not starve the writer with the larger batch", async () => {
    const { store, commands } = await setUp();
    const perCommandMs = 1;
    // Deciding and sending a larger batch takes longer, and the other one writes meanwhile.
    const slow = faultyStore({
      ...store,
      append: async (stream, expected, events) => {
        await sleep(perCommandMs * events.length);
        return store.append(stream, expected, events);
      },
    });
    const other = commandsOn(slow);
    const deadline = performance.now() + 1_000;
    const write = async (side: Commands) => {
      let done = 0;
      while (performance.now() < deadline) {
        await add(side);
        if (performance.now() < deadline) done += 1;
        if (side === commands) await sleep(perCommandMs);
      }
      return done;
    };
    const [small, ...large] = await Promise.all([write(commands), ...Array.from({ length: 50 }, () => write(other))]);
    expect(small).toBeGreaterThan(10);
    expect(large.reduce((sum, done) => sum + done, 0)).toBeGreaterThan(10);
  });

  test("leave every event of two writers once, in order", async () => {
    const { store, commands } = await setUp();
    const other = commandsOn(store);
    const many = (side: Commands, count: number) => Promise.all(Array.from({ length: count }, () => add(side)));
    await Promise.all([many(commands, 100), many(other, 2), many(commands, 100), many(other, 2)]);
    expect(await names(store)).toEqual(Array.from({ length: 204 }, (_, n) => `${n + 1}`));
  });
});

describe("an append whose outcome is unknown", () => {
  test("is sent again with the same bytes and revision, and written once", async () => {
    const { store, commands } = await setUp();
    store.fates = [lost, never];
    const outcome = await add(commands);
    expect(outcome.state.count).toBe(1);
    expect(store.appends).toHaveLength(3);
    expect(new Set(store.appends.map(({ expected, events }) => `${expected} ${events[0]?.id}`)).size).toBe(1);
    expect(await names(store)).toEqual(["1"]);
  });

  test("is answered when it was written after all, with another writer's events behind it", async () => {
    const { store, commands } = await setUp();
    const other = commandsOn(store);
    await add(commands);
    const { open, fate } = gate();
    store.fates = [lost, fate];
    const outcome = add(commands);
    await expect.poll(() => store.appends.length).toBe(3);
    await add(other);
    open();
    expect((await outcome).events[0]?.revision).toBe(1);
    expect(await names(store)).toEqual(["1", "2", "3"]);
  });

  test("times out for its caller and is still carried out", async () => {
    const { store, commands } = await setUp();
    const { open, fate } = gate();
    store.fates = [fate];
    const context = contextOf("key-1");
    const command: CounterCommand = { type: "Add", at: 1_000 };
    await expect(commands.execute(counter, STREAM, command, context, { timeoutMs: 30 })).rejects.toThrow(
      CommandTimedOut,
    );
    open();
    const again = await commands.execute(counter, STREAM, command, context);
    expect(again).toMatchObject({ replayed: true, state: { count: 1 } });
  });
});

describe("prior events", () => {
  test("come from the log, or from the same batch", async () => {
    const { store, commands } = await setUp();
    await add(commands);
    priorEventsSeen.length = 0;
    const { open, fate } = gate();
    store.fates = [fate];
    const running = add(commands);
    await expect.poll(() => store.appends.length).toBe(2);
    const waiting = [add(commands, { needs: 1 }), add(commands), add(commands, { needs: 4 })];
    open();
    await Promise.all([running, ...waiting]);
    expect(priorEventsSeen).toEqual(["1", "4"]);
  });
});
