// Between our events and the client's: exact bytes both ways, and positions as text.

import { isUtf8 } from "node:buffer";
import {
  type BinaryEventType,
  binaryEvent,
  type Position as ClientPosition,
  type EventData,
} from "@eventstore/db-client";
import { type NewEvent, type Position, parsePosition, positionOf, type RecordedEvent } from "../event-store.ts";

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
