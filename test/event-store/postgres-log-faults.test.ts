// The Postgres log when connections die, answers get lost, or the server refuses.

import { afterAll, beforeAll, expect, test } from "vitest";
import { NO_STREAM, OutcomeUnknown, StoreUnavailable } from "../../src/event-store/event-store.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { collect, eventually, ids, newEvent, newEvents, newStream } from "../contracts/subject.ts";
import { proxyTo } from "../faults/support/proxy.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { flushesWaiting, holdFlushes, terminate } from "./postgres-sessions.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database[Symbol.asyncDispose]());

const settled = <T>(promise: Promise<T>) => promise.catch((error: unknown) => error);

test("a connection killed in the middle of a flush: unknown for its appends, the others go out by themselves", async () => {
  const { pool } = database;
  await using store = await openPostgresLog({ url: database.url });
  const [one, two, three] = [newStream(), newStream(), newStream()];
  const [first, second, third, fourth] = [newEvents(2), newEvents(1), newEvents(1), newEvents(1)];
  const held = await holdFlushes(pool);
  const sent = [store.append(one, NO_STREAM, first), store.append(two, NO_STREAM, second)].map(settled);
  await eventually(async () => expect(await flushesWaiting(pool)).toBe(1));
  const waiting = [
    store.append(three, NO_STREAM, third),
    store.append(one, 1, fourth).catch((error: unknown) => error),
  ];
  expect(await terminate(pool, "chatapi log writer")).toBe(1);
  for (const outcome of await Promise.all(sent)) {
    expect(outcome).toBeInstanceOf(OutcomeUnknown);
    expect(outcome).toMatchObject({ message: expect.stringContaining("the flush failed") }); // at once, not by time
  }
  await held[Symbol.asyncDispose]();
  expect(await waiting[0]).toMatchObject({ revision: 0 });
  // This one rested on an append that turned out not to be there: a known conflict.
  expect(await waiting[1]).toMatchObject({ name: "WrongExpectedRevision", actual: NO_STREAM });
  expect(await store.append(one, NO_STREAM, first)).toMatchObject({ revision: 1 });
  expect(await store.append(two, NO_STREAM, second)).toMatchObject({ revision: 0 });
  expect(ids(await store.readStream(one, { limit: 10 }))).toEqual(ids(first));
  expect(ids(await store.readStream(two, { limit: 10 }))).toEqual(ids(second));
});

test("an answer that gets lost: written, unknown, and sending again finds it", async () => {
  await using proxy = await proxyTo(database.url);
  await using store = await openPostgresLog({ url: proxy.url });
  await using direct = await openPostgresLog({ url: database.url });
  const stream = newStream();
  const events = newEvents(3);
  await store.append(newStream(), NO_STREAM, newEvents(1));
  proxy.stall("down");
  const outcome = settled(store.append(stream, NO_STREAM, events));
  await eventually(async () => expect(await direct.readStream(stream, { limit: 10 })).toHaveLength(3));
  proxy.cut();
  proxy.heal();
  expect(await outcome).toBeInstanceOf(OutcomeUnknown);
  const [last] = await direct.readStream(stream, { direction: "backward", limit: 1 });
  expect(await store.append(stream, NO_STREAM, events)).toEqual({ revision: 2, position: last?.position });
  expect(ids(await store.readStream(stream, { limit: 10 }))).toEqual(ids(events));
});

test("a server that does not answer: unknown when the time is up, also for what was never sent; then it goes on", async () => {
  const { pool } = database;
  await using store = await openPostgresLog({ url: database.url, appendTimeoutMs: 300 });
  const appends = Array.from({ length: 5 }, () => ({ stream: newStream(), events: newEvents(1) }));
  const held = await holdFlushes(pool);
  const outcomes = appends.map(({ stream, events }) => settled(store.append(stream, NO_STREAM, events)));
  for (const outcome of await Promise.all(outcomes)) expect(outcome).toBeInstanceOf(OutcomeUnknown);
  await held[Symbol.asyncDispose]();
  for (const { stream, events } of appends) {
    await eventually(async () => expect(await store.append(stream, NO_STREAM, events)).toMatchObject({ revision: 0 }));
    expect(ids(await store.readStream(stream, { limit: 10 }))).toEqual(ids(events));
  }
});

test("an append that the server cannot take does not take the others of its flush with it", async () => {
  await using poisoned = await testDatabase();
  await using store = await openPostgresLog({ url: poisoned.url });
  await poisoned.pool.query("ALTER TABLE log.events ADD CHECK (type <> 'Poison')");
  const appends = Array.from({ length: 50 }, (_, index) => {
    const stream = newStream();
    const poison = index === 7 || index === 31;
    return {
      stream,
      poison,
      appended: settled(store.append(stream, NO_STREAM, [newEvent(poison ? { type: "Poison" } : {})])),
    };
  });
  for (const { stream, poison, appended } of appends) {
    const outcome = await appended;
    if (poison) expect(outcome).toMatchObject({ message: expect.stringContaining("refused an append") });
    else expect(outcome).toMatchObject({ revision: 0 });
    expect(await store.readStream(stream, { limit: 10 })).toHaveLength(poison ? 0 : 1);
  }
});

test("subscriptions go on behind the last handled event when every session is killed, again and again", async () => {
  const { pool } = database;
  const warnings: string[] = [];
  await using store = await openPostgresLog({
    url: database.url,
    logger: { warn: (_, message) => warnings.push(message) },
  });
  await using other = await openPostgresLog({ url: database.url, appendTimeoutMs: 2_000 });
  await using seen = collect(store, await store.tail(), { maxBatch: 7 });
  const sent: string[] = [];
  for (let round = 0; round < 4; round += 1) {
    for (let index = 0; index < 10; index += 1) {
      const stream = newStream();
      const events = newEvents(2);
      // Written from elsewhere, so that the writer's memory does not help; its own sessions die as well.
      await eventually(async () =>
        expect(await other.append(stream, NO_STREAM, events)).toMatchObject({ revision: 1 }),
      );
      sent.push(...ids(events));
      if (index === 5) await terminate(pool, "chatapi log %");
    }
  }
  await eventually(() => expect(seen.events).toHaveLength(sent.length));
  expect(ids(seen.events)).toEqual(sent);
  expect(warnings).toContain("listening to the log failed; connecting again");
  await eventually(() => expect(seen.subscription.status()).toMatchObject({ state: "live", lastError: null }));
});

test("a server that is gone: reads and the ping say so, subscriptions show it, and all come back with it", async () => {
  await using proxy = await proxyTo(database.url);
  await using store = await openPostgresLog({ url: proxy.url, appendTimeoutMs: 5_000 });
  await using seen = collect(store, await store.tail());
  await eventually(() => expect(seen.subscription.status().state).toBe("live"));
  proxy.refuse();
  await expect(store.ping()).rejects.toBeInstanceOf(StoreUnavailable);
  await expect(store.tail()).rejects.toBeInstanceOf(StoreUnavailable);
  await expect(store.readStream("any", { limit: 1 })).rejects.toBeInstanceOf(StoreUnavailable);
  await eventually(() => {
    const { state, lastError } = seen.subscription.status();
    expect(state).toBe("retrying");
    expect(lastError).not.toBeNull();
  });
  const appended = store.append(newStream(), NO_STREAM, newEvents(1));
  proxy.heal();
  await expect(appended).resolves.toMatchObject({ revision: 0 });
  await eventually(() => expect(seen.events).toHaveLength(1));
  await eventually(() => expect(seen.subscription.status()).toMatchObject({ state: "live", lastError: null }));
  await eventually(() => store.ping());
});
