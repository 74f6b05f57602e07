// domain/room.ts: a room, its members and its messages; one stream, whose revision + 1 is the room's seq.

import type { FieldFault } from "../contract/errors.ts";
import type { RoomId, Subject } from "../contract/ids.ts";
import { type JsonObject, sameJson } from "../contract/json.ts";
import type { Role } from "../contract/rooms.ts";
import type { Instant } from "../contract/time.ts";
import { ALL_ALLOWED, type Policy } from "./client.ts";
import {
  type Actor,
  type Decider,
  DomainError,
  type IfMatch,
  mergeMeta,
  type PriorEvents,
  refuse,
  requireMatch,
  requireNew,
  type TimedCommand,
} from "./decider.ts";
import { reveal, seal, sealOrNull } from "./event.ts";
import { decideMessage, type MessageCommand, messagePriorEvents } from "./room-messages.ts";
import { weighResponses } from "./room-responses.ts";
import {
  type Ban,
  descriptionIn,
  type ExistingRoom,
  evolve,
  type MemberData,
  RANK,
  type Room,
  type RoomEvent,
  type RoomSettings,
  requireAdmin,
  requireExisting,
  requireRole,
  roleOf,
  roomEvents,
  roomSnapshot,
} from "./room-state.ts";

// Decisions that keep people from a room, or from posting in it: bans and mutes.

type Person = { readonly actor: Actor; readonly subject: Subject; readonly user: string };
type ModerationCommand =
  /** `until: null`: until it is lifted. */
  | ({ readonly type: "Ban"; readonly until: Instant | null; readonly reason: string | null } & Person)
  | ({ readonly type: "Unban" } & Person)
  /** `until: null`: from now on the member may post again. */
  | ({ readonly type: "Mute"; readonly until: Instant | null } & Person);

/** The ban that holds at a time. */
export function banAt(room: ExistingRoom, subject: Subject, at: Instant): Ban | undefined {
  const ban = room.bans.get(subject);
  return ban === undefined || (ban.until !== null && ban.until <= at) ? undefined : ban;
}

/** Members and readers are the admins' to remove, ban and mute, admins and owners the owners'. */
const mayModerate = (role: Role | undefined): "admin" | "owner" =>
  role !== undefined && RANK[role] > RANK.member ? "owner" : "admin";

function decideModeration(
  room: ExistingRoom,
  command: ModerationCommand & TimedCommand,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  const { actor, subject, user: userId } = command;
  const role = roleOf(room, subject);
  // fence: moderates
  requireAdmin(room, actor, mayModerate(role));
  if (room.settings.kind === "direct") throw new DomainError("direct_room_fixed");
  const whom = { subject, user: { open: userId } };
  switch (command.type) {
    case "Ban":
      return ban(room, command, priorEvents);
    case "Unban":
      return room.bans.has(subject) ? [{ type: "MemberUnbanned", data: whom }] : [];
    case "Mute": {
      const member = room.members.get(subject);
      if (member === undefined) throw new DomainError("not_found");
      if (member.mutedUntil === command.until) return [];
      return [{ type: "MemberMuted", data: { ...whom, until: command.until } }];
    }
  }
}

/** Whoever is a member is removed with it. */
function ban(
  room: ExistingRoom,
  { subject, user: userId, until, reason, at }: Extract<ModerationCommand, { type: "Ban" }> & TimedCommand,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  const role = roleOf(room, subject);
  if (role === "owner" && room.owners === 1) throw new DomainError("last_owner");
  const known = banAt(room, subject, at);
  const before = known && priorEvents.get(known.seq);
  const same = before?.type === "MemberBanned" && before.data.until === until && reveal(before.data.reason) === reason;
  if (same) return [];
  const user = { open: userId };
  const banned: RoomEvent = { type: "MemberBanned", data: { subject, user, until, reason: sealOrNull(reason) } };
  return role === undefined ? [banned] : [{ type: "MemberLeft", data: { subject, user, reason: "banned" } }, banned];
}

/** What the name of each room's stream begins with. */
export const ROOM_STREAMS = "room-";
export const roomStream = (id: RoomId) => `${ROOM_STREAMS}${id}`;
const MAX_MEMBERS = 50_000;

// Commands, and what each means now.
/** `meta` is a merge patch, so that two at once both hold; null clears it. */
type SettingsChange = Partial<Omit<RoomSettings, "meta">> & { meta?: JsonObject | null };
type RoomChange =
  | { type: "Create"; settings: RoomSettings; externalId: string | null; members: readonly MemberData[] }
  | { type: "Update"; actor: Actor; changes: SettingsChange; ifMatch: IfMatch }
  | { type: "Deactivate" | "Activate" | "Delete"; actor: Actor; ifMatch: IfMatch }
  /** The room was to be made and was not: from now on it never is, so that another may have what was claimed for it. */
  | { type: "Abandon" }
  /** `role: null` keeps the role, or is `member` for one who joins. Every field of `member` is the whole new value. */
  | {
      type: "SetMember";
      actor: Actor;
      member: Omit<MemberData, "role">;
      role: Role | null;
      onlyNew?: boolean;
      /** What the client lets its users do; left out: everything. */
      policy?: Pick<Policy, "usersAddMembers" | "usersJoinPublicRooms">;
    }
  /** A merge patch of a member that there is: undefined stays as it is. */
  | { type: "ChangeMember"; actor: Actor; subject: Subject; user: string; changes: MemberChange }
  | { type: "RemoveMember"; actor: Actor; subject: Subject; user: string }
  | ModerationCommand;
