// What the Postgres log keeps in memory: the events that this process wrote last.

import { describe, expect, test } from "vitest";
import { positionOf, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { RecentEvents } from "../../src/event-store/postgres/wake-ups.ts";
import { collect, eventually, newEvent } from "../contracts/subject.ts";
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
  test("are those after the last append of another process, and are read without gaps", () => {
    const flushes = fc.array(fc.record({ size: fc.integer({ min: 1, max: 5 }), isOwn: fc.boolean() }));
    fc.assert(
      fc.property(flushes, fc.nat({ max: 30 }), fc.integer({ min: 1, max: 20 }), (log, after, limit) => {
        const recent = new RecentEvents();
        let run: RecordedEvent[] = [];
        let number = 0;
        for (const { size, isOwn } of log) {
          const events = Array.from({ length: size }, (_, at) => recorded(number + at + 1));
          if (isOwn) {
            // Kept until the own flush behind the other process's.
            const last = run.at(-1)?.revision ?? number;
            run = last === number ? [...run, ...events] : events;
            recent.add(number + 1, events);
          }
          number += size;
        }
        const from = run.findIndex((event) => event.revision === after + 1);
        expect(recent.read(after, limit)).toEqual(from < 0 ? [] : run.slice(from, from + limit));
      }),
    );
  });

  test("are dropped from the oldest on when there are too many bytes", () => {
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

test("subscriptions beside the writer are fed from its memory", async () => {
  await using database = await testDatabase();
  await using store = await openPostgresLog({ url: database.url });
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
  // What comes from memory are the writer's own arrays, by which a keyring knows what it has just sealed. Only a poll between a
  // commit and its answer makes a subscription read a few events from the table.
  for (const { events } of [one, other]) {
    expect(events.filter((event) => written.has(event.data)).length).toBeGreaterThan(600);
  }
});
