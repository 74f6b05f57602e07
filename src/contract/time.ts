// Time: numbers inside, RFC 3339 at the edges.

/** Milliseconds since the Unix epoch. */
export type Instant = number;

export const SECOND_MS = 1_000;
export const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/** An instant as answers show it. */
export const rfc3339 = (at: Instant): string => new Date(at).toISOString();
export const rfc3339OrNull = (at: Instant | null): string | null => (at === null ? null : rfc3339(at));

const DATE = /^\d{4}-\d{2}-\d{2}$/;
const TIME = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})$/;

/** Reads an RFC 3339 time with offset, or a UTC date; undefined when it is none. */
export function parseInstant(value: string): Instant | undefined {
  const isDate = DATE.test(value);
  if (!isDate && !TIME.test(value)) return undefined;
  const day = Date.parse(`${value.slice(0, 10)}T00:00:00Z`);
  // A day such as 30 February would be taken for one in March.
  if (Number.isNaN(day) || new Date(day).toISOString().slice(0, 10) !== value.slice(0, 10)) return undefined;
  if (isDate) return day;
  const at = Date.parse(value.toUpperCase().replace(" ", "T"));
  // An offset moves it by a day at most; 24:00 is no time.
  return Number.isNaN(at) || Math.abs(at - day) > 2 * DAY_MS || value.slice(11, 13) === "24" ? undefined : at;
}
