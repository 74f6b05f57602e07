// The audit: stored events as those see them who check afterwards, found by the read model and read from the log.

import type { AuditEventResource } from "../contract/audit.ts";
import type { PageQuery } from "../contract/fields.ts";
import { type MessageId, type NotificationId, type RoomId, RoomIdSchema, type Subject } from "../contract/ids.ts";
import { isObject, type JsonObject, type JsonValue } from "../contract/json.ts";
import { type Instant, rfc3339 } from "../contract/time.ts";
import { catalogue } from "../domain/catalogue.ts";
import { clientStream } from "../domain/client.ts";
import { DomainError } from "../domain/decider.ts";
import { DELIVERY_STREAMS } from "../domain/delivery-state.ts";
import type { EventDefinition } from "../domain/event.ts";
import { readsStream } from "../domain/reads.ts";
import { roomStream } from "../domain/room.ts";
import { userStream } from "../domain/user.ts";
import { decode, type StoredEvent } from "../event-store/envelope.ts";
import { isBlob, type Position, type RecordedEvent } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { type AuditRow, auditPage } from "../projections/models/audit.ts";
import { deletedAmong, notificationById } from "../projections/models/notifications.ts";
import { userIdsOf } from "../projections/models/users.ts";
import { type Page, pageOf, readCursor } from "../projections/page.ts";
import { notificationOf } from "../projections/projection.ts";
import type { ReadAs } from "../projections/read-side.ts";
import { AppError } from "./errors.ts";
import type { Call, Caller, Services } from "./services.ts";
import { streamOwner } from "./stream-owner.ts";

const READS_AT_ONCE = 16;
/** The tenant's own stream, by its short name. */
const OWN_STREAM = "client";

/** Types of stored events, as filters name them. */
export const EVENT_TYPES = Object.keys(catalogue) as [keyof typeof catalogue, ...(keyof typeof catalogue)[]];

type AuditPage = Promise<Page<AuditEventResource>>;
type AuditQuery = PageQuery & {
  readonly type?: readonly string[] | undefined;
  readonly from?: Instant | undefined;
  readonly to?: Instant | undefined;
  /** A position: only events after it. */
  readonly after?: string | undefined;
  /** Ids of keys or users. */
  readonly actor?: readonly string[] | undefined;
  readonly correlation_id?: readonly string[] | undefined;
  readonly room_id?: readonly string[] | undefined;
  readonly message_id?: MessageId | undefined;
  readonly notification_id?: NotificationId | undefined;
  readonly user_id?: string | undefined;
};

/** The client's events, oldest first. Throws invalid_position, InvalidCursor. */
export async function listEvents({ services, caller, read }: Call, query: AuditQuery): AuditPage {
  const { limit, from, to, type: types } = query;
  const [begun] = readCursor(query.cursor, ["text"]) ?? [];
  const after = begun ?? (query.after === undefined ? undefined : await positionNamed(services, caller, query.after));
  // Users act by subject.
  const subjects = query.actor?.map((one) => services.keyring.subjectOfUser(caller.client, one));
  const actor = subjects === undefined ? undefined : [...(query.actor ?? []), ...(await Promise.all(subjects))];
  const subject = query.user_id && (await services.keyring.subjectOfUser(caller.client, query.user_id));
  const list = omitUndefined({
    ...{ types, from, to, actor, after: after as Position | undefined },
    correlation: query.correlation_id,
    // What is no id names no stream.
    streams: query.room_id?.flatMap((id) => [roomStream(id as RoomId), readsStream(id as RoomId)]),
    message: query.message_id,
    notification: query.notification_id,
    user: subject ? { subject, stream: userStream(subject as Subject) } : undefined,
  });
  const rows = await auditPage(read, { ...list, limit: limit + 1 });
  return shownPage(services, read, rows, limit);
}

