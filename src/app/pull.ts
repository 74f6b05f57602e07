// Pull: public events in the order of the log, a page at a time; streams of a client read the same pages.

import type { EventsQuery, RoomEventsQuery } from "../contract/event-requests.ts";
import type { RoomId } from "../contract/ids.ts";
import type { PublicEvent, PublicEventType } from "../contract/public-events.ts";
import { matchesType } from "../domain/endpoint.ts";
import { eventSeenFrom, visibleFrom } from "../domain/message-rules.ts";
import { roomDecider, roomStream } from "../domain/room.ts";
import type { Room } from "../domain/room-state.ts";
import { decode, type StoredEvent } from "../event-store/envelope.ts";
import { type Position, positionBefore } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { auditOfTypes } from "../projections/models/audit.ts";
import { type Page, readCursor } from "../projections/page.ts";
import { roomOf } from "../projections/projection.ts";
import { eventsAt, positionNamed } from "./audit.ts";
import { isOfRoom, publicEvent, publishedAs, storedTypesOf } from "./public-events.ts";
import { decodeRoom, type PublicEventServices, RoomEventMaker } from "./room-event-maker.ts";
import { openAsMember } from "./rooms.ts";
import type { Call } from "./services.ts";

/** Events read and shown at a time, and the bytes of JSON after which a page ends. */
const CHUNK = 16;
const PAGE_BYTES = 1024 * 1024;

/** Where a reader is among a client's events: how many of what the event at the position is published as it has had. */
export type EventCursor = { readonly position: Position; readonly had: number };
/** All of them. */
const ALL = 1_000;

export const afterPosition = (position: Position): EventCursor => ({ position, had: ALL });

/** What a reader wants; without types or rooms all of it. */
export type EventSelection = Pick<EventsQuery, "types" | "room_id">;

/** A public event, and the cursor of who has had it, also as `after` takes it. */
type PulledEvent = { readonly event: PublicEvent; readonly cursor: EventCursor; readonly id: string };
/** `next`: where the next page begins; undefined when the read model has no more of them. */
type PulledPage = { readonly events: readonly PulledEvent[]; readonly next: EventCursor | undefined };

/** As GET /events answers. Throws invalid_position, InvalidCursor, StoreUnavailable. */
export async function listPublicEvents(call: Call, query: EventsQuery): Promise<Page<PublicEvent>> {
  const { events, next } = await pullEvents(call, query, await cursorOf(call, query), query.limit);
  return { rows: events.map(({ event }) => event), next: next === undefined ? null : [next.position, next.had] };
}

/** Where a query begins: at its cursor, else after `after`. Throws invalid_position, InvalidCursor, StoreUnavailable. */
export async function cursorOf(
  { services, caller }: Pick<Call, "services" | "caller">,
  query: Pick<EventsQuery, "cursor" | "after">,
): Promise<EventCursor | undefined> {
  const [position, had] = readCursor(query.cursor, ["text", "integer"]) ?? [];
  // Our own cursor, which nobody else can make.
  if (position !== undefined && had !== undefined) return { position: position as Position, had };
  if (query.after === undefined) return undefined;
  const [, of = query.after, part] = PART.exec(query.after) ?? [];
  return { position: await positionNamed(services, caller, of), had: part === undefined ? ALL : Number(part) };
}

/** The `id` of an event whose position is that of others that follow it too. */
const PART = /^(.*)\.([1-9])$/s;
const idOf = (position: string, nth: number, count: number) =>
  nth + 1 === count ? position : `${position}.${nth + 1}`;

/**
 * A client's public events after a cursor, oldest first: at most `limit`, and about PAGE_BYTES. Says nothing of events
 * after the read model's checkpoint.
 */
