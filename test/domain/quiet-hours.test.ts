// When quiet hours end, over every change of the clock of five zones that change it in different ways.
import { Temporal } from "temporal-polyfill";
import { describe, expect, test } from "vitest";
import { DAY_MS, HOUR_MS, type Instant, MINUTE_MS } from "../../src/contract/time.ts";
import { type QuietHours, quietUntil, WEEKDAYS } from "../../src/domain/quiet-hours.ts";

const ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"];
const daily = (from: string, to: string): QuietHours => ({ from, to, days: WEEKDAYS });
const at = (text: string): Instant => Date.parse(text);
const ends = (hours: QuietHours, zone: string, moment: string): string | null => {
  const until = quietUntil(hours, zone, at(moment));
  return until === null ? null : new Date(until).toISOString().replace(":00.000Z", "Z");
};

describe("quiet hours", () => {
  test.each<[string, QuietHours, string, string, string | null]>([
    ["before they begin", daily("22:00", "07:00"), "UTC", "2026-03-02T21:59:59.999Z", null],
    ["when they begin", daily("22:00", "07:00"), "UTC", "2026-03-02T22:00Z", "2026-03-03T07:00Z"],
    ["after midnight", daily("22:00", "07:00"), "UTC", "2026-03-03T06:59Z", "2026-03-03T07:00Z"],
    ["when they end", daily("22:00", "07:00"), "UTC", "2026-03-03T07:00Z", null],
    ["within a day", daily("12:00", "14:00"), "Asia/Tokyo", "2026-03-03T04:30Z", "2026-03-03T05:00Z"],
    [
      "that begin on a chosen day",
      { ...daily("22:00", "07:00"), days: ["fri"] },
      "UTC",
      "2026-03-07T01:00Z",
      "2026-03-07T07:00Z",
    ],
    ["that begin on another day", { ...daily("22:00", "07:00"), days: ["fri"] }, "UTC", "2026-03-07T23:00Z", null],
    ["a whole day", { ...daily("00:00", "00:00"), days: ["sat"] }, "UTC", "2026-03-07T05:00Z", "2026-03-08T00:00Z"],
    [
      "whole days on end",
      { ...daily("00:00", "00:00"), days: ["sat", "sun"] },
      "UTC",
      "2026-03-07T05:00Z",
      "2026-03-09T00:00Z",
    ],
    [
      "six whole days",
      { ...daily("09:00", "09:00"), days: WEEKDAYS.slice(0, 6) },
      "UTC",
      "2026-03-02T09:00Z",
      "2026-03-08T09:00Z",
    ],
    // Berlin goes from 02:00 to 03:00 on 29 March, and from 03:00 back to 02:00 on 25 October 2026.
    [
      "an end that does not exist is the next time that does",
      daily("22:00", "02:30"),
      "Europe/Berlin",
      "2026-03-29T00:30Z",
      "2026-03-29T01:00Z",
    ],
    [
      "a beginning that does not exist is the next time that does",
      daily("02:15", "05:00"),
      "Europe/Berlin",
      "2026-03-29T01:00Z",
      "2026-03-29T03:00Z",
    ],
    ["before a beginning that does not exist", daily("02:15", "05:00"), "Europe/Berlin", "2026-03-29T00:59Z", null],
    ["both within the gap: there are none", daily("02:10", "02:50"), "Europe/Berlin", "2026-03-29T01:00Z", null],
    [
      "an end that comes twice is the first",
      daily("22:00", "02:30"),
      "Europe/Berlin",
      "2026-10-25T00:20Z",
      "2026-10-25T00:30Z",
    ],
    ["after the first of an end that comes twice", daily("22:00", "02:30"), "Europe/Berlin", "2026-10-25T01:10Z", null],
    [
      "a beginning that comes twice is the first",
      daily("02:30", "06:00"),
      "Europe/Berlin",
      "2026-10-25T00:30Z",
      "2026-10-25T05:00Z",
    ],
    // New York, over the night of each change: eight hours, and ten.
    ["a short night", daily("22:00", "07:00"), "America/New_York", "2026-03-08T03:00Z", "2026-03-08T11:00Z"],
    ["a long night", daily("22:00", "07:00"), "America/New_York", "2026-11-01T02:00Z", "2026-11-01T12:00Z"],
    // Lord Howe changes by half an hour, at 02:00.
    [
      "half an hour that does not exist",
      daily("22:00", "02:15"),
      "Australia/Lord_Howe",
      "2026-10-03T15:00Z",
      "2026-10-03T15:30Z",
    ],
    [
      "half an hour that comes twice",
      daily("22:00", "01:45"),
      "Australia/Lord_Howe",
      "2026-04-04T14:00Z",
      "2026-04-04T14:45Z",
    ],
    // Casablanca leaves its summer time for the month of Ramadan.
    ["Ramadan begins", daily("23:00", "02:30"), "Africa/Casablanca", "2026-02-15T01:00Z", "2026-02-15T01:30Z"],
    ["Ramadan ends", daily("23:00", "02:30"), "Africa/Casablanca", "2026-03-22T01:00Z", "2026-03-22T02:00Z"],
    // Apia had no 30 December 2011.
    [
      "into a day that does not exist",
      daily("22:00", "07:00"),
      "Pacific/Apia",
      "2011-12-30T08:30Z",
      "2011-12-30T17:00Z",
    ],
    [
      "on the day before the one that does not exist",
      daily("06:00", "12:00"),
      "Pacific/Apia",
      "2011-12-29T17:00Z",
      "2011-12-29T22:00Z",
    ],
  ])("%s", (_, hours, zone, moment, expected) => expect(ends(hours, zone, moment)).toBe(expected));
});

