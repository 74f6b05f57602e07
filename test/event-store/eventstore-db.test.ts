// The log on EventStoreDB beyond the contract: several systems on one server, exact bytes, silence, the log's end.

import { randomUUID } from "node:crypto";
import { EventStoreDBClient } from "@eventstore/db-client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NO_STREAM, parsePosition, positionOf } from "../../src/event-store/event-store.ts";
import { LiveFeed } from "../../src/event-store/eventstoredb/feed.ts";
import { type EventStoreDbOptions, openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { Reader } from "../../src/event-store/eventstoredb/reader.ts";
import { WrittenEvents } from "../../src/event-store/eventstoredb/records.ts";
import { Subscriptions } from "../../src/event-store/subscription.ts";
import { collect, content, eventually, ids, newEvent, newEvents, newStream } from "../contracts/subject.ts";
import { missingEventStore, type TestEventStore, testEventStore } from "../support/eventstored.ts";
import fc from "../support/seed.ts";

if (missingEventStore !== undefined) console.info(missingEventStore);

describe.skipIf(missingEventStore !== undefined)("the log on EventStoreDB", () => {
  let server: TestEventStore;
  beforeAll(async () => {
    server = await testEventStore();
  }, 180_000);
  afterAll(() => server[Symbol.asyncDispose]());
  const open = (options: Partial<EventStoreDbOptions> = {}) =>
    openEventStoreDb({ url: server.url, prefix: `${randomUUID()}-`, ...options });

  test("does not see the events of another prefix", async () => {
    await using ours = await open();
    await using theirs = await open();
    expect(ours.logId).not.toBe(theirs.logId);
    await using seen = collect(ours, await ours.tail());
    const stream = newStream();
    const [mine, other] = [newEvents(2), newEvents(3)];
    const { position } = await ours.append(stream, NO_STREAM, mine);
    await theirs.append(stream, NO_STREAM, other);
    const last = newEvents(1);
    expect(await ours.tail()).toBe(position);
    await ours.append(stream, 1, last);
    await eventually(() => expect(seen.events).toHaveLength(3));
    expect(ids(seen.events)).toEqual(ids([...mine, ...last]));
    expect(ids(await ours.readStream(stream, { limit: 10 }))).toEqual(ids([...mine, ...last]));
    expect(ids(await theirs.readStream(stream, { limit: 10 }))).toEqual(ids(other));
    const all = await ours.readAll({ after: "start", limit: 100 });
    expect(all.map((event) => event.stream)).toEqual(["log", stream, stream, stream]);
  });

  test("takes the events of a longer prefix for its own: none may be the beginning of another's", async () => {
    const prefix = randomUUID();
    await using short = await open({ prefix });
    await using long = await open({ prefix: `${prefix}-too-` });
    const { position } = await long.append("room", NO_STREAM, newEvents(1));
    const all = await short.readAll({ after: "start", limit: 10 });
    expect(all.map((event) => event.stream)).toEqual(["log", "-too-log", "-too-room"]);
    expect(parsePosition(await short.tail())?.value).toBe(parsePosition(position)?.value);
  });

  test("refuses a prefix that is none, or the server's own", async () => {
    for (const prefix of ["", "$chat", "a\0b", "half a pair \ud800", "x".repeat(101)]) {
      await expect(open({ prefix })).rejects.toBeInstanceOf(RangeError);
    }
  });

  test("finds the log's end behind many events of others, and goes through them", async () => {
    await using ours = await open();
    await using theirs = await open();
    const { position } = await ours.append(newStream(), NO_STREAM, newEvents(1));
    const foreign = async () => {
      for (let round = 0; round < 5; round += 1) await theirs.append(newStream(), NO_STREAM, newEvents(500));
    };
    await foreign();
    expect(await ours.tail()).toBe(position);
    await foreign();
    expect(await ours.tail()).toBe(position); // what was searched before is known
    expect(await ours.readAll({ after: position, limit: 10 })).toEqual([]);
    const next = newEvents(1);
    const appended = await ours.append(newStream(), NO_STREAM, next);
    await foreign();
    expect(await ours.tail()).toBe(appended.position);
    expect(ids(await ours.readAll({ after: position, limit: 10 }))).toEqual(ids(next));
    await using seen = collect(ours, position);
    await eventually(() => expect(seen.subscription.status().state).toBe("live"));
    expect(ids(seen.events)).toEqual(ids(next));
  });

  test("gives metadata back byte for byte, JSON or not, however it is read", async () => {
    await using store = await open();
    await using seen = collect(store, await store.tail());
    const json = fc.json({ noUnicodeString: false }).map((text) => Buffer.from(text));
    const spaced = fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value, null, 1)));
    const given = [
      '{"b":1,"a":2,"1":3}',
      '{"a":1,"a":2}',
      "1.0",
      "-0",
      "12345678901234567890123",
      '"\\u0041"',
      "\ufeff{}",
      " ",
    ];
    const bytes = fc.oneof(
      json,
      spaced,
      fc.uint8Array({ maxLength: 40 }),
      fc.constantFrom(...given.map((text) => Buffer.from(text))),
    );
    let count = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(bytes, bytes), { minLength: 1, maxLength: 20 }), async (pairs) => {
        const stream = newStream();
        const events = pairs.map(([data, metadata]) => newEvent({ data, metadata }));
        await store.append(stream, NO_STREAM, events);
        count += events.length;
        expect(content(await store.readStream(stream, { limit: 100 }))).toEqual(content(events));
        await eventually(() => expect(seen.events).toHaveLength(count));
        expect(content(seen.events.slice(-events.length))).toEqual(content(events));
      }),
      {
        numRuns: 25,
        examples: [[given.map((text): [Uint8Array, Uint8Array] => [Buffer.from(text), Buffer.from(text)])]],
      },
    );
  });

  test("says where a stream stands also when the connection string asks the client not to", async () => {
    const separator = server.url.includes("?") ? "&" : "?";
    await using store = await open({ url: `${server.url}${separator}throwOnAppendFailure=false` });
    const stream = newStream();
    await store.append(stream, NO_STREAM, newEvents(4));
    await expect(store.append(stream, 1, newEvents(1))).rejects.toMatchObject({
      name: "WrongExpectedRevision",
      actual: 3,
    });
    await expect(store.append(newStream(), 1, newEvents(1))).rejects.toMatchObject({ actual: NO_STREAM });
  });

  test("notices a subscription that stands where the log is not, and leaves one alone that has nothing to say", async () => {
    await using store = await open({ watchdogMs: 200 });
    const { position } = await store.append(newStream(), NO_STREAM, newEvents(1));
    const place = parsePosition(position)?.value ?? 0n;
    const retrying = (lastError: string) => ({ state: "retrying", lastError: expect.stringContaining(lastError) });
    // The server confirms the one and is silent for ever after; it refuses the other.
    await using behind = collect(store, positionOf(store.logId, 2n ** 62n));
    await eventually(() =>
      expect(behind.subscription.status()).toMatchObject(retrying("before the subscription's position")),
    );
    await using between = collect(store, positionOf(store.logId, place - 1n));
    await eventually(() => expect(between.subscription.status()).toMatchObject(retrying("InvalidPosition")));
    await using well = collect(store, position);
    await eventually(() => expect(well.subscription.status().state).toBe("live"));
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(well.subscription.status()).toMatchObject({ state: "live", lastError: null });
  });

  test("notices a subscription that has fallen silent, and goes on behind what was handled", async () => {
    const prefix = `${randomUUID()}-`;
    await using store = await open({ prefix });
    const client = EventStoreDBClient.connectionString(server.url);
    const connection = { client, failed: () => {} };
    // The log's end, further on than anything that the server has for the subscription.
    let further = 0n;
    const tail = async () => positionOf(store.logId, (parsePosition(await store.tail())?.value ?? 0n) + further);
    const names = { prefix, logId: store.logId };
    const pages = new Reader(connection, names);
    const reader = { tail, page: pages.page.bind(pages) };
    const feed = new LiveFeed({ connection, names, reader, written: new WrittenEvents(), watchdogMs: 100 });
    const warnings: string[] = [];
    const logger = { warn: (fields: { err?: unknown }) => warnings.push(String(fields.err)) };
    await using subscriptions = new Subscriptions(feed, logger);
    const [events, sent]: [string[], string[]] = [[], []];
    const write = async () => {
      const written = newEvents(2);
      await store.append(newStream(), NO_STREAM, written);
      sent.push(...ids(written));
      await eventually(() => expect(events).toEqual(sent));
    };
    subscriptions.start({
      name: "silent",
      after: await store.tail(),
      handle: async (batch) => {
        events.push(...ids(batch.events));
      },
    });
    await write();
    expect(warnings).toEqual([]);
    further = 2n ** 40n;
    await eventually(() => expect(warnings).toContainEqual(expect.stringContaining("does not follow the log's end")));
    await write();
    await client.dispose();
  });

  test("is closed when it is closed: nothing is taken, nothing half read passes for the whole", async () => {
    const store = await open();
    const stream = newStream();
    await store.append(stream, NO_STREAM, newEvents(1_000));
    const appending = Array.from({ length: 50 }, () => store.append(newStream(), NO_STREAM, newEvents(1)));
    const reading = store.readStream(stream, { limit: 10_000 }).then(
      (events) => events.length,
      (error: Error) => error.name,
    );
    await store[Symbol.asyncDispose]();
    for (const appended of await Promise.all(appending)) expect(appended.revision).toBe(0); // sent to the end
    expect([1_000, "StoreUnavailable"]).toContain(await reading);
    await expect(store.append(stream, 999, newEvents(1))).rejects.toMatchObject({ name: "StoreUnavailable" });
    expect(() => collect(store, "start")).toThrow("closed");
  });
});
