// domain/room.ts: a room, its members and its messages; one stream, whose revision + 1 is the room's seq.

import type { RoomId, Subject } from "../contract/ids.ts";
import { type JsonObject, sameJson } from "../contract/json.ts";
import type { Role } from "../contract/resources.ts";
import type { Actor, Decider, PriorEvents, TimedCommand } from "./decider.ts";
import { DomainError, InvalidInput } from "./errors.ts";
import { type MemberData, type RoomEvent, type RoomSettings, roomEvents } from "./room-events.ts";
import { decideMessage, type MessageCommand, messagePriorEvents } from "./room-messages.ts";
import { fromRoomSnapshot, toRoomSnapshot } from "./room-snapshot.ts";
import { evolve, type LiveRoom, RANK, type Room, requireLive, requireMatch, requireRole } from "./room-state.ts";

export const roomStream = (id: RoomId) => `room-${id}`;
export const MAX_MEMBERS = 50_000;

// Commands, and what each means now.
/** `meta`: the whole new value, or what makes it from the old, so that two patches at once both hold. */
type SettingsChange = Partial<Omit<RoomSettings, "meta">> & { meta?: JsonObject | ((old: JsonObject) => JsonObject) };
type RoomChange =
  | { type: "Create"; settings: RoomSettings; externalId: string | null; members: readonly MemberData[] }
  | { type: "Update"; actor: Actor; changes: SettingsChange; ifMatch: number | null }
  | { type: "Deactivate" | "Activate" | "Delete"; actor: Actor; ifMatch: number | null }
  /** The room was to be made and was not: from now on it never is, so that another may have what was claimed for it. */
  | { type: "Abandon" }
  /** `role: null` keeps the role, or is `member` for one who joins. Every `data` field is the whole new value. */
  | { type: "SetMember"; actor: Actor; member: Omit<MemberData, "role">; role: Role | null; same: boolean }
  | { type: "RemoveMember"; actor: Actor; subject: Subject; user: string };
export type RoomCommand = (RoomChange & TimedCommand) | MessageCommand;

function requireAdmin(room: LiveRoom, actor: Actor, least: "admin" | "owner"): void {
  const role = requireRole(room, actor, "reader");
  if (RANK[role] < RANK[least]) throw new DomainError("role_required", `needs the role ${least}`);
}

function decide(state: Room, command: RoomCommand, priorEvents: PriorEvents<RoomEvent>): readonly RoomEvent[] {
  if (command.type === "Create") {
    return state.status === "none" ? create(command) : [];
  }
  if (command.type === "Abandon") return state.status === "none" ? [{ type: "RoomDeleted", data: {} }] : [];
  const room = requireLive(state);
  switch (command.type) {
    case "Update":
      return update(room, command);
    case "Deactivate":
    case "Activate": {
      requireAdmin(room, command.actor, "owner");
      requireMatch(command.ifMatch, room.settingsSeq);
      const active = command.type === "Activate";
      if (room.active === active) return [];
      return [{ type: active ? "RoomActivated" : "RoomDeactivated", data: {} }];
    }
    case "Delete":
      requireAdmin(room, command.actor, "owner");
      requireMatch(command.ifMatch, room.settingsSeq);
      return [{ type: "RoomDeleted", data: {} }];
    case "SetMember":
      return setMember(room, command);
    case "RemoveMember":
      return removeMember(room, command);
    default:
      return decideMessage(room, command, priorEvents);
  }
}

function create({ settings, externalId, members }: Extract<RoomCommand, { type: "Create" }>): readonly RoomEvent[] {
  const path = "members";
  if (new Set(members.map((member) => member.subject)).size < members.length) {
    throw new InvalidInput([{ path, code: "not_allowed", message: "name the same user twice" }]);
  }
  if (settings.kind === "direct" && members.length !== 2) {
    const code = members.length < 2 ? "too_short" : "too_long";
    throw new InvalidInput([{ path, code, message: "must be exactly two in a direct room" }]);
  }
  return [{ type: "RoomCreated", data: { ...settings, externalId, members: [...members] } }];
}

function update(room: LiveRoom, command: Extract<RoomCommand, { type: "Update" }>): readonly RoomEvent[] {
  requireAdmin(room, command.actor, "admin");
  requireMatch(command.ifMatch, room.settingsSeq);
  const { meta = room.settings.meta, ...changes } = command.changes;
  const next = { ...room.settings, ...changes, meta: typeof meta === "function" ? meta(room.settings.meta) : meta };
  const kindMoves = next.kind !== room.settings.kind;
  if (kindMoves && (room.settings.kind === "direct" || next.kind === "direct"))
    throw new DomainError("direct_room_fixed");
  if (sameJson(next, room.settings)) return [];
  return [{ type: "RoomUpdated", data: next }];
}

function setMember(room: LiveRoom, command: Extract<RoomCommand, { type: "SetMember" }>): readonly RoomEvent[] {
  const { member, actor } = command;
  const before = room.members.get(member.subject);
  const self = actor.type === "user" && actor.id === member.subject;
  const role = command.role ?? before ?? "member";
  if (self && before === undefined) {
    if (room.settings.kind !== "public") throw new DomainError("not_found");
    if (role !== "member") throw new DomainError("role_required", "who joins a public room joins as member");
  } else if (!self || role !== before) {
    requireAdmin(room, actor, setsRole(before, role) ? "owner" : "admin");
  }
  if (room.settings.kind === "direct" && before === undefined) throw new DomainError("direct_room_fixed");
  if (before === "owner" && role !== "owner" && lastOwner(room)) throw new DomainError("last_owner");
  if (before === undefined && room.members.size >= MAX_MEMBERS) throw new DomainError("too_many_members");
  if (before === undefined) return [{ type: "MemberJoined", data: { ...member, role } }];
  return before === role && command.same ? [] : [{ type: "MemberUpdated", data: { ...member, role } }];
}

/** Admins add and remove members and readers; any other giving or taking of a role is an owner's. */
const setsRole = (before: Role | undefined, after: Role): boolean =>
  before === undefined ? RANK[after] > RANK.member : before !== after || RANK[before] > RANK.member;

const lastOwner = (room: LiveRoom): boolean => room.owners === 1 && room.members.size > 1;

function removeMember(room: LiveRoom, command: Extract<RoomCommand, { type: "RemoveMember" }>): readonly RoomEvent[] {
  const { actor, subject, user } = command;
  const self = actor.type === "user" && actor.id === subject;
  const before = room.members.get(subject);
  if (!self) requireAdmin(room, actor, before !== undefined && RANK[before] > RANK.member ? "owner" : "admin");
  else if (before === undefined && room.settings.kind !== "public") throw new DomainError("not_found");
  if (before === undefined) return [];
  if (room.settings.kind === "direct") throw new DomainError("direct_room_fixed");
  if (before === "owner" && lastOwner(room)) throw new DomainError("last_owner");
  return [{ type: "MemberLeft", data: { subject, user: { open: user }, reason: self ? "left" : "removed" } }];
}

export const roomDecider: Decider<Room, RoomEvent, RoomCommand> = {
  name: "room",
  events: roomEvents,
  initial: { status: "none" },
  evolve,
  decide,
  priorEvents: (state, command) =>
    state.status === "live" && "room" in command ? messagePriorEvents(state, command) : [],
  weigh: (state) => (state.status === "live" ? (state.members.size + state.changes.size) / 10 : 0),
  snapshot: { version: 1, toJson: toRoomSnapshot, fromJson: fromRoomSnapshot },
};
