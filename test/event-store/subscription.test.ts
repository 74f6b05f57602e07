// The read loop by itself, on a feed that fails, falls silent, or shrinks on command.

import { afterEach, expect, test, vi } from "vitest";
import { type Position, positionOf, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { type Feed, type FeedListener, Subscriptions } from "../../src/event-store/subscription.ts";
import { eventually, newEvent } from "../contracts/subject.ts";

const at = (number: number): Position => positionOf("log", number);

/** A log of numbers that a test can trouble. */
function troubledLog() {
  const listeners = new Set<FeedListener>();
  const log = {
    length: 0,
    reads: 0,
    unreachable: false,
    listeners,
    append(count: number, announce = true) {
      log.length += count;
      if (announce) for (const listener of listeners) listener.appended(at(log.length));
    },
  };
  const feed: Feed = {
    read: async (after, limit) => {
      log.reads += 1;
      if (log.unreachable) throw new Error("unreachable");
      const from = after === "start" ? 0 : Number.parseInt(after.slice(-16), 16);
      const numbers = Array.from({ length: Math.max(0, Math.min(limit, log.length - from)) }, (_, n) => from + 1 + n);
      const events = numbers.map(
        (number): RecordedEvent => ({
          ...newEvent(),
          stream: "s",
          revision: number,
          position: at(number),
          recordedAt: 0,
        }),
      );
      return { events, atEnd: from + limit >= log.length };
    },
    listen: (listener) => {
      listeners.add(listener);
      if (log.length > 0) listener.appended(at(log.length));
      return () => listeners.delete(listener);
    },
  };
  return { log, feed };
}

let open: Subscriptions | undefined;
afterEach(() => open?.[Symbol.asyncDispose]());

function follow(feed: Feed, warnings: string[] = []) {
  const seen: number[] = [];
  open = new Subscriptions(feed, { warn: (_, message) => warnings.push(message) });
  const subscription = open.start({
    name: "follower",
    after: "start",
    maxBatch: 10,
    handle: async ({ events }) => {
      seen.push(...events.map(({ revision }) => revision));
    },
  });
  return { seen, subscription };
}
const upTo = (last: number) => Array.from({ length: last }, (_, n) => n + 1);

test("retries a failed read behind the last handled event, and shows the error", async () => {
  const { log, feed } = troubledLog();
  const warnings: string[] = [];
  const { seen, subscription } = follow(feed, warnings);
  log.append(25);
  await eventually(() => expect(seen).toEqual(upTo(25)));
  log.unreachable = true;
  log.append(5);
  await eventually(() => expect(subscription.status()).toMatchObject({ state: "retrying", lastError: "unreachable" }));
  expect(warnings[0]).toMatch(/^subscription failed; retrying in \d+ ms$/);
  log.unreachable = false;
  await eventually(() =>
    expect(subscription.status()).toMatchObject({ state: "live", lastError: null, handled: at(30) }),
  );
  expect(seen).toEqual(upTo(30));
});

test("tries a log that is away for long every second, so that it goes on soon after the log is back", async () => {
  vi.useFakeTimers();
  try {
    const { log, feed } = troubledLog();
    const warnings: string[] = [];
    log.unreachable = true;
    const { seen } = follow(feed, warnings);
    await vi.advanceTimersByTimeAsync(120_000);
    const delays = warnings.map((warning) => Number(/(\d+) ms$/.exec(warning)?.[1]));
    expect(delays.length).toBeGreaterThanOrEqual(120);
    expect(Math.max(...delays)).toBeLessThanOrEqual(1_000);
    log.unreachable = false;
    log.append(3);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(seen).toEqual(upTo(3));
  } finally {
    vi.useRealTimers();
  }
});

test("reads once for each notification while it is live", async () => {
  const { log, feed } = troubledLog();
  const { seen, subscription } = follow(feed);
  log.append(3);
  await eventually(() => expect(subscription.status().state).toBe("live"));
  const { reads } = log;
  for (const listener of log.listeners) listener.appended(at(2)); // old news
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(log.reads).toBe(reads);
  log.append(2);
  await eventually(() => expect(seen).toEqual(upTo(5)));
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(log.reads).toBe(reads + 1);
});

test("retries while notifications are broken, and reads what nobody announced", async () => {
  const { log, feed } = troubledLog();
  const { seen, subscription } = follow(feed);
  await eventually(() => expect(subscription.status().state).toBe("live"));
  log.append(4, false);
  log.unreachable = true;
  for (const listener of log.listeners) listener.failed(new Error("the line is dead"));
  await eventually(() => expect(subscription.status().lastError).toBe("the line is dead"));
  log.unreachable = false;
  await eventually(() => expect(seen).toEqual(upTo(4)));
  await eventually(() => expect(subscription.status()).toMatchObject({ state: "live", lastError: null }));
});

test("does not read in a loop for an announced event that is not there", async () => {
  const { log, feed } = troubledLog();
  const { seen } = follow(feed);
  log.append(2);
  await eventually(() => expect(seen).toEqual([1, 2]));
  for (const listener of log.listeners) listener.appended(at(1_000));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(log.reads).toBeLessThan(10);
  log.length = 1_000;
  log.append(1);
  await eventually(() => expect(seen).toEqual(upTo(1_001)));
});

test("closes all subscriptions of a log, and forgets those that ended by themselves", async () => {
  const { log, feed } = troubledLog();
  const { subscription } = follow(feed);
  await subscription[Symbol.asyncDispose]();
  expect(subscription.status().state).toBe("closed");
  expect(log.listeners.size).toBe(0);
  const again = open?.start({ name: "again", after: "start", handle: async () => {} });
  await open?.[Symbol.asyncDispose]();
  expect(again?.status().state).toBe("closed");
  expect(log.listeners.size).toBe(0);
});