export async function pullEvents(
  { services, read }: Pick<Call, "services" | "read">,
  { types, room_id: rooms }: EventSelection,
  after: EventCursor | undefined,
  limit: number,
): Promise<PulledPage> {
  const wanted = (type: PublicEventType) => types === undefined || matchesType(types, type);
  // The event at the cursor may have more to tell.
  const from = after === undefined || after.had >= ALL ? after?.position : positionBefore(after.position);
  const rows = await auditOfTypes(read, {
    types: storedTypesOf(wanted),
    ...omitUndefined({ streams: rooms?.map((room) => roomStream(room as RoomId)), after: from }),
    limit: limit + 1,
  });
  const events: PulledEvent[] = [];
  let bytes = 0;
  const page = rows.slice(0, limit);
  for (let start = 0; start < page.length; start += CHUNK) {
    const stored = await decode(services.keyring, await eventsAt(services, page.slice(start, start + CHUNK)));
    for (const pulled of await shownEvents(services, stored, wanted)) {
      const { event, cursor } = pulled;
      // fence: pull-once
      if (cursor.position === after?.position && cursor.had <= after.had) continue;
      if (events.length >= limit || /* fence: pull-bytes */ bytes >= PAGE_BYTES)
        return { events, next: events.at(-1)?.cursor };
      events.push(pulled);
      bytes += Buffer.byteLength(JSON.stringify(event));
    }
  }
  // What is published to nobody counts too: a page may be empty and not the last.
  const last = page.at(-1);
  return { events, next: rows.length > limit && last !== undefined ? afterPosition(last.position) : undefined };
}

/** What stored events are published as, as it is to be shown now. A room is loaded once for all its events. */
async function shownEvents(
  services: PublicEventServices,
  stored: readonly StoredEvent[],
  wanted: (type: PublicEventType) => boolean,
): Promise<readonly PulledEvent[]> {
  const ofRooms = await shownOfRooms(services, stored);
  const shown = await mapBounded(stored, CHUNK, async (one) =>
    Promise.all(
      publishedAs(one).map(async ({ id, type }, nth, { length }) => {
        if (!wanted(type)) return [];
        const event = ofRooms.get(id)?.event ?? (await publicEvent(services, one, id));
        if (event === undefined) return [];
        const cursor = { position: one.position, had: nth + 1 };
        return [{ event, cursor, id: idOf(event.position, nth, length) }];
      }),
    ),
  );
  return shown.flat(2);
}

/** A public event of a room, as it is to be shown in the room as it is `now`. */
export type ShownOfRoom = { readonly event: PublicEvent; readonly now: Room };

/** The public events of those among stored events that are of rooms, by id, as they are to be shown now. */
export async function shownOfRooms(
  services: PublicEventServices,
  stored: readonly StoredEvent[],
): Promise<ReadonlyMap<string, ShownOfRoom>> {
  const ofRooms = new Map<string, ShownOfRoom>();
  for (const [stream, own] of Map.groupBy(stored.filter(isOfRoom), (one) => one.stream)) {
    const { state: now } = await services.commands.load(roomDecider, stream);
    const maker = new RoomEventMaker(services, roomOf(stream));
    // Consecutive ones at once: the maker goes on where it was.
    for (let first = 0; first < own.length; ) {
      let end = first + 1;
      while (end < own.length && own[end]?.revision === (own[end - 1]?.revision ?? 0) + 1) end += 1;
      for (const event of await maker.past(own.slice(first, end), now)) ofRooms.set(event.id, { event, now });
      first = end;
    }
  }
  return ofRooms;
}

/** A room, and the seq after which a query for its events begins. Throws not_found, not_a_member, InvalidCursor. */
export async function openEvents(
  { services, caller }: Pick<Call, "services" | "caller">,
  named: string,
  query: Pick<RoomEventsQuery, "cursor" | "after_seq">,
) {
  const { id, room } = await openAsMember(services, caller, named);
  const [begun] = readCursor(query.cursor, ["integer"]) ?? [];
  return { id, room, after: begun ?? query.after_seq };
}

/** As GET /rooms/{id}/events answers, from the room's own stream. Throws not_found, not_a_member, InvalidCursor. */
export async function listRoomEvents(call: Call, named: string, query: RoomEventsQuery): Promise<Page<PublicEvent>> {
  const { services } = call;
  const { id, room, after } = await openEvents(call, named, query);
  const maker = new RoomEventMaker(services, id);
  const rows: PublicEvent[] = [];
  const from = visibleFrom(room, call.caller.actor);
  let next = Math.max(after ?? 0, from - 1);
  for (let bytes = 0; rows.length < query.limit && bytes < PAGE_BYTES; ) {
    const limit = Math.min(CHUNK, query.limit - rows.length);
    const recorded = await services.store.readStream(roomStream(id), { from: next, limit });
    const past = await maker.past(await decodeRoom(services, recorded), room);
    const shown = past.flatMap((event) => eventSeenFrom(event, from) ?? []);
    next += recorded.length;
    for (const event of shown) bytes += Buffer.byteLength(JSON.stringify(event));
    rows.push(...shown);
    if (recorded.length < limit) return { rows, next: null };
  }
  return { rows, next: next < room.seq ? [next] : null };
}
