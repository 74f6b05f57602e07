// What a user who follows is told: the window on its rooms, what it missed since, and what a room is when it comes in.
import type { Cursor } from "../contract/fields.ts";
import type { EndReason } from "../contract/frames.ts";
import type { RoomId } from "../contract/ids.ts";
import type { PersonalEvent, PublicEvent } from "../contract/public-events.ts";
import { DAY_MS, rfc3339 } from "../contract/time.ts";
import type { UserRoomResource } from "../contract/users.ts";
import { reveal } from "../domain/event.ts";
import { eventSeenFrom, visibleFrom } from "../domain/message-rules.ts";
import { roomDecider, roomStream } from "../domain/room.ts";
import type { ExistingRoom, Room } from "../domain/room-state.ts";
import { decode, type StoredEvent } from "../event-store/envelope.ts";
import {
  bytesOf,
  type Position,
  positionBefore,
  type RecordedEvent,
  StoreUnavailable,
} from "../event-store/event-store.ts";
import { mapBounded, upToBytes } from "../platform/bounded.ts";
import { lastMessageBefore } from "../projections/models/reads.ts";
import {
  activeRoomsOf,
  countMissed,
  firstRevisions,
  missedEvents,
  timeAfter,
} from "../projections/models/user-events.ts";
import { roomOf } from "../projections/projection.ts";
import { eventsAt } from "./audit.ts";
import { AppError } from "./errors.ts";
import { withText } from "./growing-messages.ts";
import type { FollowCursor } from "./positions.ts";
import { isOfRoom, publishedAs } from "./public-events.ts";
import type { StoredRoomEvent } from "./public-room-events.ts";
import { type ShownOfRoom, shownOfRooms } from "./pull.ts";
import { messageOfRow, roomOfState } from "./resources.ts";
import { concernsAlone, personalEvent } from "./scheduled-messages.ts";
import type { Call, Caller, Services } from "./services.ts";
import { listUserRooms } from "./users.ts";

/** A cursor resumes unless it is as old, or as many events were missed since; else there is a new window. */
const MAX_MISSED_MS = 30 * DAY_MS;
const MAX_MISSED = 10_000;
/** Missed events that are read at a time, and about how many bytes of them. */
const PAGE = 100;
const PAGE_BYTES = 512 * 1024;
const LOADED_AT_ONCE = 16;
/** How long the read model is waited for. */
const READ_MODEL_WAIT_MS = 5_000;

export type UserCaller = Extract<Caller, { kind: "user" }>;

/** One event, as one follower is told of it. */
export type Followed = {
  readonly position: Position;
} & (
  | {
      readonly kind: "room";
      readonly room: RoomId;
      readonly seq: number;
      readonly event: PublicEvent;
      /** The user comes into the room with it: the room just after it. */
      readonly comes: ExistingRoom | null;
      /** The user loses the room with it. */
      readonly ends: EndReason | null;
    }
  /** The user's own. */
  | { readonly kind: "read"; readonly marker: Marker }
  | { readonly kind: "personal"; readonly event: PersonalEvent }
  | { readonly kind: "notification"; readonly event: RecordedEvent }
);

/** How far a user has read a room, or received it. */
type Marker = {
  readonly room_id: RoomId;
  readonly user_id: string | null;
  readonly seq: number;
  readonly at: string;
};

/** What an event makes of a user's membership in its room; undefined: nothing. */
export function membershipAfter(event: StoredRoomEvent, subject: string): true | EndReason | undefined {
  switch (event.type) {
    case "RoomCreated":
      return event.data.members.some((member) => member.subject === subject) ? true : undefined;
    case "MemberJoined":
      return event.data.subject === subject ? true : undefined;
    case "MemberLeft":
      return event.data.subject === subject ? event.data.reason : undefined;
    case "RoomDeleted":
      return "room_deleted";
    default:
      return undefined;
  }
}

export type Marked = Extract<StoredEvent, { type: "ReadMarked" | "DeliveredMarked" }>;

export function markerOf({ stream, data, meta }: Marked): Marker {
  return { room_id: roomOf(stream), user_id: reveal(data.user), seq: data.seq, at: rfc3339(meta.at) };
}

type Window = {
  /** As GET /users/{id}/rooms gives them, all at `position`. */
  readonly rooms: UserRoomResource[];
  readonly unreadTotal: number;
  readonly next: Cursor | null;
  readonly position: Position;
};

