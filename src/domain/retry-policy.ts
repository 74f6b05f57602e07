// When a failed attempt is followed by another, and when not.
import { HOUR_MS, type Instant, MINUTE_MS, SECOND_MS } from "../contract/time.ts";

export type RetryPolicy = {
  /** The wait after the first failure, the second, … ; one attempt more than it has entries. */
  readonly scheduleMs: readonly number[];
  /** 0.2: each wait is drawn from 80 % to 120 % of its length. */
  readonly jitter: number;
};

/** 11 attempts over some 52 hours. */
export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  scheduleMs: [
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
  ],
  jitter: 0.2,
};

const MAX_RETRY_AFTER_MS = 24 * HOUR_MS;

/**
 * When the next attempt is due; undefined when the schedule is used up.
 * @param failures how many attempts failed since the delivery began, or was started again; at least 1
 * @param retryAfterMs what the receiver asked for; it wins over the schedule, and jitter only adds to it
 * @param random uniform in [0, 1)
 */
export function nextAttemptAt(
  policy: RetryPolicy,
  failures: number,
  at: Instant,
  retryAfterMs: number | null,
  random: number,
): Instant | undefined {
  const wait = policy.scheduleMs[failures - 1];
  if (wait === undefined) return undefined;
  if (retryAfterMs === null)
    return Math.round(at + wait * (1 - policy.jitter + /* fence: retry-jitter */ 2 * policy.jitter * random));
  return Math.round(at + Math.min(retryAfterMs, MAX_RETRY_AFTER_MS) * (1 + policy.jitter * random));
}