/** A position that a caller names in a query. Throws invalid_position, StoreUnavailable. */
export async function positionNamed(
  { positions, readSide }: Pick<Services, "positions" | "readSide">,
  { client }: Pick<Caller, "client">,
  text: string,
): Promise<Position> {
  const position = positions.open(client, text);
  const where = position === undefined ? "foreign" : await readSide.compare(position);
  if (position !== undefined && where !== "foreign" && where !== "beyond") return position;
  throw new AppError("invalid_position", {
    detail: "`after` is damaged, or is no position that the client was given.",
  });
}

/** The events of one of the client's streams, oldest first; `client` is its own. Throws not_found, InvalidCursor. */
export async function listStreamEvents({ services, caller, read }: Call, named: string, query: PageQuery): AuditPage {
  const stream = named === OWN_STREAM ? clientStream(caller.client) : named;
  // What is in a blob is no fact to check, and too large for a page.
  if (isBlob({ stream }) || (await streamOwner(services.store, stream)) !== caller.client) {
    const hint = RoomIdSchema.safeParse(named).success
      ? `did you mean the stream ${roomStream(named as RoomId)}?`
      : undefined;
    throw new DomainError("not_found", hint);
  }
  const [before] = readCursor(query.cursor, ["integer"]) ?? [];
  const from = before === undefined ? 0 : before + 1;
  const recorded = await services.store.readStream(stream, { from, limit: query.limit + 1 });
  const { rows, next } = pageOf(recorded, query.limit, (last) => [last.revision]);
  return { rows: await shownEvents(services, read, rows), next };
}

/**
 * Every event of a notification and of its deliveries, the mails of fallbacks included, oldest first. Throws not_found,
 * InvalidCursor.
 */
export async function notificationTimeline({ services, read }: Call, id: NotificationId, query: PageQuery): AuditPage {
  if ((await notificationById(read, id)) === undefined) throw new DomainError("not_found");
  const [after] = readCursor(query.cursor, ["text"]) ?? [];
  const list = omitUndefined({ notification: id, after: after as Position | undefined });
  const rows = await auditPage(read, { ...list, limit: query.limit + 1 });
  return shownPage(services, read, rows, query.limit);
}

/** The events of one of the client's streams that is known to be its own, oldest first. Throws InvalidCursor. */
export async function streamTimeline({ services, read }: Call, stream: string, query: PageQuery): AuditPage {
  const [after] = readCursor(query.cursor, ["text"]) ?? [];
  const list = omitUndefined({ streams: [stream], after: after as Position | undefined });
  const rows = await auditPage(read, { ...list, limit: query.limit + 1 });
  return shownPage(services, read, rows, query.limit);
}

async function shownPage(services: Services, read: ReadAs, rows: readonly AuditRow[], limit: number): AuditPage {
  const page = pageOf(rows, limit, (last) => [last.position]);
  return { rows: await shownEvents(services, read, await eventsAt(services, page.rows)), next: page.next };
}

/** Where an event is found. */
type EventRef = Pick<AuditRow, "stream" | "revision" | "position">;

/** The events that these refer to, in their order; runs of one stream are read at once. */
export async function eventsAt(
  { store }: Pick<Services, "store">,
  refs: readonly EventRef[],
): Promise<readonly RecordedEvent[]> {
  const runs: { stream: string; from: number; limit: number }[] = [];
  for (const [stream, there] of Map.groupBy(refs, (ref) => ref.stream)) {
    for (const revision of there.map((ref) => ref.revision).toSorted((a, b) => a - b)) {
      const last = runs.at(-1);
      if (last?.stream === stream && last.from + last.limit === revision) last.limit += 1;
      else runs.push({ stream, from: revision, limit: 1 });
    }
  }
  const pages = await mapBounded(runs, READS_AT_ONCE, ({ stream, ...run }) => store.readStream(stream, run));
  return pages.flat().toSorted((a, b) => (a.position < b.position ? -1 : 1));
}

