// Limits on how often, and on how many at the same time.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLimits, rateHeaders } from "../../src/app/rate-limit.ts";

beforeEach(() => void vi.useFakeTimers({ now: 1_000 }));
afterEach(() => void vi.useRealTimers());

test("a rate lets so many through in each window, by key", async () => {
  const limiter = createLimits({ rateLimits: {} }).registrations;
  const first = await limiter.take("a");
  expect(first).toEqual({ allowed: true, limit: 10, remaining: 9, resetSeconds: 60, windowSeconds: 60 });
  for (let left = 8; left > 0; left -= 1) expect((await limiter.take("a")).remaining).toBe(left);
  expect(await limiter.isSpent("a")).toBe(false);
  vi.setSystemTime(31_000);
  expect(await limiter.take("a")).toMatchObject({ allowed: true, remaining: 0, resetSeconds: 30 });
  expect(await limiter.isSpent("a")).toBe(true);
  vi.setSystemTime(60_999);
  const refused = await limiter.take("a");
  expect(refused).toMatchObject({ allowed: false, remaining: 0, resetSeconds: 1 });
  expect((await limiter.take("b")).allowed).toBe(true);
  vi.setSystemTime(61_000);
  expect(await limiter.isSpent("a")).toBe(false);
  expect((await limiter.take("a")).allowed).toBe(true);
  expect(rateHeaders("things", refused)).toEqual({
    "RateLimit-Policy": '"things";q=10;w=60',
    RateLimit: '"things";r=0;t=1',
    "Retry-After": "1",
  });
});

test("a rate counts the key that was not seen for longest from zero once it remembers too many", async () => {
  const limiter = createLimits({ rateLimits: {} }).registrations;
  for (let used = 0; used < 10; used += 1) await limiter.take("a");
  for (let other = 0; other < 50_000; other += 1) await limiter.take(`other-${other}`);
  expect((await limiter.take("a")).remaining).toBe(9);
});

test("a limit on what is held at once gives each one back once", () => {
  const limiter = createLimits({ rateLimits: {} }).socketsByUser;
  const held = Array.from({ length: 20 }, () => limiter.take("a"));
  expect(held).not.toContain(undefined);
  expect(limiter.take("a")).toBeUndefined();
  expect(limiter.take("b")).toBeDefined();
  held[0]?.[Symbol.dispose]();
  held[0]?.[Symbol.dispose]();
  expect(limiter.take("a")).toBeDefined();
  expect(limiter.take("a")).toBeUndefined();
  held[1]?.[Symbol.dispose]();
  expect(limiter.take("a")).toBeDefined();
});
