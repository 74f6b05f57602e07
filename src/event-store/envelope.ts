// The envelope of an event: its metadata, and how events become bytes and come back (sealing, schemas, versions, upcasting).
import { z } from "zod";
import { type ClientId, ClientIdSchema, type Subject, SubjectSchema } from "../contract/ids.ts";
import { type JsonObject, JsonObjectSchema, parseJson } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import { catalogue, type DomainEvent } from "../domain/catalogue.ts";
import type { Actor } from "../domain/decider.ts";
import { type EventDefinition, upcast } from "../domain/event.ts";
import type { StageClock } from "../platform/metrics.ts";
import { eventId } from "./derived-ids.ts";
import { isSigned } from "./event-macs.ts";
import { type NewEvent, type Position, type RecordedEvent, StoreUnavailable } from "./event-store.ts";
import {
  blobsOf,
  type DataKey,
  ForgedSeal,
  type Keyring,
  openBlobs,
  type Plaintext,
  putBlobs,
  takeSealed,
} from "./sealing.ts";

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
  /** Of a request whose stages are measured; no part of the metadata. */
  readonly stages?: StageClock;
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

/** Whether it stands for an event that this program did not write: it changes no state and is shown nowhere as content. */
export const isForged = (event: { readonly type: string }): boolean => event.type === "EventForged";

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
  /** The revision that the first of them will have. Their MACs and sealed fields are good there and nowhere else. */
  readonly firstRevision: number;
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
    const identity = { id, stream, revision: request.firstRevision + index, type: event.type };
    const one = taken[index] ?? { open: {}, sealed: new Map() };
    const subjects = [...one.sealed.keys()].filter((ref): ref is Subject => ref.startsWith("sub_"));
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
    const data = toBytes(putBlobs(one, keys, identity));
    plaintexts.add(data, () => readBack(id, event, metadata));
    return keyring.macs.sign({ id, type: event.type, data, metadata: toBytes(metadata) }, identity);
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
  readable(event, () => JsonObjectSchema.parse(parseJson(text.decode(event.data))));

/** A data key that seals events is neither here nor known to have been destroyed: the database has lost it. */
class MissingDataKey extends StoreUnavailable {
  override readonly name = "MissingDataKey";
}

/**
 * Turns recorded events into typed ones: opens sealed fields, upcasts, and checks them against their schema. Events that
 * this process has just written come from its plaintext cache; a forged one comes as `EventForged`. Throws
 * UnreadableEvent, MissingDataKey.
 */
export async function decode(keyring: Keyring, events: readonly RecordedEvent[]): Promise<readonly StoredEvent[]> {
  const plaintexts = keyring.plaintextCache.current();
  const found = events.map((event) => {
    const plaintext = plaintexts.find(event.data);
    return plaintext === undefined ? unlessForged(keyring, event, sealedData) : { event, plaintext };
  });
  const blobs = found.flatMap((one) => ("blobs" in one ? one.blobs : []));
  const keys = await keyring.keysById(new Set(blobs.map((blob) => blob.key)));
  const missing = new Set(blobs.map((blob) => blob.key).filter((id) => !keys.has(id)));
  const erased = missing.size === 0 ? missing : await keyring.destroyedAmong(missing);
  return found.map((one) => {
    if (!("blobs" in one)) return typed(one.event, one.plaintext);
    // fence: missing-key
    const lost = one.blobs.find(({ key }) => missing.has(key) && !erased.has(key) && isSigned(one.event));
    if (lost !== undefined) throw new MissingDataKey(missingKeyMessage(lost.key, one.event));
    return unlessForged(keyring, one.event, (event) => open(event === one.event ? one : sealedData(event), keys));
  });
}

const missingKeyMessage = (key: string, { stream, revision }: RecordedEvent): string =>
  `the database lacks the data key ${key}, which seals ${stream}@${revision}: restore the schema keys that belongs to this log`;

/** What an error says of an event. */
type EventName = Pick<RecordedEvent, "id" | "type">;

type SealedData = {
  readonly event: RecordedEvent;
  readonly raw: JsonObject;
  readonly blobs: ReturnType<typeof blobsOf>;
};

/**
 * The result of `read`; of a forged event what stands for it. An event without a MAC was written by an earlier version, so
 * that whatever this version cannot read in it was not written by either.
 */
function unlessForged<T>(keyring: Keyring, event: RecordedEvent, read: (event: RecordedEvent) => T): T {
  try {
    return read(event);
  } catch (error) {
    const isForged = error instanceof UnreadableEvent && (error.cause instanceof ForgedSeal || !isSigned(event));
    if (!isForged) throw error;
    return read(keyring.macs.forged(event));
  }
}

function sealedData(event: RecordedEvent): SealedData {
  const raw = decodeRaw(event);
  return { event, raw, blobs: readable(event, () => blobsOf(raw)) };
}

const typed = ({ id, type, stream, revision, position }: RecordedEvent, { data, meta }: Plaintext): StoredEvent =>
  ({ type, data, id, stream, revision, position, meta }) as StoredEvent;

function open({ event, raw, blobs }: SealedData, keys: ReadonlyMap<string, DataKey>): StoredEvent {
  const meta = decodeMetadata(event);
  const { seals } = definitionOf(event.type);
  const opened = readable(event, () => openBlobs(raw, blobs, seals, keys, event));
  return typed(event, { data: upcastEvent(event, meta.v, opened), meta });
}

/** What opening the bytes of an event that was just written would give: the same way through JSON and schema. */
function readBack(id: string, { type, data }: { type: string; data: unknown }, metadata: Metadata): Plaintext {
  const event = { id, type };
  const meta = readable(event, () => MetadataSchema.parse(metadata));
  return { data: upcastEvent(event, meta.v, JsonObjectSchema.parse(parseJson(JSON.stringify(data)))), meta };
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