/** The first moment at which a wall clock shows a time or a later one, of a clock that changes once. */
function firstAt(wall: number, { change, before, after }: Change): Instant {
  return wall - before < change ? wall - before : Math.max(change, wall - after);
}
type Change = { readonly change: Instant; readonly before: number; readonly after: number };

const offsetAt = (zone: string, moment: Instant): number =>
  Temporal.Instant.fromEpochMilliseconds(moment).toZonedDateTimeISO(zone).offsetNanoseconds / 1e6;

function changesOf(zone: string): Change[] {
  const found: Change[] = [];
  let time = Temporal.Instant.from("1990-01-01T00:00Z").toZonedDateTimeISO(zone);
  for (;;) {
    const next = time.getTimeZoneTransition("next");
    if (next === null || next.year > 2036) return found;
    time = next;
    const change = next.epochMilliseconds;
    found.push({ change, before: offsetAt(zone, change - 1), after: offsetAt(zone, change) });
  }
}

/** The same by arithmetic on one change alone: minutes of the wall clock, the days around it, and whichever period a moment is in. */
function expected(hours: QuietHours, change: Change, moment: Instant): Instant | null {
  const wallNow = moment + (moment < change.change ? change.before : change.after);
  const today = Math.floor(wallNow / DAY_MS);
  const minutes = (text: string) => Number(text.slice(0, 2)) * HOUR_MS + Number(text.slice(3)) * MINUTE_MS;
  const [from, to] = [minutes(hours.from), minutes(hours.to)];
  let latest: Instant | null = null;
  for (let day = today - 3; day <= today + 3; day += 1) {
    const weekday = WEEKDAYS[(((day + 3) % 7) + 7) % 7];
    if (weekday === undefined || !hours.days.includes(weekday)) continue;
    const start = firstAt(day * DAY_MS + from, change);
    const end = firstAt((to <= from ? day + 1 : day) * DAY_MS + to, change);
    if (start <= moment && moment < end) latest = Math.max(latest ?? end, end);
  }
  if (latest === null) return null;
  return expected(hours, change, latest) ?? latest;
}

const HOURS: readonly QuietHours[] = [
  daily("22:00", "07:00"),
  daily("02:30", "02:15"),
  daily("01:45", "02:10"),
  { from: "00:00", to: "00:00", days: ["sat", "sun", "thu"] },
];
const MINUTES = [-26 * 60, -61, -31, -15, -1, 0, 16, 31, 61, 26 * 60];

test.each(ZONES)("over every change of the clock in %s from 1990 to 2036", (zone) => {
  const changes = changesOf(zone);
  expect(changes.length).toBeGreaterThan(10);
  for (const [index, one] of changes.entries()) {
    // As long as no other change is near, one is all that counts.
    const near = Math.min(
      one.change - (changes[index - 1]?.change ?? 0),
      (changes[index + 1]?.change ?? Infinity) - one.change,
    );
    expect(near).toBeGreaterThan(10 * DAY_MS);
    for (const hours of HOURS) {
      for (const minutes of MINUTES) {
        const moment = one.change + minutes * MINUTE_MS;
        const found = quietUntil(hours, zone, moment);
        const told = `${zone} ${hours.from} to ${hours.to} at ${new Date(moment).toISOString()}`;
        expect({ told, until: found }).toEqual({ told, until: expected(hours, one, moment) });
      }
    }
  }
});
