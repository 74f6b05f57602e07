// domain/quiet-hours.ts: when a person's quiet hours end, by the wall clock of a time zone: pure, and right over its changes.
import { Temporal } from "temporal-polyfill";
import type { Weekday } from "../contract/preferences.ts";
import type { Instant } from "../contract/time.ts";

/** From a wall-clock time to the next that is `to`; equal ones: a whole day. `days`: on which it begins. */
export type QuietHours = { readonly from: string; readonly to: string; readonly days: readonly Weekday[] };

/** In the order of ISO 8601. */
export const WEEKDAYS: readonly Weekday[] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/** Periods that follow each other without a gap: a week's, and those that a change of the clock brings together. */
const MAX_PERIODS = 16;

/** When the quiet hours end in which a moment is; null when it is in none. `zone`: an IANA time zone. */
export function quietUntil(hours: QuietHours, zone: string, at: Instant): Instant | null {
  let end: Instant | null = null;
  for (let periods = 0; periods < MAX_PERIODS; periods += 1) {
    const next = endOfPeriod(hours, zone, end ?? at);
    if (next === null) return end;
    end = next;
  }
  return end;
}

/** The latest end of the periods in which a moment is. */
function endOfPeriod({ from, to, days }: QuietHours, zone: string, at: Instant): Instant | null {
  const today = Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(zone).toPlainDate();
  const [begins, ends] = [timeOf(from), timeOf(to)];
  const overnight = to <= from;
  let latest: Instant | null = null;
  // The day after is among them as the clock may go back over midnight.
  for (const shift of [-1, 0, 1]) {
    const weekday = WEEKDAYS[(today.dayOfWeek - 1 + shift + WEEKDAYS.length) % WEEKDAYS.length];
    if (weekday === undefined || !days.includes(weekday)) continue;
    const day = today.add({ days: shift });
    if (momentOf(day.toPlainDateTime(begins), zone) > at) continue;
    const end = momentOf((overnight ? day.add({ days: 1 }) : day).toPlainDateTime(ends), zone);
    if (at < end) latest = Math.max(latest ?? end, end);
  }
  return latest;
}

const timeOf = (text: string) => new Temporal.PlainTime(Number(text.slice(0, 2)), Number(text.slice(3)));

/** When a wall clock shows a time: of one that comes twice the first, of one that does not exist the next that does. */
function momentOf(wall: Temporal.PlainDateTime, zone: string): Instant {
  const earlier = wall.toZonedDateTime(zone, { disambiguation: "earlier" });
  if (earlier.toPlainDateTime().equals(wall)) return earlier.epochMilliseconds;
  // The clock went over it: the next time is that to which it was put on.
  // fence: clock-gap
  return earlier.getTimeZoneTransition("next")?.epochMilliseconds ?? earlier.epochMilliseconds;
}
