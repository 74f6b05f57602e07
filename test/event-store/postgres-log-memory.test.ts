// The Postgres log's own memory: the events it wrote last, and the appends that wait.

import { describe, expect, test } from "vitest";
import { NO_STREAM, positionOf, type RecordedEvent } from "../../src/event-store/event-store.ts";
import {
  AppendQueue,
  MAX_FLUSH_APPENDS,
  MAX_FLUSH_BYTES,
  MAX_WAITING_BYTES,
  type WaitingAppend,
} from "../../src/event-store/postgres/append-queue.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { RecentEvents } from "../../src/event-store/postgres/recent.ts";
import { collect, eventually, newEvent, newEvents } from "../contracts/subject.ts";
import { testDatabase } from "../support/postgres.ts";
import fc from "../support/seed.ts";

const recorded = (number: number): RecordedEvent => ({
  ...newEvent(),
  stream: "s",
  revision: number,
  position: positionOf("log", number),
  recordedAt: 0,
});

describe("the events written last", () => {
  test("are given only without gaps, whatever came in between, and in whatever order they were kept", () => {
    const log = fc.array(fc.record({ size: fc.integer({ min: 1, max: 5 }), ours: fc.boolean(), late: fc.boolean() }));
    fc.assert(
      fc.property(log, fc.nat({ max: 30 }), fc.integer({ min: 1, max: 20 }), (segments, after, limit) => {
        const recent = new RecentEvents();
        const ours = new Map<number, RecordedEvent>();
        let next = 1;
        const kept = segments.flatMap(({ size, ours: mine, late }) => {
          const first = next;
          next += size;
          return mine ? [{ first, late, events: Array.from({ length: size }, (_, at) => recorded(first + at)) }] : [];
        });
        for (const { first, events } of [...kept.filter(({ late }) => !late), ...kept.filter(({ late }) => late)]) {
          recent.add(first, events);
          for (const [at, event] of events.entries()) ours.set(first + at, event);
        }
        const expected: RecordedEvent[] = [];
        for (let number = after + 1; expected.length < limit; number += 1) {
          const event = ours.get(number);
          if (event === undefined) break;
          expected.push(event);
        }
        expect(recent.read(after, limit)).toEqual(expected);
      }),
    );
  });

  test("are forgotten from the oldest on when there are too many bytes", () => {
    const recent = new RecentEvents(10_000);
    for (let number = 1; number <= 100; number += 1) recent.add(number, [recorded(number)]);
    expect(recent.read(0, 1)).toEqual([]);
    expect(recent.read(99, 5)).toHaveLength(1);
    expect(recent.read(90, 100)).toHaveLength(10);
    recent.add(101, [{ ...recorded(101), data: Buffer.alloc(20_000) }]);
    expect(recent.read(100, 1)).toEqual([]);
    recent.add(102, [recorded(102)]);
    expect(recent.read(101, 1)).toHaveLength(1);
  });
});

test("subscriptions beside the writer are fed from its memory, however NOTIFY and the answers to flushes overtake each other", async () => {
  await using database = await testDatabase();
  await using store = await openPostgresLog({ url: database.url, flushPatienceMs: 10_000 });
  const after = await store.tail();
  await using one = collect(store, after);
  await using other = collect(store, after);
  const isLive = () => [one, other].map(({ subscription }) => subscription.status().state);
  await eventually(() => expect(isLive()).toEqual(["live", "live"]));
  const written = new Set<Uint8Array>();
  const lane = async (number: number) => {
    for (let at = 0; at < 20; at += 1) {
      const event = newEvent();
      written.add(event.data);
      await store.append(`lane-${number}`, at - 1, [event]);
    }
  };
  await Promise.all(Array.from({ length: 40 }, (_, number) => lane(number)));
  await eventually(() => expect([one.events.length, other.events.length]).toEqual([800, 800]));
  // What comes from the table is made anew for each reader; what comes from memory is the same object.
  expect(one.events.filter((event, at) => event !== other.events[at])).toEqual([]);
  // With the writer's own arrays, by which a keyring knows what it has just sealed.
  expect(one.events.filter((event) => !written.has(event.data))).toEqual([]);
});

describe("the appends that wait", () => {
  const waiting = (stream: string, expected: number, bytes = 1_000, events = 1): WaitingAppend => ({
    stream,
    expected,
    events: newEvents(events),
    bytes,
    settled: false,
    resolve: () => {},
    reject: () => {},
  });
  const push = (queue: AppendQueue, ...appends: WaitingAppend[]) => {
    for (const append of appends) queue.push(append);
    return appends;
  };

  test("go together when each of a stream expects what the one before leaves; the rest waits for the answer", () => {
    const queue = new AppendQueue();
    const [a, b, stale, c] = push(
      queue,
      waiting("s", NO_STREAM),
      waiting("s", 0, 1_000, 2),
      waiting("s", 0),
      waiting("s", 2),
    );
    const flush = queue.take();
    expect(flush?.appends).toEqual([a, b]);
    const [other] = push(queue, waiting("t", NO_STREAM));
    const beside = queue.take();
    expect(beside?.appends).toEqual([other]);
    const [late] = push(queue, waiting("t", 0));
    expect(queue.take()).toBeUndefined();
    if (flush) queue.done(flush);
    const next = queue.take();
    expect(next?.appends).toEqual([stale]);
    expect(queue.take()).toBeUndefined();
    if (next) queue.done(next);
    expect(queue.take()?.appends).toEqual([c]);
    if (beside) queue.done(beside);
    expect(queue.take()?.appends).toEqual([late]);
  });

  test("are cut by number and by bytes, and none is passed over", () => {
    const many = new AppendQueue();
    push(many, ...Array.from({ length: MAX_FLUSH_APPENDS * 3 }, (_, at) => waiting(`s${at}`, NO_STREAM)));
    expect(many.take()?.appends).toHaveLength(MAX_FLUSH_APPENDS);
    const large = new AppendQueue();
    const appends = push(large, ...Array.from({ length: 30 }, (_, at) => waiting(`s${at % 3}`, at, 1_000_000)));
    const taken: WaitingAppend[] = [];
    for (let flush = large.take(); flush !== undefined; flush = large.take()) {
      expect(flush.appends.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(MAX_FLUSH_BYTES + 1_000_000);
      taken.push(...flush.appends);
      large.done(flush);
    }
    expect(new Set(taken)).toEqual(new Set(appends));
    expect(large.isEmpty).toBe(true);
  });

  test("are shared between the two connections when there are many", () => {
    const queue = new AppendQueue();
    push(queue, ...Array.from({ length: 300 }, (_, at) => waiting(`s${at}`, NO_STREAM)));
    expect(queue.take()?.appends).toHaveLength(150);
    expect(queue.take()?.appends).toHaveLength(150);
    expect(queue.take()).toBeUndefined();
  });

  test("fill it up by bytes, and what is removed makes room", () => {
    const queue = new AppendQueue();
    const [first] = push(
      queue,
      ...Array.from({ length: MAX_WAITING_BYTES / 2 ** 20 }, (_, at) => waiting("s", at, 2 ** 20)),
    );
    expect(queue.hasRoom).toBe(false);
    if (first) queue.remove(first);
    expect(queue.hasRoom).toBe(true);
    expect(queue.take()?.appends).not.toContain(first);
  });
});
