// `events export`: the whole log and its data keys, as NDJSON: a header, every event in position order, the data keys wrapped.

import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import type { EventMacs } from "../event-store/event-macs.ts";
import {
  type EventStore,
  LOG_STREAM,
  type NewEvent,
  type Position,
  type RecordedEvent,
} from "../event-store/event-store.ts";
import { WrappedKeySchema } from "../event-store/key-transfer.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { Storage } from "../storage.ts";

/** Raised with every change that an older importer could not read. */
const EXPORT_VERSION = 1;

const HeaderSchema = z.object({
  kind: z.literal("header"),
  version: z.literal(EXPORT_VERSION),
  log: z.string(),
  exported_at: z.iso.datetime(),
});
const EventSchema = z.object({
  kind: z.literal("event"),
  position: z.custom<Position>((value) => typeof value === "string"),
  recorded_at: z.iso.datetime(),
  stream: z.string(),
  revision: z.number().int().min(0),
  id: z.uuid(),
  type: z.string(),
  /** The stored bytes, which are UTF-8 JSON, as a string: nothing is parsed or written anew on the way. */
  data: z.string(),
  metadata: z.string(),
});
const KeySchema = WrappedKeySchema.extend({ kind: z.literal("key") });
/** Events and keys as counted while writing: an export that was cut short has none. */
const EndSchema = z.object({ kind: z.literal("end"), events: z.number(), keys: z.number() });

export const LineSchema = z.discriminatedUnion("kind", [HeaderSchema, EventSchema, KeySchema, EndSchema]);
export type Line = z.infer<typeof LineSchema>;
export type EventLine = z.infer<typeof EventSchema>;

const utf8 = new TextDecoder("utf-8", { fatal: true });
const bytes = new TextEncoder();

const lineOf = (event: RecordedEvent): EventLine => ({
  kind: "event",
  position: event.position,
  recorded_at: new Date(event.recordedAt).toISOString(),
  stream: event.stream,
  revision: event.revision,
  id: event.id,
  type: event.type,
  data: utf8.decode(event.data),
  metadata: utf8.decode(event.metadata),
});

/**
 * The event as it goes into another log: the same but for `origin`, which says where it stood (the first origin stays),
 * and for its MAC, which is of the other log's.
 */
export function importedEvent(line: EventLine, log: string, macs: EventMacs): NewEvent {
  const metadata: unknown = JSON.parse(line.metadata);
  const known = z.looseObject({ origin: z.unknown().optional(), mac: z.unknown().optional() }).parse(metadata);
  const origin = known.origin ?? { log, position: line.position };
  const { id, type } = line;
  const { mac: _mac, ...unsigned } = known;
  const moved = {
    id,
    type,
    data: bytes.encode(line.data),
    metadata: bytes.encode(JSON.stringify({ ...unsigned, origin })),
  };
  return macs.sign(moved, line);
}

const PAGE = 1_000;
/** About how many bytes of events are in memory at once: pieces of attachments are large. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;

export type Moved = { readonly events: number; readonly keys: number };

/** Exports into a new file that only its owner can read, on disk when this returns. On failure no part of it stays. */
export async function exportToFile(
  storage: Pick<Storage, "store" | "keyring">,
  file: string,
  now: Date,
  onProgress: (events: number) => void,
): Promise<Moved> {
  try {
    return await exportEvents(
      storage,
      createWriteStream(file, { flags: "wx", mode: 0o600, flush: true }),
      now,
      onProgress,
    );
  } catch (error) {
    const isAnothers = error instanceof Error && "code" in error && error.code === "EEXIST";
    if (!isAnothers) await rm(file, { force: true });
    throw error;
  }
}

/**
 * Writes every event up to the log's end as of the call, then the keys: those are read last, since keys are durable
 * before the events that they seal. The log's own first event stays: each log has its own. Ends `out` unless it is
 * standard output. Throws what the stores throw, and what `out` fails with.
 */
export async function exportEvents(
  storage: Pick<Storage, "store" | "keyring">,
  out: Writable,
  now: Date,
  onProgress: (events: number) => void,
): Promise<Moved> {
  const moved = { events: 0, keys: 0 };
  const lines = linesOf(storage, now, moved, onProgress);
  await pipeline(Readable.from(lines, { highWaterMark: 2 }), out, { end: out !== process.stdout });
  return moved;
}

/** The file, a page of lines at a time; counts what it has given. */
async function* linesOf(
  { store, keyring }: Pick<Storage, "store" | "keyring">,
  now: Date,
  moved: { events: number; keys: number },
  onProgress: (events: number) => void,
): AsyncGenerator<string> {
  const end = await store.tail();
  yield text({ kind: "header", version: EXPORT_VERSION, log: store.logId, exported_at: now.toISOString() });
  for await (const page of eventsUpTo(store, end)) {
    const events = page.filter((event) => event.stream !== LOG_STREAM);
    moved.events += events.length;
    yield events.map((event) => text(lineOf(event))).join("");
    onProgress(moved.events);
  }
  failpoint("events-exported/keys-exported");
  for await (const key of keyring.exportWrapped()) {
    moved.keys += 1;
    yield text({ kind: "key", ...key });
  }
  yield text({ kind: "end", ...moved });
}

const text = (line: Line): string => `${JSON.stringify(line)}\n`;

/** Pages up to a position, inclusive. */
async function* eventsUpTo(store: EventStore, end: Position) {
  for (let after: Position | "start" = "start"; after !== end; ) {
    const page = await store.readAll({ after, limit: PAGE, maxBytes: MAX_PAGE_BYTES });
    const last: Position | undefined = page.at(-1)?.position;
    yield page.filter((event) => event.position <= end);
    if (last === undefined || last >= end) return;
    after = last;
  }
}
