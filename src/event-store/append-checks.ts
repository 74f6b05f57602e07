// What adapters refuse before anything is sent: the same for each, so that no store meets what it cannot hold exactly.

import {
  AppendTooLarge,
  MAX_APPEND_BYTES,
  type NewEvent,
  NO_STREAM,
  type Position,
  parsePosition,
  type StreamRead,
  sizeOf,
} from "./event-store.ts";

/** The longest stream name, in UTF-8 bytes: names are kept in an index, whose entries are limited. */
const MAX_STREAM_BYTES = 1_000;

/** The highest revision an append may expect, so that every store's integers hold what follows. */
const MAX_REVISION = 2 ** 31 - 1 - MAX_APPEND_BYTES;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether a store gives this name back exactly: well-formed text without NUL. */
export const isName = (name: string): boolean => name !== "" && !name.includes("\0") && name.isWellFormed();

/**
 * Checks an append and returns its size in bytes. Throws `RangeError` for what is a fault of the caller (no events, a
 * revision below -1, a name or id that does not come back exactly), `AppendTooLarge` above the limit.
 */
export function checkAppend(stream: string, expectedRevision: number, events: readonly NewEvent[]): number {
  if (!isName(stream) || Buffer.byteLength(stream) > MAX_STREAM_BYTES) {
    throw new RangeError(`a stream name is 1 to ${MAX_STREAM_BYTES} bytes of text without NUL`);
  }
  if (!Number.isInteger(expectedRevision) || expectedRevision < NO_STREAM || expectedRevision > MAX_REVISION) {
    throw new RangeError(`no revision to expect: ${expectedRevision}`);
  }
  if (events.length === 0) throw new RangeError("an append needs at least one event");
  let bytes = 0;
  for (const event of events) {
    if (!UUID.test(event.id)) throw new RangeError(`not a lower-case UUID: ${event.id}`);
    if (!isName(event.type)) throw new RangeError("an event type is text without NUL");
    bytes += sizeOf(event);
  }
  if (bytes > MAX_APPEND_BYTES) throw new AppendTooLarge(bytes);
  return bytes;
}

/** Throws `RangeError` unless it is something to read of a stream. */
export function checkStreamRead({ from, limit }: StreamRead): void {
  checkLimit(limit);
  if (from !== undefined && !Number.isSafeInteger(from)) throw new RangeError(`no revision to read from: ${from}`);
}

/** Throws `RangeError` unless it is a number of events to read. */
export function checkLimit(limit: number): void {
  if (!Number.isSafeInteger(limit) || limit < 0) throw new RangeError(`not a number of events: ${limit}`);
}

/**
 * The number in a position of the log `logId`, 0 for `start`. Beyond what a number holds exactly it is the largest
 * that does: no log has as many events. Throws `RangeError` for a position of another log, or none.
 */
export function numberOf(logId: string, after: Position | "start"): number {
  if (after === "start") return 0;
  const parsed = parsePosition(after);
  if (parsed === undefined) throw new RangeError(`not a position: ${after}`);
  if (parsed.logId !== logId) throw new RangeError(`a position of log ${parsed.logId}, but this is log ${logId}`);
  return parsed.value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(parsed.value);
}
