// When a failed attempt is followed by another.
import { describe, expect, test } from "vitest";
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from "../../src/contract/time.ts";
import { DEFAULT_RETRY_POLICY, nextAttemptAt, type RetryPolicy } from "../../src/domain/retry-policy.ts";
import { NOW } from "../support/given.ts";
import fc from "../support/seed.ts";

const policy: RetryPolicy = { scheduleMs: [1_000, 60_000], jitter: 0.2 };
const next = (failures: number, retryAfterMs: number | null, random: number) =>
  nextAttemptAt(policy, { failures, at: NOW, retryAfterMs, random });

describe("the default", () => {
  test("makes 11 attempts over some 52 hours", () => {
    const { scheduleMs, jitter } = DEFAULT_RETRY_POLICY;
    expect(scheduleMs).toEqual([
      5 * SECOND_MS,
      30 * SECOND_MS,
      2 * MINUTE_MS,
      10 * MINUTE_MS,
      30 * MINUTE_MS,
      2 * HOUR_MS,
      5 * HOUR_MS,
      10 * HOUR_MS,
      14 * HOUR_MS,
      20 * HOUR_MS,
    ]);
    expect(jitter).toBe(0.2);
    expect(Math.round(scheduleMs.reduce((sum, wait) => sum + wait, 0) / HOUR_MS)).toBe(52);
  });
});

describe("the next attempt", () => {
  test("comes after the schedule's wait, give or take the jitter", () => {
    expect(next(1, null, 0)).toBe(NOW + 800);
    expect(next(1, null, 0.5)).toBe(NOW + 1_000);
    expect(next(2, null, 0)).toBe(NOW + 48_000);
    expect(next(2, null, 0.999_999_99)).toBe(NOW + 72_000);
  });

  test("never comes when the schedule is used up, whatever the receiver asks", () => {
    expect(next(3, null, 0.5)).toBeUndefined();
    expect(next(3, 5_000, 0.5)).toBeUndefined();
    expect(
      nextAttemptAt({ scheduleMs: [], jitter: 0 }, { failures: 1, at: NOW, retryAfterMs: null, random: 0 }),
    ).toBeUndefined();
  });

  test("comes when the receiver asks if that is later than the schedule, never sooner than the schedule", () => {
    expect(next(1, 30_000, 0)).toBe(NOW + 30_000);
    expect(next(2, 2_000, 0)).toBe(NOW + 48_000);
    expect(next(1, 0, 0.5)).toBe(NOW + 1_000);
  });

  test("is never sooner than the receiver asks, up to a day: jitter only adds", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 }),
        fc.nat({ max: 2 * DAY_MS }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (failures, asked, random) => {
          const wait = (next(failures, asked, random) ?? Number.NaN) - NOW;
          const scheduled = policy.scheduleMs[failures - 1] ?? Number.NaN;
          const least = Math.min(asked, DAY_MS);
          expect(wait).toBeGreaterThanOrEqual(Math.max(least, scheduled * 0.8));
          expect(wait).toBeLessThanOrEqual(Math.round(Math.max(least, scheduled) * 1.2));
        },
      ),
    );
  });

  test("is a whole number of milliseconds within the jitter, for every schedule", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 20 * HOUR_MS }), { minLength: 1, maxLength: 12 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (scheduleMs, jitter, random) => {
          for (const [index, wait] of scheduleMs.entries()) {
            const failed = { failures: index + 1, at: NOW, retryAfterMs: null, random };
            const at = nextAttemptAt({ scheduleMs, jitter }, failed) ?? Number.NaN;
            expect(Number.isInteger(at)).toBe(true);
            expect(Math.abs(at - NOW - wait)).toBeLessThanOrEqual(wait * jitter + 1);
          }
        },
      ),
    );
  });
});
