// Appends in order: positions grow as they were given, on each store that offers it, and what is refused is told.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Append,
  AppendTooLarge,
  type EventStore,
  MAX_APPEND_BYTES,
  positionOf,
  WrongExpectedRevision,
} from "../../src/event-store/event-store.ts";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { OrderLost, pipelined } from "../../src/event-store/pipelined.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { content, ids, newEvent, newEvents, newStream } from "../contracts/subject.ts";
import { missingEventStore, testEventStore } from "../support/eventstored.ts";
import { testDatabase } from "../support/postgres.ts";

/** Appends that go to a few streams in turn, as busy rooms do. */
function interleaved(count: number): readonly Append[] {
  const streams = Array.from({ length: 7 }, newStream);
  const ends = new Map<string, number>();
  return Array.from({ length: count }, (_, n) => {
    const stream = streams[(n * n) % streams.length] ?? "";
    const expectedRevision = ends.get(stream) ?? -1;
    const events = newEvents((n % 3) + 1);
    ends.set(stream, expectedRevision + events.length);
    return { stream, expectedRevision, events };
  });
}

const append = (stream: string, expectedRevision: number, events = newEvents(1)): Append => ({
  stream,
  expectedRevision,
  events,
});

type Opened = { open: () => Promise<EventStore>; stack: AsyncDisposable };

function inOrder(start: () => Promise<Opened>): void {
  let store: EventStore;
  let open: Opened["open"];
  let stack: AsyncDisposable;
  beforeAll(async () => {
    ({ open, stack } = await start());
    store = await open();
  }, 60_000);
  afterAll(() => stack[Symbol.asyncDispose]());

  const write = (appends: readonly Append[]): Promise<void> => {
    if (store.appendInOrder === undefined) throw new Error("this store does not append in order");
    return store.appendInOrder(appends);
  };
  const all = (appends: readonly Append[]) => appends.flatMap((one) => one.events);
  const since = async (tail: Awaited<ReturnType<EventStore["tail"]>>) => store.readAll({ after: tail, limit: 10_000 });

  test("events of streams in turn have the order in which they were given, exactly as they were given", async () => {
    const appends = interleaved(700);
    const tail = await store.tail();
    await write(appends);
    const found = await since(tail);
    expect(content(found)).toEqual(content(all(appends)));
    const places = appends.flatMap(({ stream, expectedRevision, events }) =>
      events.map((_, nth) => ({ stream, revision: expectedRevision + 1 + nth })),
    );
    expect(found.map(({ stream, revision }) => ({ stream, revision }))).toEqual(places);
  });

  test("sent again they change nothing; sent with what is new, that alone is written", async () => {
    const appends = interleaved(40);
    await write(appends.slice(0, 25));
    const tail = await store.tail();
    await write(appends.slice(0, 25));
    expect(await store.tail()).toBe(tail);
    await write(appends);
    expect(ids(await since(tail))).toEqual(ids(all(appends.slice(25))));
  });

  test("a stream that is elsewhere is told", async () => {
    const stream = newStream();
    await store.append(stream, -1, newEvents(2));
    await expect(write([append(newStream(), -1), append(stream, -1)])).rejects.toThrow(WrongExpectedRevision);
    await expect(write([append(newStream(), -1), append(newStream(), 5)])).rejects.toThrow(WrongExpectedRevision);
    expect(await store.readStream(stream, { limit: 10 })).toHaveLength(2);
  });

  test("two of one stream that do not follow each other are told", async () => {
    const stream = newStream();
    await expect(write([append(stream, -1), append(newStream(), -1), append(stream, 3)])).rejects.toThrow(
      WrongExpectedRevision,
    );
    expect((await store.readStream(stream, { limit: 10 })).length).toBeLessThanOrEqual(1);
  });

  test("one that is too large is refused; many that together are large are not", async () => {
    const large = (bytes: number) => [newEvent({ data: Buffer.from(`"${"x".repeat(bytes)}"`) })];
    await expect(write([append(newStream(), -1, large(MAX_APPEND_BYTES))])).rejects.toThrow(AppendTooLarge);
    const appends = Array.from({ length: 12 }, () => append(newStream(), -1, large(MAX_APPEND_BYTES - 1_000)));
    const tail = await store.tail();
    await write(appends);
    expect(ids(await since(tail))).toEqual(ids(all(appends)));
  });

  test("beside other writers the order stays", async () => {
    const appends = interleaved(300);
    const others = Array.from({ length: 50 }, () => append(newStream(), -1));
    const tail = await store.tail();
    const writing = write(appends);
    await Promise.all(others.map((one) => store.append(one.stream, one.expectedRevision, one.events)));
    await writing;
    const mine = new Set(ids(all(appends)));
    const found = ids(await since(tail));
    expect(found.filter((id) => mine.has(id))).toEqual(ids(all(appends)));
    expect(found).toHaveLength(mine.size + others.length);
  });

  test("from the first append of a log that was just opened the order is kept", async () => {
    const appends = interleaved(50);
    const tail = await store.tail();
    const again = await open();
    await again.appendInOrder?.(appends);
    expect(ids(await since(tail))).toEqual(ids(all(appends)));
  });

  test("nothing to append is nothing to do", async () => {
    const tail = await store.tail();
    await write([]);
    expect(await store.tail()).toBe(tail);
  });
}

describe("on PostgreSQL", () => {
  inOrder(async () => {
    const stack = new AsyncDisposableStack();
    const database = stack.use(await testDatabase());
    return { open: async () => stack.use(await openPostgresLog({ url: database.url })), stack };
  });
});

if (missingEventStore !== undefined) console.info(missingEventStore);

describe.skipIf(missingEventStore !== undefined)("on EventStoreDB", () => {
  inOrder(async () => {
    const stack = new AsyncDisposableStack();
    const server = stack.use(await testEventStore());
    const prefix = `${randomUUID()}-`;
    return { open: async () => stack.use(await openEventStoreDb({ url: server.url, prefix })), stack };
  });
});

describe("pipelined", () => {
  test("a store that does not keep the order is found out", async () => {
    const positions = [3n, 5n, 4n];
    const write = pipelined(async () => ({ revision: 0, position: positionOf("log", positions.shift() ?? 0n) }));
    await expect(write(Array.from({ length: 3 }, () => append(newStream(), -1)))).rejects.toThrow(OrderLost);
  });

  test("the first goes alone: a client that has yet to connect would send it last", async () => {
    const sent: string[] = [];
    const first = Promise.withResolvers<void>();
    const write = pipelined(async (stream) => {
      sent.push(stream);
      if (stream === "a") await first.promise;
      return { revision: 0, position: positionOf("log", BigInt(sent.indexOf(stream) + 1)) };
    });
    const written = write([append("a", -1), append("b", -1), append("c", -1)]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toEqual(["a"]);
    first.resolve();
    await written;
    expect(sent).toEqual(["a", "b", "c"]);
  });

  test("nothing is on its way any more when it fails, and the first failure is the one that is told", async () => {
    let underWay = 0;
    const write = pipelined(async (_stream, expected) => {
      underWay += 1;
      await new Promise((resolve) => setTimeout(resolve, expected === 1 ? 5 : 30));
      underWay -= 1;
      if (expected > -1) throw new Error(`failed ${expected}`);
      return { revision: 0, position: positionOf("log", 1n) };
    });
    const appends = [append("a", -1), append("b", 2), append("c", 1)];
    await expect(write(appends)).rejects.toThrow("failed 2");
    expect(underWay).toBe(0);
  });
});
