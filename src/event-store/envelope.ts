// The envelope of an event: its metadata, and how events become bytes and come back (sealing, schemas, versions, upcasting).
import { randomBytes, randomUUID } from "node:crypto";
import { z } from "zod";
import { type ClientId, ClientIdSchema, type Subject, SubjectSchema } from "../contract/ids.ts";
import { type JsonObject, JsonObjectSchema } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import { catalogue, type DomainEvent } from "../domain/catalogue.ts";
import type { Actor } from "../domain/decider.ts";
import { type EventDefinition, upcast } from "../domain/event.ts";
import { eventId } from "./derived-ids.ts";
import type { NewEvent, Position, RecordedEvent } from "./event-store.ts";
import { blobsOf, type DataKey, type Keyring, openBlobs, type Plaintext, putBlobs, takeSealed } from "./sealing.ts";

/** Who caused an event. */
const ActorSchema: z.ZodType<Actor> = z.discriminatedUnion("type", [
  z.object({ type: z.literal("user"), id: SubjectSchema }),
  z.object({ type: z.enum(["key", "operator", "system"]), id: z.string() }),
]);

const MetadataSchema = z.object({
  /** The schema version of data. */
  v: z.number(),
  /** The command's time, never earlier than that of the stream's event before. */
  at: z.number(),
  client: ClientIdSchema.nullable(),
  actor: ActorSchema,
  /** The command's id; deterministic when `fingerprint` is there. */
  command: z.string(),
  /** HMAC of the request's body, when it came under an idempotency key. */
  fingerprint: z.string().optional(),
  correlation: z.string(),
  causation: z.string(),
  /** The people whose keys seal a field of this event. */
  subjects: z.array(SubjectSchema),
  /** Its position in the log that it was imported from. */
  origin: z.object({ log: z.string(), position: z.string() }).optional(),
});
type Metadata = z.infer<typeof MetadataSchema>;

/** What the caller of a command knows about it; it becomes metadata of the events. */
export type CommandContext = {
  readonly client: ClientId | null;
  readonly actor: Actor;
  readonly commandId: string;
  /** Present for a command under an idempotency key: sent again under the same id, it is answered and not decided again. */
  readonly fingerprint?: string;
  readonly correlation: string;
  readonly causation: string;
};

/** The context of a command that no idempotency window needs to keep: doing it again changes nothing. */
export const unkeyed = ({ fingerprint: _fingerprint, ...context }: CommandContext): CommandContext => context;

/** An event as code sees it: typed, upcast, its sealed fields opened or known to be erased. */
export type StoredEvent<E extends { type: string; data: unknown } = DomainEvent> = E & {
  readonly id: string;
  readonly stream: string;
  readonly revision: number;
  readonly position: Position;
  readonly meta: Metadata;
};

/** This version of the code cannot read an event of the log: the event is damaged, or written by newer code. */
class UnreadableEvent extends Error {
  override readonly name = "UnreadableEvent";
}

const definitions: Readonly<Record<string, EventDefinition>> = catalogue;
const text = new TextDecoder("utf-8", { fatal: true });
const bytes = new TextEncoder();

type EncodeRequest = {
  readonly stream: string;
  readonly events: readonly { type: string; data: unknown }[];
  readonly context: CommandContext;
  readonly at: Instant;
  /** The process that decided them; part of the event ids. */
  readonly writerId?: string;
};

/** Makes the bytes of a command's events. Data keys that are missing are made and durable before this returns. */
export async function encode(keyring: Keyring, request: EncodeRequest): Promise<readonly NewEvent[]> {
  const { stream, context } = request;
  // fence: erasure-while-sealing
  const plaintexts = keyring.plaintextCache.current();
  const taken = request.events.map((event) => takeSealed(event.data, definitionOf(event.type).seals));
  const keys = await keyring.keysFor(context.client, new Set(taken.flatMap((one) => [...one.sealed.keys()])));
  return request.events.map((event, index) => {
    const id = eventId(stream, context.commandId, index, request.writerId);
    const { open, sealed } = taken[index] ?? { open: {}, sealed: new Map() };
    const subjects = [...sealed.keys()].filter((ref): ref is Subject => ref.startsWith("sub_"));
    const metadata: Metadata = {
      v: definitionOf(event.type).v,
      at: request.at,
      client: context.client,
      actor: context.actor,
      command: context.commandId,
      ...(context.fingerprint === undefined ? {} : { fingerprint: context.fingerprint }),
      correlation: context.correlation,
      causation: context.causation,
      subjects,
    };
    const data = toBytes(putBlobs(open, sealed, keys, id));
    plaintexts.add(data, () => readBack(id, event, metadata));
    return { id, type: event.type, data, metadata: toBytes(metadata) };
  });
}

