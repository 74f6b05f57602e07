// The feed: everyone sees every event once and in order, also when one of them fails; and it knows whether it lags.
import { expect, test } from "vitest";
import type { NewEvent } from "../../src/event-store/event-store.ts";
import { LiveFeed } from "../../src/projections/feed.ts";
import { faultyStore } from "../support/faulty-store.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { quietLogger } from "../support/live.ts";
import { until } from "../support/until.ts";

const bytes = new TextEncoder().encode("{}");
const event = (): NewEvent => ({ id: crypto.randomUUID(), type: "T", data: bytes, metadata: bytes });

test("each listener is handed every event once, in order, though another fails in between", async () => {
  await using store = await openInMemoryLog();
  await using feed = new LiveFeed({
    clock: () => performance.now(),
    store,
    logger: quietLogger,
    after: await store.tail(),
  });
  const seen: [number[], number[]] = [[], []];
  let failures = 2;
  feed.on((events) => void seen[0].push(...events.map((one) => one.revision)));
  feed.on((events) => {
    if (events.some((one) => one.revision === 3) && failures > 0) {
      failures -= 1;
      throw new Error("not now");
    }
    seen[1].push(...events.map((one) => one.revision));
  });
  feed.start();
  for (let revision = -1; revision < 9; revision += 1) await store.append("s", revision, [event()]);
  expect(await feed.caughtUp(5_000)).toBe(true);
  const all = Array.from({ length: 10 }, (_, index) => index);
  expect(seen).toEqual([all, all]);
  expect(failures).toBe(0);
});

test("a listener that comes later is handed what comes after it, one that left nothing more", async () => {
  await using store = await openInMemoryLog();
  await using feed = new LiveFeed({ clock: () => performance.now(), store, logger: quietLogger, after: "start" });
  const early: number[] = [];
  const late: number[] = [];
  const listening = feed.on((events) => void early.push(...events.map((one) => one.revision)));
  feed.start();
  await store.append("s", -1, [event(), event()]);
  await feed.caughtUp(5_000);
  listening[Symbol.dispose]();
  feed.on((events) => void late.push(...events.map((one) => one.revision)));
  await store.append("s", 1, [event()]);
  await feed.caughtUp(5_000);
  expect(early).toEqual([0, 0, 1]); // the log's own first event, then ours
  expect(late).toEqual([2]);
});

test("it knows that it lags: while a listener is stuck, and while the log cannot be asked", async () => {
  await using memory = await openInMemoryLog();
  const store = faultyStore(memory);
  await using feed = new LiveFeed({ clock: () => performance.now(), store, logger: quietLogger, after: "start" });
  const { promise: stuck, resolve: release } = Promise.withResolvers<void>();
  feed.on((events) => (events.some((one) => one.stream === "s") ? stuck : undefined));
  feed.start();
  expect(await feed.caughtUp(5_000)).toBe(true);
  await until(() => feed.lagMs() < 1_000);
  await store.append("s", -1, [event()]);
  expect(await feed.caughtUp(50)).toBe(false);
  await until(() => feed.lagMs() > 1_000);
  release();
  await until(() => feed.lagMs() < 1_000);
  store.tail = () => Promise.reject(new Error("down"));
  await until(() => feed.lagMs() > 1_000);
  expect(await feed.caughtUp(50)).toBe(false);
});
