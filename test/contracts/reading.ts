// The contract of reading: pages in both directions, streams that do not exist, the whole log in order.

import { expect, test } from "vitest";
import {
  type EventStore,
  NO_STREAM,
  type Position,
  parsePosition,
  positionOf,
} from "../../src/event-store/event-store.ts";
import { content, ids, newEvents, newStream } from "./subject.ts";

export function reading(store: () => EventStore): void {
  test("reads a stream forward and backward, in pages", async () => {
    const stream = newStream();
    await store().append(stream, NO_STREAM, newEvents(7));
    const revisions = async (read: Parameters<EventStore["readStream"]>[1]) =>
      (await store().readStream(stream, read)).map((event) => event.revision);
    expect(await revisions({ limit: 100 })).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(await revisions({ limit: 3 })).toEqual([0, 1, 2]);
    expect(await revisions({ from: 5, limit: 3 })).toEqual([5, 6]);
    expect(await revisions({ direction: "backward", limit: 3 })).toEqual([6, 5, 4]);
    expect(await revisions({ direction: "backward", from: 1, limit: 3 })).toEqual([1, 0]);
    expect(await revisions({ direction: "backward", from: 0, limit: 1 })).toEqual([0]);
    expect(await revisions({ limit: 0 })).toEqual([]);
  });

  test("reads a missing stream and what is past the end as empty", async () => {
    const stream = newStream();
    expect(await store().readStream(stream, { limit: 10 })).toEqual([]);
    expect(await store().readStream(stream, { direction: "backward", limit: 10 })).toEqual([]);
    expect(await store().readStream("never a name \0", { limit: 10 })).toEqual([]);
    await store().append(stream, NO_STREAM, newEvents(2));
    expect(await store().readStream(stream, { from: 2, limit: 10 })).toEqual([]);
    expect(await store().readStream(stream, { from: 2 ** 40, limit: 10 })).toEqual([]);
    expect(await store().readStream(stream, { direction: "backward", from: -1, limit: 10 })).toEqual([]);
    const past = await store().readStream(stream, { direction: "backward", from: 9, limit: 10 });
    expect(past.map((event) => event.revision)).toEqual([1, 0]);
  });

  test("answers each of many reads at once with its own events", async () => {
    const lengths = Array.from({ length: 250 }, (_, number) => number % 4);
    const written = await Promise.all(
      lengths.map(async (length) => {
        const stream = newStream();
        const events = newEvents(length);
        if (length > 0) await store().append(stream, NO_STREAM, events);
        return { stream, expected: ids(events) };
      }),
    );
    const both = written.flatMap((one) => [one, { ...one, from: 1 }].map((ask) => ({ from: 0, ...ask })));
    const found = await Promise.all(both.map(({ stream, from }) => store().readStream(stream, { from, limit: 2 })));
    both.forEach(({ expected, from }, index) => {
      expect(ids(found[index] ?? [])).toEqual(expected.slice(from, from + 2));
    });
  });

  test("gives each event with its stream, revision, position and time", async () => {
    const stream = newStream();
    const events = newEvents(1);
    const before = Date.now();
    const { position } = await store().append(stream, NO_STREAM, events);
    const [read] = await store().readStream(stream, { limit: 1 });
    expect(read).toMatchObject({ stream, revision: 0, position });
    expect(content(read ? [read] : [])).toEqual(content(events));
    // The store's clock may be another machine's; here it is this one's.
    expect(read?.recordedAt).toBeGreaterThan(before - 60_000);
    expect(read?.recordedAt).toBeLessThan(Date.now() + 60_000);
    expect(Number.isInteger(read?.recordedAt)).toBe(true);
  });

  test("begins with the event that names the log", async () => {
    const [first] = await store().readAll({ after: "start", limit: 1 });
    expect(first).toMatchObject({ stream: "log", revision: 0, type: "LogCreated" });
    expect(JSON.parse(Buffer.from(first?.data ?? []).toString())).toEqual({ log_id: store().logId });
    expect(JSON.parse(Buffer.from(first?.metadata ?? []).toString())).toMatchObject({
      v: 1,
      client: null,
      actor: { type: "system", id: "chatapi" },
      subjects: [],
    });
  });

  test("reads the whole log in position order, after a position, in pages that meet without a gap", async () => {
    const start = await store().tail();
    const [a, b] = [newStream(), newStream()];
    const events = newEvents(9);
    const [x, y, z] = [events.slice(0, 4), events.slice(4, 6), events.slice(6)];
    await store().append(a, NO_STREAM, x);
    await store().append(b, NO_STREAM, y);
    await store().append(a, 3, z);
    const read = [];
    let after: Position = start;
    for (;;) {
      const page = await store().readAll({ after, limit: 2 });
      const last = page.at(-1);
      if (last === undefined) break;
      read.push(...page);
      after = last.position;
    }
    expect(ids(read)).toEqual(ids(events));
    const positions = read.map((event) => event.position);
    expect(positions).toEqual(positions.toSorted());
    expect(new Set(positions).size).toBe(9);
    expect(after).toBe(await store().tail());
    expect(await store().readAll({ after: start, limit: 0 })).toEqual([]);
  });

  test("ends a page of the whole log once it has so many bytes, after one event at least", async () => {
    const after = await store().tail();
    const events = newEvents(6);
    await store().append(newStream(), NO_STREAM, events);
    expect(ids(await store().readAll({ after, limit: 10, maxBytes: 1 }))).toEqual(ids(events.slice(0, 1)));
    const [first, second] = events;
    const bytes = [first, second].reduce((sum, one) => sum + (one === undefined ? 0 : one.data.length), 0);
    const page = await store().readAll({ after, limit: 10, maxBytes: bytes });
    expect(page.length).toBeGreaterThan(0);
    expect(page.length).toBeLessThan(6);
    expect(ids(await store().readAll({ after, limit: 10, maxBytes: 1_000_000 }))).toEqual(ids(events));
  });

  test("positions are of this log, and those of another are refused", async () => {
    const tail = await store().tail();
    expect(parsePosition(tail)?.logId).toBe(store().logId);
    await expect(store().readAll({ after: positionOf("another", 1), limit: 1 })).rejects.toBeInstanceOf(RangeError);
    expect(() =>
      store().subscribe({ name: "stranger", after: positionOf("another", 1), handle: async () => {} }),
    ).toThrow(RangeError);
    expect(await store().readAll({ after: positionOf(store().logId, 2n ** 64n - 1n), limit: 1 })).toEqual([]);
  });

  test("refuses what is no number of events or no revision", async () => {
    for (const limit of [-1, 0.5, Number.NaN]) {
      await expect(store().readStream(newStream(), { limit })).rejects.toBeInstanceOf(RangeError);
      await expect(store().readAll({ after: "start", limit })).rejects.toBeInstanceOf(RangeError);
    }
    await expect(store().readStream(newStream(), { from: 0.5, limit: 1 })).rejects.toBeInstanceOf(RangeError);
  });

  test("answers a ping", async () => {
    await expect(store().ping()).resolves.toBeUndefined();
  });
}
