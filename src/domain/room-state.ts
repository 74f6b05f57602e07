// A room's state, folded from its events, and the checks that every command on it shares.

import type { Subject } from "../contract/ids.ts";
import type { Role } from "../contract/resources.ts";
import type { Instant } from "../contract/time.ts";
import type { Actor, EventContext } from "./decider.ts";
import { DomainError } from "./errors.ts";
import { PersistentMap } from "./persistent-map.ts";
import type { RoomEvent, RoomSettings } from "./room-events.ts";

// State: only what decisions need; never a message.
/** What became of a message after its posting: the seqs of its last content and of its last change. */
type Change = { readonly content: number; readonly change: number; readonly deleted: boolean };

export type LiveRoom = {
  readonly status: "live";
  readonly settings: RoomSettings;
  readonly externalId: string | null;
  readonly active: boolean;
  readonly seq: number;
  readonly members: PersistentMap<Subject, Role>;
  readonly owners: number;
  /** All messages ever posted, those deleted now, and those that count as unread. */
  readonly posted: number;
  readonly deleted: number;
  readonly ordinal: number;
  readonly changes: PersistentMap<number, Change>;
  readonly createdAt: Instant;
  readonly updatedAt: Instant;
  /** The seq of the last change to name, description, kind, meta or state: the room's ETag. */
  readonly settingsSeq: number;
};
export type Room = { readonly status: "none" } | LiveRoom | { readonly status: "deleted" };

export function evolve(state: Room, event: RoomEvent, context: EventContext): Room {
  if (event.type === "RoomCreated") return created(event.data, context);
  if (event.type === "RoomDeleted") return { status: "deleted" };
  if (state.status !== "live") return state;
  const room = { ...state, seq: context.seq };
  const changed = { ...room, settingsSeq: context.seq, updatedAt: context.at };
  switch (event.type) {
    case "RoomUpdated":
      return { ...changed, settings: event.data };
    case "RoomDeactivated":
      return { ...changed, active: false };
    case "RoomActivated":
      return { ...changed, active: true };
    case "MemberJoined":
    case "MemberUpdated":
      return withRole(room, event.data.subject, event.data.role);
    case "MemberLeft":
      return withRole(room, event.data.subject, undefined);
    case "MessagePosted":
      return { ...room, posted: room.posted + 1, ordinal: event.data.ordinal };
    case "MessageEdited":
      return withChange(room, event.data.messageSeq, { content: context.seq, change: context.seq, deleted: false });
    case "MessageDeleted": {
      const content = contentSeq(room, event.data.messageSeq);
      const gone = withChange(room, event.data.messageSeq, { content, change: context.seq, deleted: true });
      return { ...gone, deleted: room.deleted + 1 };
    }
    case "MessageRestored": {
      const content = contentSeq(room, event.data.messageSeq);
      const back = withChange(room, event.data.messageSeq, { content, change: context.seq, deleted: false });
      return { ...back, deleted: room.deleted - 1 };
    }
  }
}

function created(data: Extract<RoomEvent, { type: "RoomCreated" }>["data"], { seq, at }: EventContext): Room {
  const { name, description, kind, meta, externalId } = data;
  const members = PersistentMap.of(data.members.map(({ subject, role }) => [subject, role]));
  return {
    status: "live",
    settings: { name, description, kind, meta },
    externalId,
    active: true,
    seq,
    members,
    owners: [...members.entries()].filter(([, role]) => role === "owner").length,
    posted: 0,
    deleted: 0,
    ordinal: 0,
    changes: PersistentMap.empty(),
    createdAt: at,
    updatedAt: at,
    settingsSeq: seq,
  };
}

function withRole(room: LiveRoom, subject: Subject, role: Role | undefined): LiveRoom {
  const before = room.members.get(subject);
  const owners = room.owners - (before === "owner" ? 1 : 0) + (role === "owner" ? 1 : 0);
  const members = role === undefined ? room.members.delete(subject) : room.members.set(subject, role);
  return { ...room, members, owners };
}

const withChange = (room: LiveRoom, messageSeq: number, change: Change): LiveRoom => ({
  ...room,
  changes: room.changes.set(messageSeq, change),
});

/** The seq of the event that holds a message's content now. */
export const contentSeq = (room: LiveRoom, messageSeq: number): number =>
  room.changes.get(messageSeq)?.content ?? messageSeq;

/** The seq of a message's last posting, edit, deletion or restoring: its ETag. */
export const messageEtag = (room: LiveRoom, messageSeq: number): number =>
  room.changes.get(messageSeq)?.change ?? messageSeq;

export const RANK: Record<Role, number> = { reader: 0, member: 1, admin: 2, owner: 3 };

/** Refuses as the interface says: an invisible room is not found, a public one needs membership. Gives the role. */
export function requireRole(room: LiveRoom, actor: Actor, least: Role): Role {
  if (actor.type !== "user") return "owner";
  const role = room.members.get(actor.id);
  if (role === undefined) throw new DomainError(room.settings.kind === "public" ? "not_a_member" : "not_found");
  if (RANK[role] < RANK[least]) throw new DomainError(role === "reader" ? "read_only" : "role_required");
  return role;
}

export function requireMatch(ifMatch: number | null, etag: number): void {
  // fence: if-match
  if (ifMatch !== null && ifMatch !== etag)
    throw new DomainError("precondition_failed", `the current ETag is "${etag}"`);
}

/** The room, unless there is none any more. */
export function requireLive(state: Room): LiveRoom {
  if (state.status !== "live") throw new DomainError("not_found");
  return state;
}
