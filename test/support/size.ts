// How long the fault suites run: short beside the other tests, long with `npm run test:faults`.

/** Whether it is the long form that runs. */
export const isLong = process.env.FAULTS === "long";

/** A count for the short form, and one for the long. */
export const sized = (short: number, ifLong: number): number => (isLong ? ifLong : short);

/** A limit of time for a test whose work grows with its size, in milliseconds. */
export const sizedTimeout = (shortMs: number, ifLongMs: number): number => (isLong ? ifLongMs : shortMs);
