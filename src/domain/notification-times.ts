// When a notification is sent and until when: as a request says it, and as a patch changes it.
import type { FieldFault } from "../contract/errors.ts";
import type { NotificationPatch } from "../contract/notifications.ts";
import { DAY_MS, type Instant } from "../contract/time.ts";

const DEFAULT_LIFE_MS = 7 * DAY_MS;
type Times = { readonly sendAt: Instant | null; readonly expiresAt: Instant };

/**
 * The times as they are kept, and what is wrong with them: a past `sendAt` means now, which is null. Without
 * `expiresAt` it is 7 days after sending.
 */
export function checkTimes(
  { sendAt, expiresAt }: { readonly sendAt: Instant | null; readonly expiresAt: Instant | null },
  at: Instant,
): { readonly times: Times; readonly faults: readonly FieldFault[] } {
  const faults: FieldFault[] = [];
  if (sendAt !== null && sendAt > aYearAfter(at)) {
    faults.push({ path: "send_at", code: "too_large", message: "must be at most a year ahead" });
  }
  const later = sendAt !== null && sendAt > at ? sendAt : null;
  const begins = later ?? at;
  if (expiresAt !== null && expiresAt <= begins) {
    const message = later === null ? "must be in the future" : "must be after send_at";
    faults.push({ path: "expires_at", code: "too_small", message });
  }
  return { times: { sendAt: later, expiresAt: expiresAt ?? begins + DEFAULT_LIFE_MS }, faults };
}

/** The same day of the next year; of 29 February, 1 March. */
export function aYearAfter(at: Instant): Instant {
  const day = new Date(at);
  return day.setUTCFullYear(day.getUTCFullYear() + 1);
}

/** A time of expiry that nobody chose moves with the sending. */
export function newTimes(
  old: Times,
  { send_at, expires_at }: NotificationPatch,
  at: Instant,
  createdAt: Instant,
  faults: FieldFault[],
): Times {
  const { sendAt, expiresAt } = old;
  if (send_at === undefined && expires_at === undefined) return { sendAt, expiresAt };
  const isDefault = expiresAt === (sendAt ?? createdAt) + DEFAULT_LIFE_MS;
  const wanted = {
    sendAt: send_at === undefined ? sendAt : send_at,
    expiresAt: expires_at === undefined ? (isDefault ? null : expiresAt) : expires_at,
  };
  const checked = checkTimes(wanted, at);
  faults.push(...checked.faults);
  return checked.times;
}
