// Time as the domain knows it: a number that arrives with the command.

/** Milliseconds since the Unix epoch. RFC 3339 only at the edges. */
export type Instant = number;

export const SECOND_MS = 1_000;
export const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;
