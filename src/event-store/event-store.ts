// The event-store port: what every adapter promises, its errors, and the checks that all adapters share.

import { randomBytes, randomUUID } from "node:crypto";
import { z } from "zod";
import type { Instant } from "../contract/time.ts";
import { BLOB_STREAMS } from "../domain/blob.ts";

/**
 * A position in the log: `<log id>.<16 lower-case hex digits>`. Positions of one log are unique to each event, grow in
 * commit order, and compare bytewise. They need not be contiguous. Positions of two logs must never be compared.
 */
export type Position = `${string}.${string}`;

/** The revision that a stream without events is said to have; the first event has revision 0. */
export const NO_STREAM = -1;

/** The most bytes (data, metadata and type summed over its events) that one append may carry. */
export const MAX_APPEND_BYTES = 1024 * 1024;

/**
 * An event as it is handed to the log: exact bytes, which come back unchanged. Nobody changes the arrays from then on:
 * subscriptions may be handed the very same ones.
 */
export type NewEvent = {
  /** UUID, derived from (stream, command, index): the same event sent twice has the same id. */
  readonly id: string;
  /** Without a version in the name. */
  readonly type: string;
  /** UTF-8 JSON. */
  readonly data: Uint8Array;
  /** UTF-8 JSON. */
  readonly metadata: Uint8Array;
};

/** An event as the log holds it. */
export type RecordedEvent = NewEvent & {
  readonly stream: string;
  /** 0 for the first event of its stream, then without gaps. */
  readonly revision: number;
  readonly position: Position;
  /** The store's clock; never decided on. */
  readonly recordedAt: Instant;
};

export type Appended = { readonly revision: number; readonly position: Position };

export type StreamRead = {
  /** The first revision to read, inclusive. Default: the stream's end in that direction. */
  readonly from?: number;
  readonly direction?: "forward" | "backward";
  readonly limit: number;
};

export type AllRead = {
  /** Exclusive; `start` reads from the first event. */
  readonly after: Position | "start";
  readonly limit: number;
} & (
  | {
      /** Ends the page once it has so many bytes: it may hold fewer events than `limit`, but one if there is one. */
      readonly maxBytes?: number;
      readonly withoutBlobs?: never;
    }
  | {
      /** Leaves out the events of blobs. */
      readonly withoutBlobs?: boolean;
      readonly maxBytes?: never;
    }
);

/** Whether it holds a part of large content. */
export const isBlob = ({ stream }: Pick<RecordedEvent, "stream">): boolean => stream.startsWith(BLOB_STREAMS);

const NOTHING = new Uint8Array();
/** An event as subscriptions need it to move on: one of a blob without its content. */
export const withoutContent = (event: RecordedEvent): RecordedEvent =>
  isBlob(event) ? { ...event, data: NOTHING, metadata: NOTHING } : event;

/**
 * What a subscription hands over: events in position order, and the position that is handled once they are. There may be
 * no events: it moves over those of blobs.
 */
export type Batch = { readonly events: readonly RecordedEvent[]; readonly upTo: Position };

export type SubscribeOptions = {
  /** Shows in logs and in `/readyz`. */
  readonly name: string;
  /** Exclusive; `start` begins with the first event. */
  readonly after: Position | "start";
  /** At most this many events a batch. Default 500. */
  readonly maxBatch?: number;
  /** Called with one batch after the other, never twice at once. When it throws, the same events come again, after a backoff. */
  readonly handle: (batch: Batch) => Promise<void>;
  /**
   * Awaited after each batch that reached the log's end, so that events appended meanwhile come in one batch. Must resolve
   * soon, at the latest when the subscription closes.
   */
  readonly linger?: () => Promise<void>;
};

export type SubscriptionStatus = {
  readonly name: string;
  readonly state: "catching_up" | "live" | "retrying" | "closed";
  /** The last position handled, or where it began. */
  readonly handled: Position | "start";
  readonly lastError: string | null;
};

export interface Subscription extends AsyncDisposable {
  status(): SubscriptionStatus;
}

/**
 * An append-only log of streams.
 *
 * - **Order.** Events of a stream have revisions 0, 1, 2, … without gaps. Position order is commit order: a reader that
 *   has seen position p never later meets an event at or before p, with any number of writers and processes.
 * - **Atomicity.** An append is written whole or not at all, and only if the stream's last revision equals the expected
 *   one; there is no "any" revision. It returns once it is durable.
 * - **Sending again.** The same ids with the same expected revision succeed and write nothing when exactly these
 *   events already follow it; the answer gives their own last revision and position.
 * - **Errors.** `WrongExpectedRevision`: known, nothing was written. `AppendTooLarge`: known, nothing was written.
 *   `OutcomeUnknown`: it may have been written; send the same append again until the answer is another one.
 *   `StoreUnavailable` (reads): try again later.
 * - **Subscriptions** deliver every event after their position but those of blobs, in order, at least once, each batch
 *   after the previous one was handled. A drop, an error or a normal end of the connection reconnects after the last handled position.
 * - **Not promised.** Contiguous positions; atomic appends to two streams; a recorded time that only grows.
 */
export interface EventStore extends AsyncDisposable {
  /** Made once, kept in the log's first event. A checkpoint of another log must not be used with this one. */
  readonly logId: string;
  append(stream: string, expectedRevision: number, events: readonly NewEvent[]): Promise<Appended>;
  /** A stream that does not exist reads as empty; so does reading past its end. */
  readStream(stream: string, read: StreamRead): Promise<readonly RecordedEvent[]>;
  readAll(read: AllRead): Promise<readonly RecordedEvent[]>;
  /** The position of the last event in the log. */
  tail(): Promise<Position>;
  subscribe(options: SubscribeOptions): Subscription;
  /** One line for `/readyz`: reachable or not. */
  ping(): Promise<void>;
}

