// What is promised of the schedule of deliveries, held against a log, in the times that the log names.
import { expect } from "vitest";
import type { DeliveryStatus } from "../../../src/contract/deliveries.ts";
import { DAY_MS, type Instant, SECOND_MS } from "../../../src/contract/time.ts";
import { hasEnded } from "../../../src/domain/delivery-state.ts";
import type { StoredEvent } from "../../../src/event-store/envelope.ts";
import { answerTo, type ClockedRun, type Story } from "./clocked-deliveries.ts";

/** As it is promised to clients. */
const WAITS = [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000].map((seconds) => seconds * SECOND_MS);

const streamsOf = (events: readonly StoredEvent[]): readonly (readonly StoredEvent[])[] => [
  ...Map.groupBy(events, ({ stream }) => stream).values(),
];
export const started = ({ events }: ClockedRun) => events.filter((event) => event.type === "DeliveryAttemptStarted");

/** What holds whatever the clock does, all of it in times that the log names. */
export function keepsPromises(told: ClockedRun, { data, answers }: Story): void {
  expect(told.sends, "each attempt in the log left once, and none beside them").toBe(started(told).length);
  let sends = 0;
  for (const events of streamsOf(told.events)) {
    let [due, expiresAt, lease, attempts, at] = [0, 0, 0, 0, 0];
    let [fallbackAt, status]: [Instant | null, DeliveryStatus | null] = [null, null];
    let failure: { asked: number | null; lost: boolean } | undefined;
    for (const event of events) {
      expect(event.meta.at, "no event is before the one before it").toBeGreaterThanOrEqual(at);
      at = event.meta.at;
      if ("to" in event.data && "from" in event.data && event.type !== "ProviderFailedOver") status = event.data.to;
      if (event.type === "NotificationReleased") expect(at).toBeGreaterThanOrEqual(data.sendAt ?? 0);
      if (event.type === "DeliveryRequested") ({ expiresAt, fallbackAt } = event.data);
      if (event.type === "DeliveryFallbackRequested") expect(at).toBeGreaterThanOrEqual(fallbackAt ?? Infinity);
      if (event.type === "DeliveryAttemptStarted") {
        attempts += 1;
        expect(event.data.n).toBe(attempts);
        expect(at).toBeGreaterThanOrEqual(due);
        expect(at).toBeLessThan(expiresAt);
        lease = event.data.leaseUntil;
        const { kind, retryAfterMs } = answerTo({ answers }, sends);
        failure = { asked: kind === "dies" ? null : retryAfterMs, lost: kind === "dies" };
        sends += 1;
      }
      if (event.type === "DeliveryAttemptFailed" && event.data.kind === "unknown") {
        expect(failure?.lost).toBe(true);
        expect(at, "nobody takes over before the lease ends").toBeGreaterThanOrEqual(lease);
      }
      if (event.type === "DeliveryRetryScheduled") {
        due = event.data.at;
        const scheduled = WAITS[attempts - 1] ?? Number.NaN;
        const asked = Math.min(failure?.asked ?? 0, DAY_MS);
        expect(due - at).toBeGreaterThanOrEqual(Math.round(Math.max(scheduled * 0.8, asked)));
        expect(due - at).toBeLessThanOrEqual(Math.round(Math.max(scheduled, asked) * 1.2));
        expect(due).toBeLessThan(expiresAt);
      }
      if (event.type === "DeliveryExhausted" && event.data.reason === "attempts_exhausted") expect(attempts).toBe(11);
      if (event.type === "DeliveryExpired" && event.data.from !== "sending")
        expect(at).toBeGreaterThanOrEqual(expiresAt);
    }
    if (status !== null) expect(hasEnded(status), `${status} is no end`).toBe(true);
  }
}

/**
 * With a clock that nobody sets, everything is done at its moment; only what had a job that was lost may wait for the
 * sweep, behind whatever else is to come.
 */
export function isPunctual({ events }: ClockedRun, { data, start, lostJobs }: Story): void {
  const isAt = (at: Instant, due: Instant) =>
    lostJobs.length === 0 ? expect(at).toBe(due) : expect(at).toBeGreaterThanOrEqual(due);
  for (const ofOne of streamsOf(events)) {
    let [due, fallbackAt]: [Instant, Instant | null] = [0, null];
    for (const event of ofOne) {
      if (event.type === "NotificationReleased") expect(event.meta.at).toBe(data.sendAt ?? start);
      if (event.type === "DeliveryRequested") [due, fallbackAt] = [event.meta.at, event.data.fallbackAt];
      if (event.type === "DeliveryRetryScheduled") due = event.data.at;
      if (event.type === "DeliveryAttemptStarted") isAt(event.meta.at, due);
      if (event.type === "DeliveryFallbackRequested") isAt(event.meta.at, fallbackAt ?? Number.POSITIVE_INFINITY);
    }
  }
}
