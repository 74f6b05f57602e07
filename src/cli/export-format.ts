// The export's format: NDJSON, one line a thing. A header, then every event in position order, then the data keys, wrapped.
import { z } from "zod";
import type { NewEvent, Position, RecordedEvent } from "../event-store/event-store.ts";
import { WrappedKeySchema } from "../event-store/keyring-moving.ts";

/** Raised with every change that an older importer could not read. */
export const EXPORT_VERSION = 1;

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

export const lineOf = (event: RecordedEvent): EventLine => ({
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

/** The event as it goes into another log: the same but for `origin`, which says where it stood; the first origin stays. */
export function importedEvent(line: EventLine, log: string): NewEvent {
  const metadata: unknown = JSON.parse(line.metadata);
  const known = z.looseObject({ origin: z.unknown().optional() }).parse(metadata);
  const origin = known.origin ?? { log, position: line.position };
  return {
    id: line.id,
    type: line.type,
    data: bytes.encode(line.data),
    metadata: bytes.encode(JSON.stringify({ ...known, origin })),
  };
}