/** The user's first rooms, not before a position. Throws read_model_behind. */
export async function windowOf(call: Call, { userId }: UserCaller, limit: number, atLeast: Position): Promise<Window> {
  const { readSide } = call.services;
  await awaitPosition(call.services, atLeast);
  return readSide.snapshotAs(call.caller.client, async (read, position) => {
    const { rows, next, unreadTotal } = await listUserRooms({ ...call, read }, userId, { limit, cursor: undefined });
    if (position === "start" || position < atLeast) throw new AppError("read_model_behind");
    return { rooms: [...rows], next, unreadTotal, position };
  });
}

/** Throws read_model_behind. */
async function awaitPosition({ readSide }: Services, position: Position): Promise<void> {
  if (!(await readSide.waitFor(position, READ_MODEL_WAIT_MS))) throw new AppError("read_model_behind");
}

/** Reads a cursor that a client sends. Throws invalid_cursor, StoreUnavailable. */
export async function followCursor(
  { positions, readSide }: Services,
  { client }: UserCaller,
  text: string,
): Promise<FollowCursor> {
  const cursor = positions.openCursor(client, text);
  const where = cursor === undefined ? "foreign" : await readSide.compare(cursor.position);
  if (cursor !== undefined && where !== "foreign" && where !== "beyond") return cursor;
  throw new AppError("invalid_cursor", { detail: "after is damaged, or is no cursor that the user was given" });
}

/**
 * A room as the list of a user's rooms had it just after an event by which the user came in. Of the last message it shows
 * what became of it since. Throws read_model_behind.
 */
export async function roomCameInto(
  services: Services,
  { client, subject }: UserCaller,
  { position, room, seq, comes }: Extract<Followed, { kind: "room" }> & { readonly comes: ExistingRoom },
): Promise<UserRoomResource> {
  const posted = comes.posted > comes.deleted;
  if (posted) await awaitPosition(services, position);
  const last = posted ? await lastMessageBefore(services.readSide.readAs(client), room, seq) : undefined;
  return {
    room: roomOfState(room, comes),
    role: comes.members.get(subject)?.role ?? "member",
    seq,
    // What was said before counts as read; who is named when a room is made has read nothing.
    read_seq: seq === 1 ? 0 : seq,
    delivered_seq: seq === 1 ? 0 : seq,
    unread_count: 0,
    mention_count: 0,
    last_message: last === undefined ? null : await withText(services, messageOfRow(last)),
  };
}

/** What a user missed between a cursor and a position, in the order of the log, as it is to be shown now. */
export class Missed {
  readonly #services: Services;
  readonly #caller: UserCaller;
  readonly #upTo: Position;
  #after: Position;
  #ended = false;
  /** The rooms in which something happened; `inside`: those of them that the user is in, at `after`. */
  #rooms: readonly RoomId[] | undefined;
  readonly #inside = new Map<RoomId, boolean>();
  /** What the user saw of rooms that it is not in any more, from which seq on. */
  readonly #seen = new Map<RoomId, number>();

  constructor(services: Services, caller: UserCaller, { position, had }: FollowCursor, upTo: Position) {
    this.#services = services;
    this.#caller = caller;
    this.#after = had > 0 ? positionBefore(position) : position;
    this.#upTo = upTo;
  }

