// What is made of measured figures: turns, medians, spreads, ratios.
import { describe, expect, test } from "vitest";
import { interleave, median, perSecond, quantile, ratios, spread } from "../../bench/harness/measure.ts";

describe("interleave", () => {
  test("gives every candidate its turn in every round, in an order that turns, and leaves out the first round", async () => {
    const turns: string[] = [];
    const candidate = (name: string) => ({
      name,
      turn: async (round: number) => {
        turns.push(`${name}${round}`);
        return round;
      },
    });
    const rounds = await interleave([candidate("a"), candidate("b"), candidate("c")], 2);
    expect(turns).toEqual(["a0", "b0", "c0", "b1", "c1", "a1", "c2", "a2", "b2"]);
    expect(Object.fromEntries(rounds)).toEqual({ a: [1, 2], b: [1, 2], c: [1, 2] });
  });
});

describe("figures", () => {
  test("the median is the middle one, or between the two in the middle", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([10, 1, 2, 3])).toBe(2.5);
    expect(() => median([])).toThrow(RangeError);
  });

  test("a quantile is a value that was measured", () => {
    const values = Array.from({ length: 100 }, (_, index) => 100 - index);
    expect(quantile(values, 0.99)).toBe(99);
    expect(quantile(values, 1)).toBe(100);
    expect(quantile([7], 0.5)).toBe(7);
    expect(() => quantile([], 0.5)).toThrow(RangeError);
  });

  test("the spread is from the least to the greatest, over the median", () => {
    expect(spread([8, 10, 12])).toBeCloseTo(0.4);
  });

  test("ratios are taken within a round, not of medians", () => {
    const rounds = new Map([
      ["ours", [10, 40]],
      ["theirs", [5, 10]],
    ]);
    expect(ratios(rounds, "ours", "theirs")).toEqual([2, 4]);
  });

  test("work of all lanes is counted", async () => {
    let ended = 0;
    const start = performance.now();
    const reached = await perSecond(8, 60, async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      ended += 1;
      return 1;
    });
    const took = performance.now() - start;
    expect(ended).toBeGreaterThanOrEqual(8);
    // What is counted is everything that ended; the clock is read a moment earlier here.
    expect(reached).toBeGreaterThanOrEqual((ended * 1_000) / took);
    expect(reached).toBeLessThanOrEqual((ended * 1_000) / 60);
  });
});
