// The log on EventStoreDB when its server is killed, stands still, or refuses.

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  AppendTooLarge,
  type EventStore,
  NO_STREAM,
  OutcomeUnknown,
  StoreUnavailable,
} from "../../src/event-store/event-store.ts";
import { type EventStoreDbOptions, openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { collect, eventually, ids, newEvent, newEvents, newStream } from "../contracts/subject.ts";
import { missingOwnEventStore, type OwnEventStore, ownEventStore } from "../support/eventstored.ts";
import { sized } from "../support/size.ts";
import { withoutRunnersListeners } from "./unheard-rejections.ts";

if (missingOwnEventStore !== undefined) console.info(missingOwnEventStore);

const settled = <T>(promise: Promise<T>) => promise.catch((error: unknown) => error);

describe.skipIf(missingOwnEventStore !== undefined)(
  "the log on an EventStoreDB in trouble",
  { timeout: 180_000 },
  () => {
    let server: OwnEventStore;
    let runners: Disposable;
    beforeAll(async () => {
      // Whatever the client rejects unheard is ours to hold; what is not held ends this process.
      runners = withoutRunnersListeners();
      server = await ownEventStore(["--insecure", "--max-append-size", "300000"]);
    }, 180_000);
    afterAll(async () => {
      await server[Symbol.asyncDispose]();
      runners[Symbol.dispose]();
    });
    const open = (options: Partial<EventStoreDbOptions> = {}) =>
      openEventStoreDb({ url: server.url, prefix: `${randomUUID()}-`, ...options });

    /** Sends the same until the outcome is known. */
    async function insist(store: EventStore, stream: string, events: ReturnType<typeof newEvents>) {
      for (;;) {
        const outcome = await settled(store.append(stream, NO_STREAM, events));
        if (!(outcome instanceof OutcomeUnknown)) return outcome;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }

    test("killed with appends in flight: unknown, and sent again each is there once; what was answered is there", async () => {
      await using store = await open();
      const appends = Array.from({ length: sized(1_200, 4_000) }, () => ({
        stream: newStream(),
        events: newEvents(1 + (Math.random() < 0.3 ? 2 : 0)),
      }));
      const answered = new Set<string>();
      const outcomes = appends.map(async ({ stream, events }) => {
        const outcome = await settled(store.append(stream, NO_STREAM, events));
        if (!(outcome instanceof Error)) answered.add(stream);
        return outcome;
      });
      await eventually(() => expect(answered.size).toBeGreaterThan(100));
      await server.kill();
      const restarted = server.restart();
      const unknown = (await Promise.all(outcomes)).filter((outcome) => outcome instanceof Error);
      expect(unknown.length).toBeGreaterThan(0);
      for (const outcome of unknown) expect(outcome).toBeInstanceOf(OutcomeUnknown);
      await restarted;
      const there = new Set(ids(await store.readAll({ after: "start", limit: 20_000 })));
      for (const { stream, events } of appends)
        if (answered.has(stream)) for (const { id } of events) expect(there).toContain(id);
      const again = await Promise.all(appends.map(({ stream, events }) => insist(store, stream, events)));
      for (const [index, outcome] of again.entries())
        expect(outcome).toMatchObject({ revision: (appends[index]?.events.length ?? 0) - 1 });
      const all = await store.readAll({ after: "start", limit: 10_000 });
      expect(ids(all.slice(1)).toSorted()).toEqual(appends.flatMap(({ events }) => ids(events)).toSorted());
    });

    test("killed and started again: subscriptions go on behind the last handled event, reads and the ping come back", async () => {
      await using store = await open({ appendTimeoutMs: 2_000 });
      await using seen = collect(store, await store.tail(), { maxBatch: 7 });
      const sent: string[] = [];
      const write = async (count: number) => {
        for (let index = 0; index < count; index += 1) {
          const events = newEvents(2);
          await insist(store, newStream(), events);
          sent.push(...ids(events));
        }
      };
      await write(10);
      for (let round = 0; round < 2; round += 1) {
        await server.kill();
        await expect(store.ping()).rejects.toBeInstanceOf(StoreUnavailable);
        await expect(store.readStream("any", { limit: 1 })).rejects.toBeInstanceOf(StoreUnavailable);
        await eventually(() => expect(seen.subscription.status()).toMatchObject({ state: "retrying" }));
        const writing = write(10);
        await server.restart();
        await writing;
        await write(10);
      }
      await eventually(() => expect(seen.events).toHaveLength(sent.length));
      expect(ids(seen.events)).toEqual(sent);
      await eventually(() => expect(seen.subscription.status()).toMatchObject({ state: "live", lastError: null }));
      await store.ping();
    });

    test("standing still: unknown when our time is up, in line too; then the same log goes on, each append once", async () => {
      await using store = await open({ appendTimeoutMs: 500 });
      await using seen = collect(store, await store.tail());
      const appends = Array.from({ length: sized(200, 600) }, () => ({ stream: newStream(), events: newEvents(1) }));
      {
        using _ = server.freeze();
        const outcomes = await Promise.all(
          appends.map(({ stream, events }) => settled(store.append(stream, NO_STREAM, events))),
        );
        for (const outcome of outcomes) expect(outcome).toBeInstanceOf(OutcomeUnknown);
      }
      for (const outcome of await Promise.all(appends.map(({ stream, events }) => insist(store, stream, events))))
        expect(outcome).toMatchObject({ revision: 0 });
      await eventually(() => expect(seen.events).toHaveLength(appends.length));
      expect(ids(seen.events).toSorted()).toEqual(appends.flatMap(({ events }) => ids(events)).toSorted());
    });

    test("an append over the server's own limit is too large, and touches no other", async () => {
      await using store = await open();
      const [stream, other] = [newStream(), newStream()];
      const large = newEvent({ data: Buffer.alloc(400_000, "x") });
      const [refused, written] = await Promise.all([
        settled(store.append(stream, NO_STREAM, [large])),
        store.append(other, NO_STREAM, newEvents(1)),
      ]);
      expect(refused).toBeInstanceOf(AppendTooLarge);
      expect(written).toMatchObject({ revision: 0 });
      expect(await store.readStream(stream, { limit: 1 })).toEqual([]);
    });

    test("a cluster that cannot be found for a while is found again", async () => {
      const warnings: string[] = [];
      const url = `esdb+discover://127.0.0.1:${server.port}?tls=false&maxDiscoverAttempts=1&gossipTimeout=1`;
      await using store = await open({ url, logger: { warn: (_, message) => warnings.push(message) } });
      const [stream, events] = [newStream(), newEvents(1)];
      await server.kill();
      for (let attempt = 0; attempt < 5; attempt += 1)
        expect(await settled(store.append(stream, NO_STREAM, events))).toBeInstanceOf(OutcomeUnknown);
      await server.restart();
      expect(await insist(store, stream, events)).toMatchObject({ revision: 0 });
      expect(warnings).toContainEqual(expect.stringContaining("connecting anew"));
    });
  },
);