  /** Whether it is too much, or too old, to be told. Throws read_model_behind. */
  async isTooMuch(): Promise<boolean> {
    const rooms = await this.#open();
    const read = this.#services.readSide.readAs(this.#caller.client);
    const since = await timeAfter(read, this.#after);
    if (since !== undefined && since < this.#services.now() - MAX_MISSED_MS) return true;
    const { subject } = this.#caller;
    const range = { after: this.#after, upTo: this.#upTo, limit: MAX_MISSED + 1 };
    return (await countMissed(read, { subject, rooms, ...range })) > MAX_MISSED;
  }

  /** The next ones; undefined when there are no more. Throws read_model_behind, StoreUnavailable. */
  async next(): Promise<readonly Followed[] | undefined> {
    if (this.#ended) return undefined;
    const rooms = await this.#open();
    const read = this.#services.readSide.readAs(this.#caller.client);
    const { subject } = this.#caller;
    const refs = await missedEvents(read, { subject, rooms, after: this.#after, upTo: this.#upTo, limit: PAGE });
    const recorded = await eventsAt(this.#services, refs);
    if (recorded.length < refs.length) throw new StoreUnavailable("the log lacks events that the read model has");
    // What is cut off is read again: a page exceeds the bytes only where nearly every message is as long as may be.
    const page = upToBytes(recorded, PAGE_BYTES, bytesOf);
    const followed = await this.#followed(page);
    this.#after = page.at(-1)?.position ?? this.#after;
    this.#ended = refs.length < PAGE && page.length === refs.length;
    return followed;
  }

  async #followed(recorded: readonly RecordedEvent[]): Promise<readonly Followed[]> {
    const { keyring } = this.#services;
    const stored = await decode(keyring, recorded);
    const shown = await shownOfRooms(this.#services, stored);
    const all: Followed[] = [];
    for (const [index, event] of stored.entries()) {
      const { position } = event;
      const raw = recorded[index];
      if (isOfRoom(event)) {
        const [published] = publishedAs(event);
        const one = published === undefined ? undefined : shown.get(published.id);
        const followed = one === undefined ? undefined : await this.#ofRoom(event, one);
        if (followed !== undefined) all.push(followed);
      } else if (event.type === "ReadMarked") {
        const marker = markerOf(event);
        if (this.#inside.get(marker.room_id) !== false) all.push({ kind: "read", position, marker });
      } else if (raw !== undefined && concernsAlone(raw) !== undefined) {
        const own = await personalEvent(this.#services, raw);
        if (own !== undefined) all.push({ kind: "personal", position, event: own });
      } else if (raw !== undefined) all.push({ kind: "notification", position, event: raw });
    }
    return all;
  }

  async #ofRoom(event: StoredRoomEvent, { event: shown, now }: ShownOfRoom): Promise<Followed | undefined> {
    const { position, stream, revision } = event;
    const room = roomOf(stream);
    const before = this.#inside.get(room) ?? false;
    const change = membershipAfter(event, this.#caller.subject);
    const after = change === undefined ? before : change === true;
    this.#inside.set(room, after);
    // fence: follow-missed-member
    if (!before && !after) return undefined;
    const state = before ? undefined : await this.#services.commands.loadAt(roomDecider, stream, revision);
    const comes = state?.status === "live" ? state : null;
    const ends = before && typeof change === "string" ? change : null;
    // fence: follow-missed-unseen
    const seen = eventSeenFrom(shown, await this.#visibleFrom(event, now, comes));
    // How the user came in and was lost is told all the same: it is about itself.
    if (seen === undefined && comes === null && ends === null) return undefined;
    return { ...{ kind: "room", position, room, seq: revision + 1, event: seen ?? shown }, comes, ends };
  }

  /** The first seq that the user sees of a room: now if it is in it, else while it was. `comes`: it comes in with the event. */
  async #visibleFrom({ stream, revision }: StoredRoomEvent, now: Room, comes: ExistingRoom | null): Promise<number> {
    const { actor, subject } = this.#caller;
    if (now.status === "live" && now.members.has(subject)) return visibleFrom(now, actor);
    const room = roomOf(stream);
    const known = comes === null ? this.#seen.get(room) : undefined;
    if (known !== undefined) return known;
    const then = comes ?? (await this.#services.commands.loadAt(roomDecider, stream, revision - 1));
    const from = then.status === "live" ? visibleFrom(then, actor) : 0;
    this.#seen.set(room, from);
    return from;
  }

  /** Finds the rooms, and whether the user was in them. */
  async #open(): Promise<readonly RoomId[]> {
    if (this.#rooms !== undefined) return this.#rooms;
    const { commands, readSide } = this.#services;
    const { client, subject } = this.#caller;
    await awaitPosition(this.#services, this.#upTo);
    const read = readSide.readAs(client);
    const active = await activeRoomsOf(read, subject, this.#after);
    const left = active.filter((one) => one.left).map(({ room }) => room);
    const firsts = await firstRevisions(read, left.map(roomStream), this.#after);
    for (const { room, joined } of active) this.#inside.set(room, joined !== null && joined <= this.#after);
    await mapBounded(left, LOADED_AT_ONCE, async (room) => {
      const first = firsts.get(roomStream(room)) ?? 0;
      const state = first === 0 ? roomDecider.initial : await commands.loadAt(roomDecider, roomStream(room), first - 1);
      this.#inside.set(room, state.status === "live" && state.members.has(subject));
    });
    this.#rooms = active.map(({ room }) => room);
    return this.#rooms;
  }
}
