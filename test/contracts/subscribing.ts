// The contract of subscriptions: everything once and in order, exact resumption, handlers that fail, disposal.

import { expect, test } from "vitest";
import { type EventStore, NO_STREAM, type Position } from "../../src/event-store/event-store.ts";
import { collect, comparable, content, eventually, ids, newEvents, newStream } from "./subject.ts";

export function subscribing(store: () => EventStore): void {
  const write = async (count: number) => {
    const events = newEvents(count);
    await store().append(newStream(), NO_STREAM, events);
    return events;
  };

  test("delivers past events and then new ones, in order", async () => {
    const after = await store().tail();
    const before = await write(5);
    await using seen = collect(store(), after);
    await eventually(() => expect(seen.events).toHaveLength(5));
    const later = [...(await write(1)), ...(await write(4))];
    await eventually(() => expect(seen.events).toHaveLength(10));
    expect(content(seen.events)).toEqual(content([...before, ...later]));
    const read = await store().readAll({ after, limit: 100 });
    expect(seen.events.map(comparable)).toEqual(read.map(comparable));
  });

  test("passes over blobs, and moves on behind them", async () => {
    const after = await store().tail();
    const blob = `blob-${newStream()}`;
    const [before, pieces, between] = [await write(2), newEvents(3), newEvents(1)];
    await store().append(blob, NO_STREAM, pieces.slice(0, 2));
    await store().append(newStream(), NO_STREAM, between);
    await using seen = collect(store(), after, { maxBatch: 1 });
    await eventually(() => expect(ids(seen.events)).toEqual(ids([...before, ...between])));
    // Live, too, and at the log's end.
    await store().append(blob, 1, pieces.slice(2));
    const tail = await store().tail();
    await eventually(() => expect(seen.subscription.status()).toMatchObject({ state: "live", handled: tail }));
    expect(ids(seen.events)).toEqual(ids([...before, ...between]));

    expect(content(await store().readStream(blob, { limit: 10 }))).toEqual(content(pieces));
    const all = await store().readAll({ after, limit: 100 });
    expect(ids(all)).toEqual(ids([...before, ...pieces.slice(0, 2), ...between, ...pieces.slice(2)]));
    const others = await store().readAll({ after, limit: 100, withoutBlobs: true });
    expect(ids(others)).toEqual(ids([...before, ...between]));
  });

  test("from the start it begins with the log's first event", async () => {
    await using seen = collect(store(), "start");
    await eventually(() => expect(seen.events[0]).toMatchObject({ type: "LogCreated", revision: 0 }));
  });

  test("delivers batches of at most the requested size, with the position of each", async () => {
    const after = await store().tail();
    await write(25);
    await using seen = collect(store(), after, { maxBatch: 10 });
    await eventually(() => expect(seen.events).toHaveLength(25));
    for (const batch of seen.batches) {
      expect(batch.events.length).toBeLessThanOrEqual(10);
      expect(batch.upTo).toBe(batch.events.at(-1)?.position);
    }
    await eventually(() => expect(seen.subscription.status().handled).toBe(seen.batches.at(-1)?.upTo));
    for (const maxBatch of [0, -1, 0.5]) expect(() => collect(store(), after, { maxBatch })).toThrow(RangeError);
  });

  test("resumes exactly behind any position, within a batch and within an append too", async () => {
    const after = await store().tail();
    const events = [...(await write(3)), ...(await write(2))];
    await using all = collect(store(), after);
    await eventually(() => expect(all.events).toHaveLength(5));
    for (const [index, event] of all.events.entries()) {
      if (index === events.length - 1) continue;
      await using rest = collect(store(), event.position);
      await eventually(() => expect(ids(rest.events)).toEqual(ids(events.slice(index + 1))));
    }
  });

  test("goes on where the last one stopped, while others write", async () => {
    const after = await store().tail();
    const expected: string[] = [];
    const handled: string[] = [];
    let from: Position = after;
    for (let round = 0; round < 5; round += 1) {
      const writing = Promise.all([write(7), write(3), write(5)]);
      const seen = collect(store(), from, { maxBatch: 4 });
      await eventually(() => expect(seen.events.length).toBeGreaterThan(3));
      await seen[Symbol.asyncDispose]();
      handled.push(...ids(seen.events));
      const { handled: upTo } = seen.subscription.status();
      if (upTo === "start") throw new Error("nothing was handled");
      from = upTo;
      await writing;
    }
    const all = await store().readAll({ after, limit: 1_000 });
    expected.push(...ids(all));
    const rest = await store().readAll({ after: from, limit: 1_000 });
    expect([...handled, ...ids(rest)]).toEqual(expected);
  });

  test("is live when it has caught up, and one batch is handled at a time", async () => {
    const after = await store().tail();
    let running = 0;
    let most = 0;
    await using seen = collect(store(), after, {
      maxBatch: 3,
      handle: async () => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, 2));
        running -= 1;
      },
    });
    await Promise.all(Array.from({ length: 20 }, () => write(2)));
    await eventually(() => expect(seen.events).toHaveLength(40));
    expect(most).toBe(1);
    await eventually(() =>
      expect(seen.subscription.status()).toEqual({
        name: "contract",
        state: "live",
        handled: seen.events.at(-1)?.position,
        lastError: null,
      }),
    );
  });

  test("gives a handler that threw the same events again, and says so meanwhile", async () => {
    const after = await store().tail();
    const given: string[][] = [];
    let failing = false;
    await using seen = collect(store(), after, {
      maxBatch: 2,
      handle: async ({ events }) => {
        given.push(ids(events));
        if (failing) throw new Error("not today");
      },
    });
    // One event an append: nobody promises that those of one append come in one batch.
    const first = await write(1);
    await eventually(() => expect(seen.events).toHaveLength(1));
    failing = true;
    const second = await write(1);
    await eventually(() => {
      expect(given.length).toBeGreaterThanOrEqual(3);
      expect(seen.subscription.status()).toMatchObject({
        state: "retrying",
        lastError: "not today",
        handled: seen.events[0]?.position,
      });
    });
    const third = await write(3);
    failing = false;
    await eventually(() => expect(seen.events).toHaveLength(5));
    expect(given[0]).toEqual(ids(first));
    const recovered = given.findIndex((batch) => batch[0] === third[0]?.id);
    for (const batch of given.slice(1, recovered)) expect(batch).toEqual(ids(second));
    expect(ids(seen.events)).toEqual(ids([...first, ...second, ...third]));
    await eventually(() => expect(seen.subscription.status()).toMatchObject({ state: "live", lastError: null }));
  });

  test("does not hold up other subscriptions when one fails", async () => {
    const after = await store().tail();
    const failing = collect(store(), after, { handle: () => Promise.reject(new Error("never")) });
    await using other = collect(store(), after);
    const events = await write(3);
    await eventually(() => expect(ids(other.events)).toEqual(ids(events)));
    await failing[Symbol.asyncDispose](); // also in the middle of a backoff
    expect(failing.subscription.status()).toMatchObject({ state: "closed", handled: after });
  });

  test("disposing waits for the running handler, and nothing is delivered after it", async () => {
    const after = await store().tail();
    const started = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const seen = collect(store(), after, {
      maxBatch: 1,
      handle: () => {
        started.resolve();
        return release.promise;
      },
    });
    await write(3);
    await started.promise;
    let disposed = false;
    const disposing = seen[Symbol.asyncDispose]().then(() => {
      disposed = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(disposed).toBe(false);
    release.resolve();
    await disposing;
    expect(seen.events).toHaveLength(1);
    expect(seen.subscription.status()).toMatchObject({ state: "closed", handled: seen.events[0]?.position });
    await write(1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(seen.events).toHaveLength(1);
    await seen[Symbol.asyncDispose](); // again: nothing to do
  });
}
