// Commands that are sent again: answered from what they did, across restarts and beyond the idempotency window.
import { describe, expect, test } from "vitest";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { Commands } from "../../src/event-store/handle-command.ts";
import type { OlderCommands } from "../../src/event-store/stream-writer.ts";
import { contextOf, counter } from "../support/counter.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";

const STREAM = "counter-1";
const keyring = memoryKeyring();

const commandsOn = (store: EventStore, olderCommands?: OlderCommands): Commands =>
  new Commands({ store, keyring, snapshots: undefined, olderCommands, warn: () => undefined });
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

  test("is refused with another body", async () => {
    const commands = commandsOn(await openInMemoryLog());
    await add(commands, "key-1", "one body");
    await expect(add(commands, "key-1", "another")).rejects.toMatchObject({ code: "idempotency_key_reused" });
  });

  test("is decided again when it changed nothing the first time", async () => {
    const commands = commandsOn(await openInMemoryLog());
    const context = contextOf("key-1");
    await commands.execute(counter, STREAM, { type: "Add", at: 1, note: "nothing" }, context);
    expect(await add(commands, "key-1")).toMatchObject({ replayed: false, state: { count: 1 } });
  });

  test("is looked up in the read model once a thousand came after it, unless it created the stream", async () => {
    const store = await openInMemoryLog();
    const asked: string[] = [];
    const commands = commandsOn(store, async (commandId) => {
      asked.push(commandId);
      return commandId === "second" ? { first: 1, last: 1, fingerprint: "print" } : undefined;
    });
    await add(commands, "creation");
    await add(commands, "second");
    await Promise.all(Array.from({ length: 1_000 }, (_, n) => add(commands, `key-${n}`)));
    asked.length = 0;
    expect(await add(commands, "creation")).toMatchObject({ replayed: true, state: { count: 1 } });
    expect(asked).toEqual([]);
    expect(await add(commands, "second")).toMatchObject({ replayed: true, state: { count: 2 } });
    expect(await add(commands, "new")).toMatchObject({ replayed: false });
    expect(asked).toEqual(["second", "new"]);
  });
});
