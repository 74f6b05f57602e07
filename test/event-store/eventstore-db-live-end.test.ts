// The log's end on EventStoreDB, heard once for all read loops of a process: nothing lost, nothing twice, whoever is slow.

import { randomUUID } from "node:crypto";
import { EventStoreDBClient } from "@eventstore/db-client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type EventStore, NO_STREAM, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { LiveFeed } from "../../src/event-store/eventstoredb/feed.ts";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { Reader } from "../../src/event-store/eventstoredb/reader.ts";
import { WrittenEvents } from "../../src/event-store/eventstoredb/records.ts";
import { Subscriptions } from "../../src/event-store/subscription.ts";
import { collect, eventually, ids, newEvent, newEvents, newStream } from "../contracts/subject.ts";
import { missingEventStore, type TestEventStore, testEventStore } from "../support/eventstored.ts";

if (missingEventStore !== undefined) console.info(missingEventStore);

describe.skipIf(missingEventStore !== undefined)("the log's end on EventStoreDB", () => {
  let server: TestEventStore;
  beforeAll(async () => {
    server = await testEventStore();
  }, 180_000);
  afterAll(() => server[Symbol.asyncDispose]());

  /** A log, and read loops on an end of their own whose subscriptions can be counted. */
  async function scene() {
    const opening = new AsyncDisposableStack();
    const prefix = `${randomUUID()}-`;
    const store = opening.use(await openEventStoreDb({ url: server.url, prefix }));
    const client = opening.adopt(EventStoreDBClient.connectionString(server.url), (one) => one.dispose());
    const streams: ReturnType<EventStoreDBClient["subscribeToAll"]>[] = [];
    const subscribeToAll: EventStoreDBClient["subscribeToAll"] = (...args) => {
      const stream = EventStoreDBClient.prototype.subscribeToAll.apply(client, args);
      streams.push(stream);
      return stream;
    };
    const connection = { client: Object.assign(client, { subscribeToAll }), failed: () => {} };
    const names = { prefix, logId: store.logId };
    const reader = new Reader(connection, names);
    const live = new LiveFeed({ connection, names, reader, written: new WrittenEvents() });
    const follow = (after: Parameters<EventStore["subscribe"]>[0]["after"], handling = Promise.resolve()) => {
      const subscriptions = opening.use(new Subscriptions(live, undefined));
      const events: RecordedEvent[] = [];
      const handle = async (batch: { readonly events: readonly RecordedEvent[] }) => {
        events.push(...batch.events);
        await handling;
      };
      return { events, subscription: subscriptions.start({ name: "follower", after, handle }) };
    };
    const open = () => streams.filter((stream) => !stream.destroyed).length;
    return { store, live, follow, open, [Symbol.asyncDispose]: () => opening.disposeAsync() };
  }

  const write = async (store: EventStore, count: number) => {
    const events = newEvents(count);
    await store.append(newStream(), NO_STREAM, events);
    return events;
  };

  test("loops that have come there share one subscription, wherever they began", async () => {
    await using scened = await scene();
    const { store, follow, open } = scened;
    const early = await write(store, 20);
    const position = await store.tail();
    const late = await write(store, 20);
    const loops = [follow("start"), follow(position), follow(await store.tail())];
    for (const { subscription } of loops) await eventually(() => expect(subscription.status().state).toBe("live"));
    const now = await write(store, 3);
    const [log] = await store.readAll({ after: "start", limit: 1 });
    await eventually(() => {
      expect(loops.map(({ events }) => ids(events))).toEqual([
        [...ids(log === undefined ? [] : [log]), ...ids([...early, ...late, ...now])],
        ids([...late, ...now]),
        ids(now),
      ]);
    });
    expect(open()).toBe(1);
    const [first, second, third] = loops.map(({ events }) => events.at(-1));
    expect(second).toBe(first);
    expect(third).toBe(first);
  });

  test("when it is cut, each goes on behind what it has handled, and they come together again", async () => {
    await using scened = await scene();
    const { store, live, follow, open } = scened;
    const loops = [follow(await store.tail()), follow(await store.tail())];
    const sent: string[] = [];
    for (let round = 0; round < 3; round += 1) {
      sent.push(...ids(await write(store, 5)));
      await eventually(() => expect(loops.map(({ events }) => ids(events))).toEqual([sent, sent]));
      await eventually(() => expect(open()).toBe(1));
      live.fail(new Error("cut"));
      sent.push(...ids(await write(store, 5)));
      await eventually(() => expect(loops.map(({ events }) => ids(events))).toEqual([sent, sent]));
    }
    await eventually(() => expect(open()).toBe(1));
  });

  test("who is slower than what is kept reads the rest for itself", async () => {
    await using scened = await scene();
    const { store, follow } = scened;
    const after = await store.tail();
    const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
    const [slow, fast] = [follow(after, held), follow(after)];
    const sent = ids(await write(store, 1));
    await eventually(() => expect([slow, fast].map(({ events }) => ids(events))).toEqual([sent, sent]));
    for (let append = 0; append < 10; append += 1) sent.push(...ids(await write(store, 500)));
    await eventually(() => expect(ids(fast.events)).toEqual(sent));
    expect(slow.events).toHaveLength(1);
    letGo();
    await eventually(() => expect(ids(slow.events)).toEqual(sent));
  });

  test("a position beyond it is not served by it, and disturbs nobody who is", async () => {
    await using store = await openEventStoreDb({ url: server.url, prefix: `${randomUUID()}-`, watchdogMs: 200 });
    await using well = collect(store, await store.tail());
    const sent = ids(await write(store, 1));
    await eventually(() => expect(ids(well.events)).toEqual(sent));
    await using beyond = collect(store, `${store.logId}.4000000000000000`);
    await eventually(() =>
      expect(beyond.subscription.status().lastError).toContain("before the subscription's position"),
    );
    sent.push(...ids(await write(store, 2)));
    await eventually(() => expect(ids(well.events)).toEqual(sent));
    expect(well.subscription.status()).toMatchObject({ state: "live", lastError: null });
    expect(beyond.events).toEqual([]);
  });

  test("what this process wrote comes as the very arrays that it wrote", async () => {
    await using store = await openEventStoreDb({ url: server.url, prefix: `${randomUUID()}-` });
    await using seen = collect(store, await store.tail());
    await store.append(newStream(), NO_STREAM, newEvents(1));
    await eventually(() => expect(seen.subscription.status().state).toBe("live"));
    const [event] = newEvents(1);
    if (event === undefined) throw new Error("no event");
    await eventually(async () => {
      const given = { ...event, id: randomUUID() };
      await store.append(newStream(), NO_STREAM, [given]);
      await eventually(() => expect(seen.events.at(-1)?.id).toBe(given.id));
      expect(seen.events.at(-1)?.data).toBe(given.data);
      expect(seen.events.at(-1)?.metadata).toBe(given.metadata);
    });
  });
});

test("an event has the writer's arrays only when it has the same bytes", () => {
  const written = new WrittenEvents();
  const [data, metadata] = [Buffer.from("data"), Buffer.from("metadata")];
  const sent = newEvent({ data, metadata });
  written.add([sent]);
  const recorded = { ...sent, stream: "s", revision: 0, position: "log.1" as const, recordedAt: 0 };
  const read = { ...recorded, data: Buffer.from("data"), metadata: Buffer.from("metadata") };
  expect(written.sameBytes(read).data).toBe(data);
  expect(written.sameBytes(read).metadata).toBe(metadata);
  for (const other of [{ data: Buffer.from("other") }, { metadata: Buffer.from("other") }, { id: randomUUID() }]) {
    const different = { ...read, ...other };
    expect(written.sameBytes(different)).toBe(different);
  }
  written.add([{ ...sent, data: Buffer.from("sent again") }]);
  expect(written.sameBytes(read)).toBe(read);
});
