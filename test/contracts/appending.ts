// The contract of append: expected revision, atomicity, sending again, exact bytes, limits.

import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import {
  AppendTooLarge,
  type EventStore,
  MAX_APPEND_BYTES,
  NO_STREAM,
  sizeOf,
  WrongExpectedRevision,
} from "../../src/event-store/event-store.ts";
import { content, ids, newEvent, newEvents, newStream } from "./subject.ts";

export function appending(store: () => EventStore): void {
  const all = (stream: string) => store().readStream(stream, { limit: 1_000 });

  test("answers with the revision and the position of the last event", async () => {
    const stream = newStream();
    const first = await store().append(stream, NO_STREAM, newEvents(2));
    const second = await store().append(stream, 1, newEvents(1));
    expect([first.revision, second.revision]).toEqual([1, 2]);
    const held = await all(stream);
    expect(held.map((event) => event.revision)).toEqual([0, 1, 2]);
    expect([held[1]?.position, held[2]?.position]).toEqual([first.position, second.position]);
    expect(second.position > first.position).toBe(true);
  });

  test.each([
    ["no stream, but it has events", NO_STREAM, 1],
    ["an earlier revision", 0, 1],
    ["a later revision", 2, 1],
  ])("refuses when it expects %s, and writes nothing", async (_, expected, actual) => {
    const stream = newStream();
    const held = newEvents(2);
    await store().append(stream, NO_STREAM, held);
    const refused = await store()
      .append(stream, expected, newEvents(2))
      .catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(WrongExpectedRevision);
    expect(refused).toMatchObject({ stream, expected, actual });
    expect(ids(await all(stream))).toEqual(ids(held));
  });

  test("refuses to expect events in a stream that does not exist", async () => {
    const stream = newStream();
    await expect(store().append(stream, 0, newEvents(1))).rejects.toMatchObject({
      name: "WrongExpectedRevision",
      expected: 0,
      actual: NO_STREAM,
    });
    expect(await all(stream)).toEqual([]);
  });

  test("of many at once with the same expected revision exactly one succeeds, whole", async () => {
    const stream = newStream();
    const attempts = Array.from({ length: 20 }, () => newEvents(3));
    const results = await Promise.allSettled(attempts.map((events) => store().append(stream, NO_STREAM, events)));
    const winners = attempts.filter((_, index) => results[index]?.status === "fulfilled");
    expect(winners).toHaveLength(1);
    expect(ids(await all(stream))).toEqual(winners.flatMap(ids));
    const losers = results.filter((result) => result.status === "rejected");
    for (const { reason } of losers) expect(reason).toMatchObject({ name: "WrongExpectedRevision", actual: 2 });
  });

  test("a refusal does not touch the other appends of the same moment", async () => {
    const [taken, free] = [newStream(), newStream()];
    await store().append(taken, NO_STREAM, newEvents(1));
    const [refused, written] = await Promise.allSettled([
      store().append(taken, NO_STREAM, newEvents(1)),
      store().append(free, NO_STREAM, newEvents(2)),
    ]);
    expect(refused?.status).toBe("rejected");
    expect(written).toMatchObject({ status: "fulfilled", value: { revision: 1 } });
    expect(await all(free)).toHaveLength(2);
  });

  test("sent again, it succeeds with the same answer and writes nothing", async () => {
    const stream = newStream();
    const events = newEvents(3);
    const first = await store().append(stream, NO_STREAM, events);
    expect(await store().append(stream, NO_STREAM, events)).toEqual(first);
    await store().append(stream, 2, newEvents(2));
    expect(await store().append(stream, NO_STREAM, events)).toEqual(first);
    expect(await all(stream)).toHaveLength(5);
  });

  test("sent again while the first is still on its way, both get the same answer", async () => {
    const stream = newStream();
    const events = newEvents(2);
    const [first, again] = await Promise.all([
      store().append(stream, NO_STREAM, events),
      store().append(stream, NO_STREAM, events),
    ]);
    expect(again).toEqual(first);
    expect(await all(stream)).toHaveLength(2);
  });

  test("sent again together with what came next, each gets its own answer", async () => {
    const stream = newStream();
    const [one, two] = [newEvents(1), newEvents(2)];
    const first = await store().append(stream, NO_STREAM, one);
    const [again, second] = await Promise.all([store().append(stream, NO_STREAM, one), store().append(stream, 0, two)]);
    expect(again).toEqual(first);
    expect(second.revision).toBe(2);
    expect(ids(await all(stream))).toEqual([one, two].flatMap(ids));
  });

  test("some of the ids, or the ids in another order, are not the same append", async () => {
    const stream = newStream();
    const [a, b, c] = [newEvent(), newEvent(), newEvent()];
    await store().append(stream, NO_STREAM, [a, b]);
    for (const events of [[a, c], [b, a], [b], [a, b, c]]) {
      await expect(store().append(stream, NO_STREAM, events)).rejects.toBeInstanceOf(WrongExpectedRevision);
    }
    expect(ids(await all(stream))).toEqual([a.id, b.id]);
  });

  test("gives the exact bytes back", async () => {
    const stream = newStream();
    const everyByte = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const events = [
      newEvent({ data: everyByte, metadata: everyByte.toReversed() }),
      newEvent({ data: Buffer.from('{"z":1.0,"a":1e2, "a":-0,"big":12345678901234567890123}') }),
      newEvent({ data: Buffer.from('{"nul":"\\u0000","half":"\\ud800","raw":"\u2028\ud83d\ude00 \u00e9 e\u0301"}') }),
      newEvent({ data: new Uint8Array(0), metadata: new Uint8Array(0), type: "Ærø'\"\\{},NULL\n" }),
      newEvent({ data: everyByte.subarray(10, 20) }),
      newEvent({ data: Buffer.from("\\x00 \\N") }),
    ];
    await store().append(stream, NO_STREAM, events);
    expect(content(await all(stream))).toEqual(content(events));
  });

  test("names of streams come back exactly, and differ when they look alike", async () => {
    const id = randomUUID();
    const names = [`A-${id}`, `a-${id}`, `a-${id} `, `\u00e9-${id}`, `e\u0301-${id}`, `'";{}\\-${id}`];
    for (const name of names) await store().append(name, NO_STREAM, newEvents(1));
    for (const name of names) expect((await all(name)).map((event) => event.stream)).toEqual([name]);
  });

  test("refuses an append without events, and names or ids that would not come back", async () => {
    const refused = (stream: string, expected: number, events = newEvents(1)) =>
      expect(store().append(stream, expected, events)).rejects.toBeInstanceOf(RangeError);
    const stream = newStream();
    await refused(stream, NO_STREAM, []);
    await refused(stream, -2);
    await refused(stream, 0.5);
    await refused("", NO_STREAM);
    await refused("a\0b", NO_STREAM);
    await refused("half a pair \ud800", NO_STREAM);
    await refused("x".repeat(1_001), NO_STREAM);
    await refused(stream, NO_STREAM, [newEvent({ type: "a\0b" })]);
    await refused(stream, NO_STREAM, [newEvent({ id: "not-a-uuid" })]);
    await refused(stream, NO_STREAM, [newEvent({ id: randomUUID().toUpperCase() })]);
    expect(await all(stream)).toEqual([]);
  });

  test("takes exactly the largest append, and refuses one byte more", async () => {
    const stream = newStream();
    const small = newEvent();
    const rest = newEvent({ data: new Uint8Array(0) });
    const largest = { ...rest, data: Buffer.alloc(MAX_APPEND_BYTES - sizeOf(small) - sizeOf(rest), "x") };
    const tooLarge = { ...rest, data: Buffer.alloc(largest.data.length + 1, "x") };
    await expect(store().append(stream, NO_STREAM, [small, tooLarge])).rejects.toBeInstanceOf(AppendTooLarge);
    expect(await all(stream)).toEqual([]);
    await store().append(stream, NO_STREAM, [small, largest]);
    expect(content(await all(stream))).toEqual(content([small, largest]));
  });
}