type MemberChange = {
  readonly role?: Role;
  readonly name?: string | null;
  readonly meta?: JsonObject | null;
  readonly mutedUntil?: Instant | null;
};
export type RoomCommand = (RoomChange & TimedCommand & { room?: RoomId }) | MessageCommand;
type CommandOf<T extends RoomChange["type"]> = Extract<RoomChange, { type: T }>;

function decide(state: Room, command: RoomCommand, priorEvents: PriorEvents<RoomEvent>): readonly RoomEvent[] {
  if (command.type === "Create") return state.status === "none" ? create(command) : [];
  if (command.type === "Abandon") return state.status === "none" ? [{ type: "RoomDeleted", data: {} }] : [];
  const room = requireExisting(state);
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
      return setMember(room, command, priorEvents);
    case "ChangeMember":
      return changeMember(room, command, priorEvents);
    case "RemoveMember":
      return removeMember(room, command);
    case "Ban":
    case "Unban":
    case "Mute":
      return decideModeration(room, command, priorEvents);
    default:
      return decideMessage(room, command, priorEvents);
  }
}

function create({ settings, externalId, members }: CommandOf<"Create">): readonly RoomEvent[] {
  refuse(
    firstMemberFaults(
      settings.kind,
      members.map(({ subject, role }) => ({ id: subject, role })),
    ),
  );
  refuse(postingFaults(settings));
  if (members.length > memberLimit(settings)) throw new DomainError("room_full");
  return [{ type: "RoomCreated", data: { ...settings, externalId, members: [...members] } }];
}

/** As many members as the room may have. */
const memberLimit = ({ maxMembers }: RoomSettings): number => maxMembers ?? MAX_MEMBERS;

/** In a direct room nobody is more than the other. */
const postingFaults = ({ kind, posting }: RoomSettings): readonly FieldFault[] =>
  kind === "direct" && posting !== "everyone"
    ? [{ path: "posting", code: "not_allowed", message: "must be everyone in a direct room" }]
    : [];

/** Nobody is named twice; a direct room has exactly two members, who are equal. `id`: whatever tells them apart. */
export function firstMemberFaults(
  kind: unknown,
  members: readonly { readonly id: string; readonly role: unknown }[],
): readonly FieldFault[] {
  const path = "members";
  if (new Set(members.map(({ id }) => id)).size < members.length) {
    return [{ path, code: "not_allowed", message: "must not contain duplicates" }];
  }
  if (kind !== "direct") return [];
  if (members.length !== 2) {
    const code = members.length < 2 ? "too_short" : "too_long";
    return [{ path, code, message: "must be exactly two in a direct room" }];
  }
  return members.flatMap(({ role }, index): FieldFault[] =>
    role === "member" ? [] : [{ ...NO_ROLES, path: `members.${index}.role` }],
  );
}
const NO_ROLES = { code: "not_allowed", message: "must be member in a direct room" } as const;

function update(room: ExistingRoom, command: CommandOf<"Update">): readonly RoomEvent[] {
  requireAdmin(room, command.actor, "admin");
  requireMatch(command.ifMatch, room.settingsSeq);
  const { meta, ...changes } = command.changes;
  const old = room.settings;
  const next = { ...old, ...changes, meta: meta === undefined ? old.meta : mergeMeta(old.meta, meta) };
  if (next.kind !== old.kind && (old.kind === "direct" || next.kind === "direct"))
    throw new DomainError("direct_room_fixed");
  refuse(postingFaults(next));
  if (sameJson(next, old)) return [];
  return [{ type: "RoomUpdated", data: next }];
}

function setMember(
  room: ExistingRoom,
  { member: given, actor, role: wanted, onlyNew, policy = ALL_ALLOWED, at }: CommandOf<"SetMember"> & TimedCommand,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  const { subject } = given;
  const known = room.members.get(subject);
  const before = roleOf(room, subject);
  const self = actor.type === "user" && actor.id === subject;
  const role = wanted ?? before ?? (self ? joiningRole(room, subject) : "member");
  if (self && before === undefined) requireJoining(room, subject, role, policy);
  else if (!self || role !== before) requireAdmin(room, actor, setsRole(before, role) ? "owner" : "admin");
  // fence: policy-adds
  if (!self && before === undefined && !policy.usersAddMembers)
    throw new DomainError("forbidden", "users of this client add no members");
  const direct = room.settings.kind === "direct";
  // A client key gives back the one whom it took out.
  if (direct && before === undefined && !room.formers.has(subject)) throw new DomainError("direct_room_fixed");
  if (direct && role !== "member") refuse([{ ...NO_ROLES, path: "role" }]);
  if (before === "owner" && role !== "owner" && isLastOwner(room)) throw new DomainError("last_owner");
  requireNew(onlyNew, known !== undefined);
  const described = known && descriptionIn(priorEvents.get(known.described), subject);
  // fence: names-of-others
  const member = actor.type === "user" && !self ? { ...given, name: described?.name ?? null } : given;
  if (known === undefined) {
    // fence: banned-joins
    if (banAt(room, subject, at) !== undefined) throw new DomainError("banned");
    if (room.members.size >= memberLimit(room.settings)) throw new DomainError("room_full");
    const joined = { type: "MemberJoined", data: { ...member, role } } as const;
    const until = room.formers.get(subject)?.mutedUntil ?? 0;
    return /* fence: rejoin-muted */ until > at
      ? [joined, { type: "MemberMuted", data: { subject, user: member.user, until } }]
      : [joined];
  }
  if (described !== undefined && sameJson({ ...described, role: before }, { ...member, role })) return [];
  return [{ type: "MemberUpdated", data: { ...member, role } }];
}