const toBytes = (value: unknown): Uint8Array => bytes.encode(JSON.stringify(value));

function definitionOf(type: string): EventDefinition {
  const definition = Object.hasOwn(definitions, type) ? definitions[type] : undefined;
  if (definition === undefined) throw new UnreadableEvent(`unknown event type ${type}`);
  return definition;
}

/** Reads the metadata alone; throws UnreadableEvent. */
export function decodeMetadata(event: RecordedEvent): Metadata {
  return readable(event, () => MetadataSchema.parse(JSON.parse(text.decode(event.metadata))));
}

/** Parses the stored data without opening it: sealed fields are `{"$sealed": [blob, index]}`. For audit and export. */
export const decodeRaw = (event: RecordedEvent): JsonObject =>
  readable(event, () => JsonObjectSchema.parse(JSON.parse(text.decode(event.data))));

/**
 * Turns recorded events into typed ones: opens sealed fields, upcasts, and checks them against their schema. Events that
 * this process has just written come from its plaintext cache. Throws UnreadableEvent.
 */
export async function decode(keyring: Keyring, events: readonly RecordedEvent[]): Promise<readonly StoredEvent[]> {
  const plaintexts = keyring.plaintextCache.current();
  const found = events.map((event) => plaintexts.find(event.data) ?? sealedData(event));
  const blobs = found.flatMap((one) => ("blobs" in one ? one.blobs : []));
  const keys = await keyring.keysById(new Set(blobs.map((blob) => blob.key)));
  return events.map((event, index) => {
    const { id, type, stream, revision, position } = event;
    const one = found[index] ?? NOTHING;
    const { data, meta } = "blobs" in one ? open(event, one, keys) : one;
    return { type, data, id, stream, revision, position, meta } as StoredEvent;
  });
}

/** What an error says of an event. */
type EventName = Pick<RecordedEvent, "id" | "type">;

type SealedData = { readonly raw: JsonObject; readonly blobs: ReturnType<typeof blobsOf> };
const NOTHING: SealedData = { raw: {}, blobs: [] };

function sealedData(event: RecordedEvent): SealedData {
  const raw = decodeRaw(event);
  return { raw, blobs: readable(event, () => blobsOf(raw)) };
}

function open(event: RecordedEvent, { raw, blobs }: SealedData, keys: ReadonlyMap<string, DataKey>): Plaintext {
  const meta = decodeMetadata(event);
  const { seals } = definitionOf(event.type);
  const opened = readable(event, () => openBlobs(raw, blobs, seals, keys, event.id));
  return { data: upcastEvent(event, meta.v, opened), meta };
}

/** What opening the bytes of an event that was just written would give: the same way through JSON and schema. */
function readBack(id: string, { type, data }: { type: string; data: unknown }, metadata: Metadata): Plaintext {
  const event = { id, type };
  const meta = readable(event, () => MetadataSchema.parse(metadata));
  return { data: upcastEvent(event, meta.v, JSON.parse(JSON.stringify(data))), meta };
}

function upcastEvent(event: EventName, from: number, opened: JsonObject): unknown {
  const definition = definitionOf(event.type);
  return readable(event, () => upcast(definition, from, opened));
}

/** The result of `read`. Whatever that throws means that the bytes are damaged or forged: throws UnreadableEvent. */
function readable<T>(event: EventName, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UnreadableEvent(`event ${event.id} (${event.type}): ${why}`, { cause });
  }
}

/** The stream of a log's first event, which carries the log's id, and of nothing else. */
export const LOG_STREAM = "log";
const LOG_CREATED = "LogCreated";
const LogCreatedData = z.object({ log_id: z.string().regex(/^[A-Za-z0-9]{1,64}$/) });

/** A new log's id: random, so that no two logs have the same. */
export const newLogId = (): string => randomBytes(8).toString("hex");

/** The first event of a log. Throws RangeError when the id does not fit into a position. */
export function logCreated(logId: string, at: Instant): NewEvent {
  if (!LogCreatedData.safeParse({ log_id: logId }).success) throw new RangeError(`not a log id: ${logId}`);
  const command = randomUUID();
  const metadata: Metadata = {
    ...{ v: 1, at, client: null, actor: { type: "system", id: "chatapi" } },
    ...{ command, correlation: command, causation: command, subjects: [] },
  };
  return { id: randomUUID(), type: LOG_CREATED, data: toBytes({ log_id: logId }), metadata: toBytes(metadata) };
}

/** The log's id, from its first event. Throws when that is another event: then this is not a log of ours. */
export function logIdOf(first: { readonly type: string; readonly data: Uint8Array }): string {
  if (first.type !== LOG_CREATED) throw new Error(`the log begins with ${first.type}, not with ${LOG_CREATED}`);
  return LogCreatedData.parse(JSON.parse(text.decode(first.data))).log_id;
}
