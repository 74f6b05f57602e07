// The guard of a running node's stores: which log and database it goes on with, and what it holds back meanwhile.
import { describe, expect, test } from "vitest";
import { type EventStore, NO_STREAM, OutcomeUnknown, StoreUnavailable } from "../../src/event-store/event-store.ts";
import { LogGuard } from "../../src/event-store/log-guard.ts";
import { collect, eventually, ids, newEvents, newStream } from "../contracts/subject.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";

/** A node on a log whose place another one can take, and that can be away. */
async function node() {
  await using opening = new AsyncDisposableStack();
  const own = opening.use(await openInMemoryLog({ logId: "own" }));
  const stores = { log: own as EventStore | "away", keys: true };
  const logged: string[] = [];
  const now = (): EventStore => {
    if (stores.log === "away") throw new StoreUnavailable("away");
    return stores.log;
  };
  const log: EventStore = {
    ...own,
    readStream: async (...args) => now().readStream(...args),
    tail: async () => now().tail(),
    append: async (...args) => {
      if (stores.log === "away") throw new OutcomeUnknown("away");
      return stores.log.append(...args);
    },
  };
  const note = (_fields: object, message: string) => void logged.push(message);
  const guard = opening.use(
    new LogGuard({ log, hasKeys: async () => stores.keys, logger: { warn: note, error: note } }),
  );
  const store = guard.guarded(log);
  const moved = opening.move();
  return { own, stores, guard, store, logged, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

const write = (store: EventStore) => store.append(newStream(), NO_STREAM, newEvents(1));

describe("stops appending, says what to do once, and goes on when they are right again, with", () => {
  test.each<[string, () => Promise<EventStore>, RegExp]>([
    [
      "another log",
      () => openInMemoryLog({ logId: "other" }),
      /another one than this node opened: check EVENTSTORE_URL/,
    ],
    ["an older copy", () => openInMemoryLog({ logId: "own" }), /lacks events that this node has seen/],
    ["no log", async () => ({ ...(await openInMemoryLog()), readStream: async () => [] }), /empty, and was not/],
  ])("%s", async (_name, other, line) => {
    await using running = await node();
    const { own, stores, guard, store, logged } = running;
    await write(store);
    stores.log = await other();
    await eventually(() => expect(guard.status().ok).toBe(false));
    await expect(write(store)).rejects.toMatchObject({
      name: "StoreUnavailable",
      message: expect.stringMatching(line),
    });
    expect(logged).toEqual([expect.stringMatching(line)]);
    stores.log = own;
    await eventually(() => expect(guard.status()).toEqual({ ok: true, detail: { state: "verified", problem: null } }));
    await write(store);
  });

  test("an older copy that others have written to since", async () => {
    await using running = await node();
    const { stores, guard, store } = running;
    await write(store);
    const older = await openInMemoryLog({ logId: "own" });
    for (let n = 0; n < 5; n += 1) await write(older);
    stores.log = older;
    await eventually(() => expect(guard.status().detail.problem).toMatch(/lacks events/));
  });

  test("a database without the log's keys", async () => {
    await using running = await node();
    const { stores, guard, store } = running;
    stores.keys = false;
    await eventually(() => expect(guard.status().detail.problem).toMatch(/lacks the data keys.*DATABASE_URL/));
    await expect(write(store)).rejects.toBeInstanceOf(StoreUnavailable);
    stores.keys = true;
    await eventually(() => expect(guard.status().ok).toBe(true));
  });
});

test("a log that was away is recognised before anything is appended to it", async () => {
  await using running = await node();
  const { stores, guard, store } = running;
  await write(store);
  stores.log = "away";
  await expect(write(store)).rejects.toBeInstanceOf(OutcomeUnknown);
  expect(guard.status()).toMatchObject({ ok: true, detail: { state: "away" } }); // a moment is nothing to speak of
  stores.log = await openInMemoryLog({ logId: "own" });
  await expect(write(store)).rejects.toThrow(/lacks events/);
  expect((await stores.log.readAll({ after: "start", limit: 10 })).length).toBe(1);
});

test("subscribers are handed nothing while the stores differ, and everything once they are right again", async () => {
  await using running = await node();
  const { own, stores, guard, store } = running;
  await using seen = collect(store, await own.tail());
  stores.keys = false;
  await eventually(() => expect(guard.status().ok).toBe(false));
  const events = newEvents(2);
  await own.append(newStream(), NO_STREAM, events);
  await eventually(() => expect(seen.subscription.status().lastError).toMatch(/lacks the data keys/));
  expect(seen.events).toEqual([]);
  stores.keys = true;
  await eventually(() => expect(ids(seen.events)).toEqual(ids(events)));
});