/** What joining gives: never more than what the person left with. */
const joiningRole = (room: ExistingRoom, subject: Subject): Role =>
  /* fence: rejoin-as-reader */ room.formers.get(subject)?.left === "reader" ? "reader" : room.settings.joinRole;

function requireJoining(
  room: ExistingRoom,
  subject: Subject,
  role: Role,
  policy: Pick<Policy, "usersJoinPublicRooms">,
): void {
  if (room.settings.kind !== "public") throw new DomainError("not_found");
  // fence: policy-joins
  if (!policy.usersJoinPublicRooms) throw new DomainError("forbidden", "users of this client do not join public rooms");
  // fence: removed-rejoins
  if (room.formers.get(subject)?.left === "removed") throw new DomainError("removed");
  const given = joiningRole(room, subject);
  if (role !== given) throw new DomainError("role_required", `joining this room gives the role ${given}`);
}

/** Admins add and remove members and readers; any other giving or taking of a role is an owner's. */
const setsRole = (before: Role | undefined, after: Role): boolean =>
  before === undefined ? RANK[after] > RANK.member : before !== after || RANK[before] > RANK.member;

const isLastOwner = (room: ExistingRoom): boolean => room.owners === 1 && room.members.size > 1;

function changeMember(
  room: ExistingRoom,
  { actor, subject, user, changes, at }: CommandOf<"ChangeMember"> & TimedCommand,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  const known = room.members.get(subject);
  requireRole(room, actor, "reader");
  if (known === undefined) throw new DomainError("not_found");
  const before = descriptionIn(priorEvents.get(known.described), subject);
  if (before === undefined) throw new Error(`the description of ${subject} was not given to the decision`);
  const { role = null, name, meta, mutedUntil } = changes;
  const member = {
    ...{ subject, user: before.user },
    name: name === undefined ? before.name : sealOrNull(name),
    meta: meta === undefined ? before.meta : seal(mergeMeta(reveal(before.meta) ?? {}, meta)),
  };
  const changed =
    role === null && name === undefined && meta === undefined
      ? []
      : setMember(room, { type: "SetMember", actor, member, role, at }, priorEvents);
  if (mutedUntil === undefined) return changed;
  return [
    ...changed,
    ...decideModeration(room, { type: "Mute", actor, subject, user, until: mutedUntil, at }, priorEvents),
  ];
}

function removeMember(room: ExistingRoom, { actor, subject, user }: CommandOf<"RemoveMember">): readonly RoomEvent[] {
  const self = actor.type === "user" && actor.id === subject;
  const before = roleOf(room, subject);
  if (!self) requireAdmin(room, actor, mayModerate(before));
  else if (before === undefined && room.settings.kind !== "public") throw new DomainError("not_found");
  if (before === undefined) return [];
  if (self && room.settings.kind === "direct") throw new DomainError("forbidden", "nobody leaves a direct room");
  if (before === "owner" && isLastOwner(room)) throw new DomainError("last_owner");
  return [{ type: "MemberLeft", data: { subject, user: { open: user }, reason: self ? "left" : "removed" } }];
}

/** A member's description is compared where the log holds it. */
function priorEvents(state: Room, command: RoomCommand): readonly number[] {
  if (state.status !== "live") return [];
  switch (command.type) {
    case "SetMember":
      return [state.members.get(command.member.subject)?.described ?? []].flat();
    case "ChangeMember":
      return [state.members.get(command.subject)?.described ?? []].flat();
    case "Ban":
      return [state.bans.get(command.subject)?.seq ?? []].flat();
    case "Post":
    case "Complete":
    case "Cancel":
    case "Edit":
    case "DeleteMessage":
    case "RestoreMessage":
    case "React":
    case "Unreact":
      return messagePriorEvents(state, command);
    default:
      return [];
  }
}

export const roomDecider: Decider<Room, RoomEvent, RoomCommand> = {
  name: "room",
  events: roomEvents,
  initial: { status: "none" },
  evolve,
  decide,
  priorEvents,
  weigh: (state) =>
    state.status === "live"
      ? (state.members.size + state.changes.size + state.bans.size) / 8 + weighResponses(state.responses)
      : 0,
  snapshot: roomSnapshot,
};
