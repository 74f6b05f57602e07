// What the Postgres log promises beyond the port: how it opens and closes, its order in one process, its bounds.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type EventStore,
  NO_STREAM,
  OutcomeUnknown,
  StoreUnavailable,
  sizeOf,
} from "../../src/event-store/event-store.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { modelled } from "../contracts/modelled.ts";
import { collect, eventually, ids, newEvent, newEvents, newStream } from "../contracts/subject.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { flushesWaiting, holdFlushes } from "./postgres-sessions.ts";

/** The most bytes of appends that wait in a process, and of events in a page. */
const WAITING_BYTES = 64 * 1024 * 1024;
const PAGE_BYTES = 8 * 1024 * 1024;

let database: TestDatabase;
let store: EventStore;
beforeAll(async () => {
  database = await testDatabase();
  store = await openPostgresLog({ url: database.url });
});
afterAll(async () => {
  await store[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

describe("opening", () => {
  test("two processes and this one at once make one log", async () => {
    await using empty = await testDatabase();
    const argument = JSON.stringify({ kind: "postgres", url: empty.url });
    const writer = new URL("../contracts/writer.ts", import.meta.url);
    const children: ChildProcess[] = [1, 2].map(() => fork(writer, [argument], { execArgv: [], stdio: "inherit" }));
    try {
      const ready = children.map((child) => once(child, "message"));
      const opened = await Promise.all(Array.from({ length: 5 }, () => openPostgresLog({ url: empty.url })));
      for (const message of await Promise.all(ready)) expect(message[0]).toEqual({ ready: true });
      expect(new Set(opened.map(({ logId }) => logId)).size).toBe(1);
      const all = await opened[0]?.readAll({ after: "start", limit: 10 });
      expect(all?.map(({ type }) => type)).toEqual(["LogCreated"]);
      for (const log of opened) await log[Symbol.asyncDispose]();
    } finally {
      for (const child of children) child.kill();
    }
  });

  test("again, it is the same log with the same events", async () => {
    const stream = newStream();
    const events = newEvents(2);
    const appended = await store.append(stream, NO_STREAM, events);
    await using again = await openPostgresLog({ url: database.url });
    expect(again.logId).toBe(store.logId);
    expect(ids(await again.readStream(stream, { limit: 10 }))).toEqual(ids(events));
    expect(await again.append(stream, NO_STREAM, events)).toEqual(appended);
  });

  test("refuses a table that does not begin as a log, and a server that is not there", async () => {
    await using foreign = await testDatabase();
    await (await openPostgresLog({ url: foreign.url }))[Symbol.asyncDispose]();
    await foreign.pool.query("UPDATE log.events SET type = 'SomethingElse'");
    await expect(openPostgresLog({ url: foreign.url })).rejects.toThrow("begins with SomethingElse");
    await expect(openPostgresLog({ url: "postgresql://nobody@127.0.0.1:1/nothing" })).rejects.toThrow();
  });

  test("refuses a database that cannot hold every text", async () => {
    const name = `latin_${Math.random().toString(36).slice(2)}`;
    await database.pool.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'`);
    try {
      const url = new URL(database.url);
      url.pathname = `/${name}`;
      await expect(openPostgresLog({ url: url.href })).rejects.toThrow("UTF8");
    } finally {
      await database.pool.query(`DROP DATABASE ${name} WITH (FORCE)`);
    }
  });
});

describe("writing", () => {
  test("appends of one stream that are sent without waiting for each other all succeed, in order", async () => {
    const stream = newStream();
    const events = newEvents(3_000);
    const appended = await Promise.all(events.map((event, index) => store.append(stream, index - 1, [event])));
    expect(appended.map(({ revision }) => revision)).toEqual(events.map((_, index) => index));
    expect(ids(await store.readStream(stream, { limit: 5_000 }))).toEqual(ids(events));
  });

  describe("without waiting, in any sequence", () => modelled(() => store, { pipelined: true }));

  test("appends to several streams get positions in the order of their calls", async () => {
    const streams = [newStream(), newStream(), newStream()];
    const calls = Array.from({ length: 3_000 }, (_, index) => ({
      stream: streams[index % 3] ?? "",
      expected: Math.floor(index / 3) - 1,
    }));
    const appended = await Promise.all(
      calls.map(({ stream, expected }) => store.append(stream, expected, newEvents(1))),
    );
    const positions = appended.map(({ position }) => position);
    expect(positions).toEqual(positions.toSorted());
  });

  test("what waits together is one commit", async () => {
    const held = await holdFlushes(database.pool);
    // A flush is on its way with one append; the rest gathers behind it.
    const first = store.append(newStream(), NO_STREAM, newEvents(1));
    await eventually(async () => expect(await flushesWaiting(database.pool)).toBe(1));
    const alone = store.append(newStream(), NO_STREAM, newEvents(1));
    for (let tick = 0; tick < 3; tick += 1) await setImmediate(); // long enough to leave by itself
    const after = await store.tail();
    const rest = Array.from({ length: 100 }, () => store.append(newStream(), NO_STREAM, newEvents(1)));
    await held[Symbol.asyncDispose]();
    await Promise.all([first, alone, ...rest]);
    const { rows } = await database.pool.query<{ commits: number }>(
      "SELECT count(DISTINCT xmin::text)::int AS commits FROM log.events WHERE position > $1",
      [Number.parseInt(after.slice(-16), 16)],
    );
    expect(rows[0]?.commits).toBe(2);
  });

  test("more than may wait is rejected at once and can be sent again; what waits goes out", async () => {
    const held = await holdFlushes(database.pool);
    const data = Buffer.alloc(1_000_000, "x");
    const stream = newStream();
    const count = Math.ceil((WAITING_BYTES * 1.2) / data.length);
    const events = Array.from({ length: count }, () => newEvent({ data }));
    const append = (event: ReturnType<typeof newEvent>, at: number) => store.append(stream, at - 1, [event]);
    const outcomes = await Promise.all([Promise.allSettled(events.map(append)), held[Symbol.asyncDispose]()]);
    const refused = outcomes[0].findIndex(({ status }) => status === "rejected");
    expect(refused).toBeGreaterThan(60);
    for (const outcome of outcomes[0].slice(refused)) {
      expect(outcome).toMatchObject({ status: "rejected", reason: expect.any(OutcomeUnknown) });
    }
    const again = await Promise.all(events.slice(refused).map((event, at) => append(event, refused + at)));
    expect(again.at(-1)?.revision).toBe(count - 1);
  });

  test("closing sends what waits, and takes nothing more", async () => {
    const log = await openPostgresLog({ url: database.url });
    const stream = newStream();
    const events = newEvents(500);
    const appended = events.map((event, index) => log.append(stream, index - 1, [event]));
    await log[Symbol.asyncDispose]();
    expect((await Promise.all(appended)).at(-1)?.revision).toBe(499);
    await expect(log.append(stream, 499, newEvents(1))).rejects.toBeInstanceOf(StoreUnavailable);
    await expect(log.readAll({ after: "start", limit: 1 })).rejects.toBeInstanceOf(StoreUnavailable);
    expect(() => log.subscribe({ name: "late", after: "start", handle: async () => {} })).toThrow(StoreUnavailable);
    const names =
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'chatapi log%'";
    await store.ping();
    await eventually(async () => expect((await database.pool.query(names)).rowCount).toBeLessThanOrEqual(7));
  });
});

describe("subscribing", () => {
  test("reads large events in batches of bounded bytes, and misses none", async () => {
    await using other = await openPostgresLog({ url: database.url });
    const after = await store.tail();
    const events = Array.from({ length: 20 }, () => newEvent({ data: Buffer.alloc(1_000_000, "x") }));
    for (const event of events) await other.append(newStream(), NO_STREAM, [event]);
    await using seen = collect(store, after, { maxBatch: 100 });
    await eventually(() => expect(ids(seen.events)).toEqual(ids(events)));
    for (const batch of seen.batches) {
      const bytes = batch.events.reduce((sum, event) => sum + sizeOf(event), 0);
      expect(bytes).toBeLessThan(PAGE_BYTES + 2_000_000);
    }
  });

  test("hears of what others write without waiting for the poll, and of what nobody announced by it", async () => {
    await using seen = collect(store, await store.tail());
    await eventually(() => expect(seen.subscription.status().state).toBe("live"));
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      await client.query(
        `INSERT INTO log.events (position, stream, revision, id, type, data, metadata, recorded_at)
         SELECT max(position) + 1, $1, 0, gen_random_uuid(), 'Silent', '', '', now() FROM log.events`,
        [newStream()],
      );
    } finally {
      await client.end();
    }
    await eventually(() => expect(seen.events.map(({ type }) => type)).toEqual(["Silent"]));
  });
});
