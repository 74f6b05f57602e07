// domain/retry-policy.ts: when a failed attempt is followed by another.
import { HOUR_MS, type Instant, MINUTE_MS, SECOND_MS } from "../contract/time.ts";

export type RetryPolicy = {
  /** The wait after the first failure, the second, … ; one attempt more than it has entries. */
  readonly scheduleMs: readonly number[];
  /** 0.2: each wait is drawn from 80 % to 120 % of its length. */
  readonly jitter: number;
};

const M = MINUTE_MS;
const H = HOUR_MS;
/** 11 attempts over some 52 hours. */
export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  scheduleMs: [5 * SECOND_MS, 30 * SECOND_MS, 2 * M, 10 * M, 30 * M, 2 * H, 5 * H, 10 * H, 14 * H, 20 * H],
  jitter: 0.2,
};

const MAX_RETRY_AFTER_MS = 24 * HOUR_MS;

type FailedAttempt = {
  /** How many attempts failed since the delivery began, or was started again; at least 1. */
  readonly failures: number;
  readonly at: Instant;
  /** What the receiver requested. It lengthens a wait, never shortens it; jitter only adds to it. */
  readonly retryAfterMs: number | null;
  /** Uniform in [0, 1). */
  readonly random: number;
};

/** When the next attempt is due; undefined when the schedule is used up. */
export function nextAttemptAt(
  { scheduleMs, jitter }: RetryPolicy,
  { failures, at, retryAfterMs, random }: FailedAttempt,
): Instant | undefined {
  const scheduled = scheduleMs[failures - 1];
  if (scheduled === undefined) return undefined;
  const wait = scheduled * (1 - jitter + /* fence: retry-jitter */ 2 * jitter * random);
  const requested = Math.min(retryAfterMs ?? 0, MAX_RETRY_AFTER_MS) * (1 + jitter * random);
  return Math.round(at + Math.max(/* fence: retry-after-lengthens */ wait, requested));
}