/** The stream is not where the append expected it; nothing was written. */
export class WrongExpectedRevision extends Error {
  override readonly name = "WrongExpectedRevision";
  readonly stream: string;
  readonly expected: number;
  readonly actual: number;
  constructor(stream: string, expected: number, actual: number) {
    super(`stream ${stream}: expected revision ${expected}, found ${actual}`);
    this.stream = stream;
    this.expected = expected;
    this.actual = actual;
  }
}

/** The append carries more than MAX_APPEND_BYTES; nothing was written. */
export class AppendTooLarge extends Error {
  override readonly name = "AppendTooLarge";
  readonly bytes: number;
  constructor(bytes: number) {
    super(`an append of ${bytes} bytes is over the limit of ${MAX_APPEND_BYTES}`);
    this.bytes = bytes;
  }
}

/** The connection failed or the time was up between sending and answer: the events may or may not be in the log. */
export class OutcomeUnknown extends Error {
  override readonly name = "OutcomeUnknown";
}

/** The store cannot be reached for reading now. */
export class StoreUnavailable extends Error {
  override readonly name: string = "StoreUnavailable";
}

/** What an event counts towards MAX_APPEND_BYTES. */
export const sizeOf = (event: NewEvent): number => bytesOf(event) + Buffer.byteLength(event.type);

/** The bytes of an event's data and metadata: what it weighs where it is read. */
export const bytesOf = ({ data, metadata }: Pick<NewEvent, "data" | "metadata">): number =>
  data.byteLength + metadata.byteLength;

/** Makes a position of a log from its number. */
export const positionOf = (logId: string, value: bigint | number): Position =>
  `${logId}.${value.toString(16).padStart(16, "0")}`;

/** The last position before an event's; there need be no event. */
export function positionBefore(position: Position): Position {
  const { logId, value } = parsePosition(position) ?? { logId: "", value: 0n };
  return positionOf(logId, value - 1n);
}

const POSITION = /^([A-Za-z0-9]{1,64})\.([0-9a-f]{16})$/;

/** Reads a position; undefined when it is none. */
export function parsePosition(text: string): { logId: string; value: bigint } | undefined {
  const match = POSITION.exec(text);
  if (match === null) return undefined;
  const [, logId = "", hex = "0"] = match;
  return { logId, value: BigInt(`0x${hex}`) };
}

// What every adapter refuses before it sends anything, so that no store gets what it cannot give back exactly.

/** The longest stream name, in UTF-8 bytes: names are kept in an index, whose entries are limited. */
const MAX_STREAM_BYTES = 1_000;

/** The highest revision an append may expect, so that every store's integers hold what follows. */
const MAX_REVISION = 2 ** 31 - 1 - MAX_APPEND_BYTES;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether every store gives this name back exactly: well-formed text without NUL. */
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
    throw new RangeError(
      `expected revision must be a whole number from ${NO_STREAM} to ${MAX_REVISION}: ${expectedRevision}`,
    );
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

/** Throws `RangeError` for a limit or revision that is not a number of the kind. */
export function checkStreamRead({ from, limit }: StreamRead): void {
  checkLimit(limit);
  if (from !== undefined && !Number.isSafeInteger(from))
    throw new RangeError(`a stream is read from a whole revision, not from ${from}`);
}

/** Throws `RangeError` unless it is a whole number of events, from 0. */
export function checkLimit(limit: number): void {
  if (!Number.isSafeInteger(limit) || limit < 0) throw new RangeError(`limit must be a whole number from 0: ${limit}`);
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

// The log's first event carries the log's id.

/** The stream of the first event, and of nothing else. */
export const LOG_STREAM = "log";
const LOG_CREATED = "LogCreated";
const LogCreatedData = z.object({ log_id: z.string().regex(/^[A-Za-z0-9]{1,64}$/) });

/** A new log's id: random, so that no two logs have the same. */
export const newLogId = (): string => randomBytes(8).toString("hex");

/** The first event of a log. Throws RangeError when the id does not fit into a position. */
export function logCreated(logId: string, at: Instant): NewEvent {
  if (!LogCreatedData.safeParse({ log_id: logId }).success) throw new RangeError(`not a log id: ${logId}`);
  const data = Buffer.from(JSON.stringify({ log_id: logId }));
  return { id: randomUUID(), type: LOG_CREATED, data, metadata: systemMetadata(randomUUID(), at) };
}

/** Metadata, as bytes, of an event that no caller's command made. */
export const systemMetadata = (command: string, at: Instant): Uint8Array =>
  Buffer.from(
    JSON.stringify({
      ...{ v: 1, at, client: null, actor: { type: "system", id: "chatapi" } },
      ...{ command, correlation: command, causation: command, subjects: [] },
    }),
  );

/** The log's id, from its first event. Throws when that is another event: then this is not a log of ours. */
export function logIdOf(first: Pick<NewEvent, "type" | "data">): string {
  if (first.type !== LOG_CREATED) throw new Error(`the log begins with ${first.type}, not with ${LOG_CREATED}`);
  return LogCreatedData.parse(JSON.parse(Buffer.from(first.data).toString())).log_id;
}

/** Whether it is the log's first event, by its name. */
export const isFirstEvent = ({ stream, revision, type }: { stream: string; revision: number; type: string }): boolean =>
  stream === LOG_STREAM && revision === 0 && type === LOG_CREATED;
