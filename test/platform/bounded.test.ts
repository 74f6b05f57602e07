// Batching by round trip and by tick.
import { describe, expect, test } from "vitest";
import { batchLoader, batchPerTick, NoSlot, SharedSlots } from "../../src/platform/bounded.ts";

describe("a batch loader", () => {
  /** Loads the length of each key, except for "gone" and "broken"; records its batches. */
  function lengths(maxBatch = 10) {
    const batches: string[][] = [];
    const load = batchLoader<null, { length: number }>(async (requests) => {
      batches.push([...requests.keys()]);
      if (requests.has("all fail")) throw new Error("no connection");
      const entry = (key: string) => (key === "broken" ? { error: new Error("damaged") } : { length: key.length });
      return new Map([...requests.keys()].filter((key) => key !== "gone").map((key) => [key, entry(key)]));
    }, maxBatch);
    return { batches, load: (key: string) => load(key, null) };
  }

  test("loads keys that are requested together in one batch, each key once", async () => {
    const { batches, load } = lengths();
    expect(await Promise.all([load("a"), load("bb"), load("a")])).toEqual([
      { length: 1 },
      { length: 2 },
      { length: 1 },
    ]);
    expect(batches).toEqual([["a", "bb"]]);
  });

  test("puts what is requested meanwhile into the next batches, of at most the given size", async () => {
    const { batches, load } = lengths(2);
    const first = load("a");
    const rest = first.then(() => Promise.all([load("b"), load("c"), load("d")]));
    await rest;
    expect(batches).toEqual([["a"], ["b", "c"], ["d"]]);
  });

  test("gives undefined for a key that does not exist, and fails a single key alone", async () => {
    const { load } = lengths();
    const [gone, broken, good] = await Promise.allSettled([load("gone"), load("broken"), load("x")]);
    expect(gone).toMatchObject({ status: "fulfilled", value: undefined });
    expect(broken).toMatchObject({ status: "rejected", reason: { message: "damaged" } });
    expect(good).toMatchObject({ status: "fulfilled", value: { length: 1 } });
  });

  test("fails all keys of a batch that throws, and loads the next batch", async () => {
    const { load } = lengths();
    const results = await Promise.allSettled([load("all fail"), load("x")]);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(await load("x")).toEqual({ length: 1 });
  });
});

test("callers of one tick continue in the next, step by step side by side, and later callers after them", async () => {
  const order: string[] = [];
  const work = async (name: string) => {
    await batchPerTick();
    order.push(`${name}1`);
    await Promise.resolve();
    order.push(`${name}2`);
  };
  const first = [work("a"), work("b"), work("c")];
  const later = new Promise<void>((resolve) => setImmediate(() => resolve(work("d"))));
  await Promise.resolve();
  expect(order).toEqual([]);
  await Promise.all([...first, later]);
  expect(order).toEqual(["a1", "b1", "c1", "a2", "b2", "c2", "d1", "d2"]);
});

describe("shared slots", () => {
  const LIMITS = { total: 3, perKey: 2, maxWaiting: 3 };
  /** Takes slots, and notes whose request was granted. */
  function taking(slots: SharedSlots) {
    const granted: string[] = [];
    const take = (key: string) =>
      slots.acquire(key, 1_000).then((slot) => {
        granted.push(key);
        return slot;
      });
    return { granted, take };
  }

  test("keep to the share of a key and to the total, and go to who holds the fewest", async () => {
    const { granted, take } = taking(new SharedSlots(LIMITS));
    const first = await take("a");
    await take("a");
    const waiting = [take("a"), take("b"), take("b")];
    await waiting[1];
    expect(granted).toEqual(["a", "a", "b"]);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    const next = await Promise.race(waiting.filter((_, index) => index !== 1));
    expect(granted).toHaveLength(4);
    next[Symbol.dispose]();
    await Promise.all(waiting);
    expect(granted.toSorted()).toEqual(["a", "a", "a", "b", "b"]);
  });

  test("are refused when none becomes free in time, when too many wait, and when who waits is gone", async () => {
    const slots = new SharedSlots(LIMITS);
    await Promise.all([slots.acquire("a", 10), slots.acquire("a", 10)]);
    await expect(slots.acquire("a", 10)).rejects.toThrow(NoSlot);
    const gone = new AbortController();
    const waiting = Array.from({ length: 3 }, () => slots.acquire("a", 10_000, gone.signal));
    const ended = Promise.allSettled(waiting);
    await expect(slots.acquire("a", 10_000)).rejects.toThrow(NoSlot);
    gone.abort(new Error("gone"));
    expect((await ended).map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    (await slots.acquire("b", 10))[Symbol.dispose]();
  });
});
