// Batching by round trip and by tick.
import { describe, expect, test } from "vitest";
import { batchLoader, batchPerTick } from "../../src/platform/bounded.ts";

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
