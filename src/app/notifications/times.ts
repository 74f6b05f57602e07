// When a notification is sent and when it expires: one rule for making and for editing.

import type { FieldFault } from "../../contract/errors.ts";
import { isObject } from "../../contract/json.ts";
import { DAY_MS, type Instant, parseInstant } from "../../contract/time.ts";

const DEFAULT_LIFE_MS = 7 * DAY_MS;

/** The same day of the next year; of 29 February, 1 March. */
function aYearAfter(at: Instant): Instant {
  const day = new Date(at);
  return day.setUTCFullYear(day.getUTCFullYear() + 1);
}

type Times = { readonly sendAt: Instant | null; readonly expiresAt: Instant };

/**
 * The times as they are kept: a past `sendAt` means now, which is null. Without `expiresAt` it is 7 days after sending.
 * Adds to `faults`.
 */
export function settleTimes(
  { sendAt, expiresAt }: { readonly sendAt: Instant | null; readonly expiresAt: Instant | null },
  at: Instant,
  faults: FieldFault[],
): Times {
  if (sendAt !== null && sendAt > aYearAfter(at)) {
    faults.push({ path: "send_at", code: "too_large", message: "must be at most a year ahead" });
  }
  const due = sendAt !== null && sendAt > at ? sendAt : null;
  const begins = due ?? at;
  if (expiresAt !== null && expiresAt <= begins) {
    const message = due === null ? "must be in the future" : "must be after send_at";
    faults.push({ path: "expires_at", code: "too_small", message });
  }
  return { sendAt: due, expiresAt: expiresAt ?? begins + DEFAULT_LIFE_MS };
}

/** The faults of the times in a body as it was sent, as far as they are times. */
export function timeFaults(body: unknown, at: Instant): readonly FieldFault[] {
  if (!isObject(body)) return [];
  const time = (value: unknown) => (typeof value === "string" ? (parseInstant(value) ?? null) : null);
  const faults: FieldFault[] = [];
  settleTimes({ sendAt: time(body.send_at), expiresAt: time(body.expires_at) }, at, faults);
  return faults;
}

/** Whether the time of expiry is the one that is taken when none is given. */
export const expiresByDefault = (times: Times, createdAt: Instant): boolean =>
  times.expiresAt === (times.sendAt ?? createdAt) + DEFAULT_LIFE_MS;
