// When a failed attempt is followed by another.
import { describe, expect, test } from "vitest";
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from "../../src/contract/time.ts";
import { DEFAULT_RETRY_POLICY, type Delivery, deliveryDecider, type RetryPolicy } from "../../src/domain/delivery.ts";
import { NOW } from "../support/given.ts";
import fc from "../support/seed.ts";
import { failed, failure, record, requested, retryScheduled, started } from "./deliveries.ts";

const policy: RetryPolicy = { scheduleMs: [1_000, 60_000], jitter: 0.2 };
/** When the attempt after `failures` failed ones is due, the last of which failed at NOW; undefined: never. */
function nextAttemptAt(
  { scheduleMs, jitter }: RetryPolicy,
  failures: number,
  retryAfterMs: number | null,
  random: number,
) {
  const attempts = Array.from({ length: failures }, (_, before) => before + 1);
  const history = attempts.flatMap((n) => (n === 1 ? [] : [failed(n - 1), retryScheduled(n, NOW)]).concat(started(n)));
  const context = { seq: 1, at: NOW };
  const state = [requested({ expiresAt: NOW + 9 * DAY_MS }), ...history].reduce<Delivery>(
    (before, event) => deliveryDecider.evolve(before, event, context),
    deliveryDecider.initial,
  );
  const command = { ...record(failures, failure("transient", retryAfterMs)), policy: { scheduleMs, jitter }, random };
  const scheduled = deliveryDecider
    .decide(state, command, new Map())
    .find(({ type }) => type === "DeliveryRetryScheduled");
  return scheduled?.type === "DeliveryRetryScheduled" ? scheduled.data.at : undefined;
}
const next = (failures: number, retryAfterMs: number | null, random: number) =>
  nextAttemptAt(policy, failures, retryAfterMs, random);

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
    expect(nextAttemptAt({ scheduleMs: [], jitter: 0 }, 1, null, 0)).toBeUndefined();
  });

  test("comes when the receiver asks, sooner or later than the schedule", () => {
    expect(next(1, 30_000, 0)).toBe(NOW + 30_000);
    expect(next(2, 2_000, 0)).toBe(NOW + 2_000);
  });

  test("is never sooner than the receiver asks, up to a day: jitter only adds", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 }),
        fc.nat({ max: 2 * DAY_MS }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (failures, asked, random) => {
          const wait = (next(failures, asked, random) ?? Number.NaN) - NOW;
          const least = Math.min(asked, DAY_MS);
          expect(wait).toBeGreaterThanOrEqual(least);
          expect(wait).toBeLessThanOrEqual(Math.round(least * 1.2));
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
            const at = nextAttemptAt({ scheduleMs, jitter }, index + 1, null, random) ?? Number.NaN;
            expect(Number.isInteger(at)).toBe(true);
            expect(Math.abs(at - NOW - wait)).toBeLessThanOrEqual(wait * jitter + 1);
          }
        },
      ),
    );
  });
});
