// Between our events and the client's: exact bytes both ways, positions as text, and what the client's errors say.

import { isUtf8 } from "node:buffer";
import {
  type BinaryEventType,
  binaryEvent,
  type Position as ClientPosition,
  ErrorType,
  type EventData,
} from "@eventstore/db-client";
import { LRUCache } from "lru-cache";
import { messageOf } from "../../platform/supervise.ts";
import {
  AppendTooLarge,
  type NewEvent,
  NO_STREAM,
  OutcomeUnknown,
  type Position,
  parsePosition,
  positionOf,
  type RecordedEvent,
  sizeOf,
  WrongExpectedRevision,
} from "../event-store.ts";

/**
 * The client parses metadata on reading whenever it is JSON, and the bytes are gone. Metadata that would not come back
 * byte for byte is marked, so that the client leaves it alone: no JSON text begins with this byte.
 */
const EXACT = 0x01;

/** The event as the client sends it. Data is sent as bytes: the client writes JSON anew. */
export const toEventData = ({ id, type, data, metadata }: NewEvent): EventData =>
  binaryEvent<BinaryEventType>({ id, type, data: plain(data), metadata: storedMetadata(metadata) });

/** The client takes a Buffer's metadata for an object to write as JSON. */
const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function storedMetadata(metadata: Uint8Array): Uint8Array {
  if (isStable(metadata)) return plain(metadata);
  const marked = new Uint8Array(metadata.byteLength + 1);
  marked[0] = EXACT;
  marked.set(metadata, 1);
  return marked;
}

function isStable(metadata: Uint8Array): boolean {
  if (!isUtf8(metadata)) return false;
  try {
    const text = Buffer.from(metadata.buffer, metadata.byteOffset, metadata.byteLength).toString("utf8");
    return JSON.stringify(JSON.parse(text)) === text;
  } catch {
    return false;
  }
}

function exactMetadata(metadata: unknown): Uint8Array {
  if (!(metadata instanceof Uint8Array)) return Buffer.from(JSON.stringify(metadata));
  return metadata[0] === EXACT ? metadata.subarray(1) : metadata;
}

/** Which log it is, on a server that may hold others. */
export type LogNames = {
  /** Before the name of each of its streams. */
  readonly prefix: string;
  /** Known once the log's first event is read; nothing is positioned before. */
  logId: string;
};

/** What the client reads, as far as we use it. */
export type ClientRecord = {
  readonly streamId: string;
  readonly id: string;
  readonly revision: bigint;
  readonly type: string;
  readonly created: Date;
  readonly data: unknown;
  readonly metadata?: unknown;
  readonly position?: ClientPosition | undefined;
};

/** Where the event stands; the server says it of every event, prepare and commit being the same. */
export function commitOf({ position }: ClientRecord): bigint {
  if (position === undefined) throw new Error("the server gave an event without its position");
  return position.commit;
}

/** The event as we know it, without the prefix of its stream. */
export const fromRecord = (record: ClientRecord, { logId, prefix }: LogNames): RecordedEvent => ({
  id: record.id,
  type: record.type,
  data: record.data instanceof Uint8Array ? record.data : Buffer.from(JSON.stringify(record.data)),
  metadata: exactMetadata(record.metadata),
  stream: record.streamId.slice(prefix.length),
  revision: Number(record.revision),
  position: positionOf(logId, commitOf(record)),
  recordedAt: record.created.getTime(),
});

/** The client's position for one of ours: it need not stand for an event. Throws `RangeError` for one of another log. */
export function clientPosition({ logId }: LogNames, position: Position): ClientPosition {
  const parsed = parsePosition(position);
  if (parsed?.logId !== logId) throw new RangeError(`not a position of log ${logId}: ${position}`);
  return { commit: parsed.value, prepare: parsed.value };
}

/** Bytes of its own events that a process keeps. */
const MAX_WRITTEN_BYTES = 8 * 1024 * 1024;

export class WrittenEvents {
  readonly #byId = new LRUCache<string, NewEvent>({ maxSize: MAX_WRITTEN_BYTES, sizeCalculation: sizeOf });

  add(events: readonly NewEvent[]): void {
    for (const event of events) this.#byId.set(event.id, event);
  }

  /**
   * The event with the writer's own arrays, when it has the same bytes: what is known of those (`PlaintextCache`) need not
   * be found out again. Of two events that were sent under one id only one is in the log, and it need not be the last.
   */
  sameBytes(recorded: RecordedEvent): RecordedEvent {
    const own = this.#byId.get(recorded.id);
    if (
      own === undefined ||
      /* fence: written-data */ !isSame(own.data, recorded.data) ||
      /* fence: written-metadata */ !isSame(own.metadata, recorded.metadata)
    )
      return recorded;
    return { ...recorded, data: own.data, metadata: own.metadata };
  }
}

const isSame = (one: Uint8Array, other: Uint8Array): boolean => Buffer.compare(one, other) === 0;

/** gRPC's. */
const UNAVAILABLE_CODE = 14;

/** The client's name for an error; undefined for what comes straight from its transport. */
export const typeOf = (error: unknown): unknown => (error instanceof Error && "type" in error ? error.type : undefined);

/** Refusals that the server gives before it writes anything; all else may have been written. */
const REFUSED: ReadonlySet<unknown> = new Set([
  ErrorType.WRONG_EXPECTED_VERSION,
  ErrorType.MAXIMUM_APPEND_SIZE_EXCEEDED,
  ErrorType.ACCESS_DENIED,
  ErrorType.INVALID_ARGUMENT,
  ErrorType.STREAM_DELETED,
]);

/** Whether the server has answered the append, if only to refuse it. */
export const isRefusal = (error: unknown): boolean =>
  error instanceof WrongExpectedRevision || REFUSED.has(typeOf(error));

/** Whether the server itself has given up waiting; the batch path knows no other deadline. */
export const isServersTimeout = (error: unknown): boolean => typeOf(error) === ErrorType.DEADLINE_EXCEEDED;

/** Whether another node leads the cluster; the client goes there with the next call. */
export const isNotLeader = (error: unknown): boolean => typeOf(error) === ErrorType.NOT_LEADER;

/** Whether the server could not be connected to, or the connection to it broke; also as the transport says it. */
export const isUnavailable = (error: unknown): boolean =>
  typeOf(error) === ErrorType.UNAVAILABLE ||
  (error instanceof Error && "code" in error && error.code === UNAVAILABLE_CODE);

/** How long to wait before a call goes to another node: the client needs that to connect to it. */
export const RETRY_MS = 20;

/** The error that the port names, or the client's own for a refusal that it does not. */
export function appendError(error: unknown, stream: string, expected: number, bytes: number): unknown {
  if (error instanceof OutcomeUnknown || error instanceof WrongExpectedRevision) return error;
  const type = typeOf(error);
  if (type === ErrorType.WRONG_EXPECTED_VERSION && error instanceof Error && "actualVersion" in error) {
    const actual = typeof error.actualVersion === "bigint" ? Number(error.actualVersion) : NO_STREAM;
    return new WrongExpectedRevision(stream, expected, actual);
  }
  if (type === ErrorType.MAXIMUM_APPEND_SIZE_EXCEEDED) return new AppendTooLarge(bytes);
  return REFUSED.has(type) ? error : new OutcomeUnknown(messageOf(error) || String(type), { cause: error });
}
