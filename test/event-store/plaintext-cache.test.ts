// What a process has just written is read without a key: the same as from its bytes, and never after an erasure.
import { afterEach, describe, expect, test, vi } from "vitest";
import { catalogue } from "../../src/domain/catalogue.ts";
import type { EventDefinition } from "../../src/domain/event.ts";
import { decode, encode } from "../../src/event-store/envelope.ts";
import { type NewEvent, positionOf, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { PLAINTEXT_CACHE_MS } from "../../src/event-store/sealing.ts";
import { dataOf } from "../support/arbitraries-events.ts";
import { NOW } from "../support/given.ts";
import { type MemoryKeyring, memoryKeyring } from "../support/memory-keyring.ts";
import { context, recorded } from "../support/recorded.ts";
import fc from "../support/seed.ts";

const STREAM = "room-room_a";
const left = { subject: "sub_a", user: { open: "ada" }, reason: "left" };

/** As this process's own subscriptions get them: with the very arrays that were written. */
const handedOver = (event: NewEvent): RecordedEvent => ({
  ...event,
  ...{ stream: STREAM, revision: 0, position: positionOf("log1", 1), recordedAt: NOW },
});
async function write(keyring: MemoryKeyring, type: string, data: unknown): Promise<NewEvent> {
  const [one] = await encode(keyring, { stream: STREAM, events: [{ type, data }], context, at: NOW, firstRevision: 0 });
  if (one === undefined) throw new Error("nothing was encoded");
  return one;
}
/** Counts how many keys were asked for. */
function counting(keyring: MemoryKeyring) {
  let asked = 0;
  const keysById: MemoryKeyring["keysById"] = (ids) => {
    asked += ids.size;
    return keyring.keysById(ids);
  };
  return { keyring: { ...keyring, keysById }, asked: () => asked };
}

afterEach(() => {
  vi.useRealTimers();
});

const types: [string, EventDefinition][] = Object.entries(catalogue);
test.each(types)("an own event reads the same as from its bytes: %s", async (type, definition) => {
  const keyring = memoryKeyring();
  await fc.assert(
    fc.asyncProperty(dataOf(definition.data), async (data) => {
      const written = await write(keyring, type, data);
      const own = await decode(keyring, [handedOver(written)]);
      expect(own).toEqual(await decode(keyring, [recorded(written, STREAM)]));
      expect(JSON.stringify(own[0]?.data)).toBe(JSON.stringify(data));
    }),
    { numRuns: 30 },
  );
});

test("own events are read without a key, and all readers share them", async () => {
  const { keyring, asked } = counting(memoryKeyring());
  const written = handedOver(await write(keyring, "MemberLeft", left));
  const [one] = await decode(keyring, [written]);
  const [two] = await decode(keyring, [{ ...written }]);
  expect(one?.data).toBe(two?.data);
  expect(asked()).toBe(0);
  await decode(keyring, [recorded(written, STREAM)]);
  expect(asked()).toBe(1);
});

test("a batch of own events and others' keeps its order", async () => {
  const keyring = memoryKeyring();
  const names = ["ada", "bob", "cid", "dan"];
  const written = await Promise.all(
    names.map((name) => write(keyring, "MemberLeft", { ...left, user: { open: name } })),
  );
  const batch = written.map((event, index) => (index % 2 === 0 ? handedOver(event) : recorded(event, STREAM)));
  const read = await decode(keyring, batch);
  expect(read.map((event) => event.data)).toEqual(names.map((name) => ({ ...left, user: { open: name } })));
});

test("the cache does not change with the writer's own data", async () => {
  const keyring = memoryKeyring();
  const meta = { open: { colour: "red" } };
  const data = { subject: "sub_a", user: { open: "ada" }, role: "member", name: null, meta };
  const written = handedOver(await write(keyring, "MemberUpdated", data));
  const [before] = await decode(keyring, [written]);
  meta.open.colour = "blue";
  expect(before?.data).toMatchObject({ meta: { open: { colour: "red" } } });
});

describe("after a key is destroyed", () => {
  test("what it sealed reads as erased", async () => {
    const keyring = memoryKeyring();
    const written = handedOver(await write(keyring, "MemberLeft", left));
    await decode(keyring, [written]);
    keyring.destroy("sub_a");
    expect((await decode(keyring, [written]))[0]?.data).toMatchObject({ user: { erased: true } });
  });

  test("what was being sealed meanwhile reads as erased too", async () => {
    const keyring = memoryKeyring();
    const keysFor: MemoryKeyring["keysFor"] = async (client, refs) => {
      const keys = await keyring.keysFor(client, refs);
      keyring.destroy("sub_a");
      return keys;
    };
    const written = handedOver(await write({ ...keyring, keysFor }, "MemberLeft", left));
    expect((await decode(keyring, [written]))[0]?.data).toMatchObject({ user: { erased: true } });
  });
});

test("entries expire, so that an erasure by another process holds here soon", async () => {
  vi.useFakeTimers({ now: NOW });
  const { keyring, asked } = counting(memoryKeyring());
  const written = handedOver(await write(keyring, "MemberLeft", left));
  vi.advanceTimersByTime(PLAINTEXT_CACHE_MS);
  await decode(keyring, [written]);
  expect(asked()).toBe(0);
  vi.advanceTimersByTime(1);
  await decode(keyring, [written]);
  expect(asked()).toBe(1);
});