/** Events as the audit shows them. They must be the client's own. */
async function shownEvents({ keyring, positions }: Services, read: ReadAs, recorded: readonly RecordedEvent[]) {
  const events = await decode(keyring, recorded);
  const users = events.flatMap(({ meta }) => (meta.actor.type === "user" ? [meta.actor.id] : []));
  const userIds = await userIdsOf(read, [...new Set(users)]);
  const deleted = await deletedAmong(read, [...new Set(events.flatMap((event) => notificationOfEvent(event) ?? []))]);
  const isErased = (event: StoredEvent): boolean => {
    const notification = notificationOfEvent(event);
    // fence: deleted-in-audit
    return notification !== undefined && deleted.has(notification);
  };
  return events.map((event): AuditEventResource => {
    const { actor, at, correlation, causation } = event.meta;
    return {
      id: event.id,
      type: event.type,
      stream: event.stream,
      revision: event.revision,
      position: positions.ofEvent(read.client, event.position),
      at: rfc3339(at),
      actor: { type: actor.type, id: actor.type === "user" ? (userIds.get(actor.id) ?? actor.id) : actor.id },
      correlation_id: correlation,
      causation_id: causation,
      data: shownData(event, isErased(event)),
    };
  });
}

// What was stored, opened where a person is concerned, closed where it is a secret.
const definitions: Readonly<Record<string, EventDefinition>> = catalogue;
const SECRET: JsonObject = { sealed: true };
const ERASED: JsonObject = { erased: true };

/** The data in the words of the interface: snake_case, times as text. */
function shownData(event: StoredEvent, erased: boolean): JsonObject {
  const seals = definitions[event.type]?.seals ?? {};
  // Parsed JSON, checked against its schema when it was decoded.
  const data = event.data as JsonObject;
  const sealed = new Map(Object.entries(seals).map(([path, ref]) => [path, isSecret(data, ref)]));
  return fields(erased ? withoutSealed(data) : data, [], sealed);
}

/** The notification that an event is of, or one of its deliveries. */
function notificationOfEvent({ stream, data }: StoredEvent): NotificationId | undefined {
  if (stream.startsWith("notification-")) return notificationOf(stream);
  const named = stream.startsWith(DELIVERY_STREAMS) && "notification" in data ? data.notification : undefined;
  return typeof named === "string" ? (named as NotificationId) : undefined;
}

/** The data of an event of a notification that was deleted: whatever key sealed a field, it reads as erased. */
const withoutSealed = (value: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(value).map(([name, member]) => [name, erasedIn(member)]));

function erasedIn(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(erasedIn);
  if (!isObject(value)) return value;
  return "open" in value ? ERASED : withoutSealed(value);
}

/** What is sealed for a client is its secret; all else is sealed for a person, or for a notification's content. */
const isSecret = (data: JsonObject, ref: string): boolean => String(data[ref] ?? "").startsWith("cli_");

/** By path, whether a sealed field is a secret. */
type SealedPaths = ReadonlyMap<string, boolean>;

const fields = (data: JsonObject, path: readonly string[], sealed: SealedPaths): JsonObject =>
  Object.fromEntries(
    Object.entries(data).map(([name, value]) => [snakeCase(name), field(name, value, [...path, name], sealed)]),
  );

function field(name: string, value: JsonValue, path: readonly string[], sealed: SealedPaths): JsonValue {
  const secret = sealed.get(path.join("."));
  if (secret !== undefined && isObject(value)) return secret ? SECRET : "open" in value ? (value.open ?? null) : ERASED;
  // What a key is recognised by is of no use to anybody else.
  if (name === "hash") return SECRET;
  if (typeof value === "number" && isTime(name)) return rfc3339(value);
  // A client's own JSON stays as it is.
  if (name === "meta") return value;
  if (Array.isArray(value)) return value.map((item) => (isObject(item) ? fields(item, [...path, "*"], sealed) : item));
  return isObject(value) ? fields(value, path, sealed) : value;
}

const isTime = (name: string): boolean => name === "at" || /(?:At|Until)$/.test(name);
const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
