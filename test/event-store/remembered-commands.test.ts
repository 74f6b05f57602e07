// Commands that are sent again: answered from what they did, across restarts, snapshots and forgetting.
import { describe, expect, test } from "vitest";
import type { OlderCommands } from "../../src/event-store/decide-batch.ts";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { nothingFolded, REMEMBERED_COMMANDS } from "../../src/event-store/folded.ts";
import { type Commands, createCommands } from "../../src/event-store/handle-command.ts";
import { postgresSnapshots, type Snapshots } from "../../src/event-store/snapshots.ts";
import { contextOf, counter } from "../support/counter.ts";
import { faultyStore } from "../support/faulty-store.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import { testDatabase } from "../support/postgres.ts";

const STREAM = "counter-1";
const keyring = memoryKeyring();

const commandsOn = (store: EventStore, olderCommands?: OlderCommands, snapshots?: Snapshots): Commands =>
  createCommands({ store, keyring, snapshots, olderCommands, warn: () => undefined });
const add = (commands: Commands, key?: string, fingerprint?: string) =>
  commands.execute(counter, STREAM, { type: "Add", at: 1_000 }, contextOf(key, fingerprint));

describe("a command sent again under its id", () => {
  test("gives the first answer: its own events and the state just after them", async () => {
    const store = await openInMemoryLog();
    await add(commandsOn(store), "key-1");
    const restarted = commandsOn(store);
    await add(restarted);
    expect(await add(restarted, "key-1")).toMatchObject({
      replayed: true,
      state: { count: 1 },
      events: [{ revision: 0 }],
    });
  });

  test("with another body it is refused", async () => {
    const commands = commandsOn(await openInMemoryLog());
    await add(commands, "key-1", "one body");
    await expect(add(commands, "key-1", "another")).rejects.toMatchObject({ code: "idempotency_key_reused" });
  });

  test("one that changed nothing leaves its key free", async () => {
    const commands = commandsOn(await openInMemoryLog());
    const context = contextOf("key-1");
    await commands.execute(counter, STREAM, { type: "Add", at: 1, note: "nothing" }, context);
    expect(await add(commands, "key-1")).toMatchObject({ replayed: false, state: { count: 1 } });
  });

  test("the creation is remembered for ever, others until a thousand came after them; then a projection is asked", async () => {
    const store = await openInMemoryLog();
    const asked: string[] = [];
    const commands = commandsOn(store, async (commandId) => {
      asked.push(commandId);
      return commandId === "second" ? { first: 1, last: 1, fingerprint: "print" } : undefined;
    });
    await add(commands, "creation");
    await add(commands, "second");
    await Promise.all(Array.from({ length: REMEMBERED_COMMANDS }, (_, n) => add(commands, `key-${n}`)));
    asked.length = 0;
    expect(await add(commands, "creation")).toMatchObject({ replayed: true, state: { count: 1 } });
    expect(asked).toEqual([]);
    expect(await add(commands, "second")).toMatchObject({ replayed: true, state: { count: 2 } });
    expect(await add(commands, "new")).toMatchObject({ replayed: false });
    expect(asked).toEqual(["second", "new"]);
  });
});

describe("snapshots", () => {
  test("a long stream is loaded from its snapshot, with the commands that it remembers", async () => {
    await using database = await testDatabase();
    const store = faultyStore(await openInMemoryLog());
    const first = commandsOn(store, undefined, postgresSnapshots(database.pool, store.logId));
    await add(first, "key-1");
    for (let round = 0; round < 3; round += 1) await Promise.all(Array.from({ length: 500 }, () => add(first)));
    const saved = () => database.pool.query("select 1 from read.snapshots");
    await expect.poll(async () => (await saved()).rowCount).toBe(1);
    store.reads.length = 0;
    const second = commandsOn(store, undefined, postgresSnapshots(database.pool, store.logId));
    expect((await second.load(counter, STREAM)).state.count).toBe(1_501);
    expect(store.reads[0]?.read.from).toBeGreaterThan(999);
    expect(await add(second, "key-1")).toMatchObject({ replayed: true, state: { count: 1 } });
  });

  test("one that claims more than the log has is thrown away", async () => {
    await using database = await testDatabase();
    const store = await openInMemoryLog();
    const snapshots = postgresSnapshots(database.pool, store.logId);
    await add(commandsOn(store));
    const { position } = await commandsOn(store).load(counter, STREAM);
    const commands = commandsOn(store, undefined, snapshots);
    const codec = counter.snapshot;
    if (codec === undefined) throw new Error("the counter has a snapshot");
    const wrong = { ...nothingFolded({ count: 9, at: 0 }), revision: 8, position };
    await snapshots.save(STREAM, codec, wrong);
    expect((await add(commands)).state.count).toBe(2);
    expect((await database.pool.query("select 1 from read.snapshots")).rowCount).toBe(0);
  });

  test("one of another log is not seen", async () => {
    await using database = await testDatabase();
    const old = await openInMemoryLog();
    const codec = counter.snapshot;
    if (codec === undefined) throw new Error("the counter has a snapshot");
    const state = { ...nothingFolded({ count: 9, at: 0 }), revision: 8, position: await old.tail() };
    await postgresSnapshots(database.pool, old.logId).save(STREAM, codec, state);
    const store = await openInMemoryLog();
    const commands = commandsOn(store, undefined, postgresSnapshots(database.pool, store.logId));
    expect((await add(commands)).state.count).toBe(1);
  });
});
