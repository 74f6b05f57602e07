// Decisions that keep people from a room, or from posting in it: bans and mutes.
import type { Subject } from "../contract/ids.ts";
import type { Role } from "../contract/rooms.ts";
import type { Instant } from "../contract/time.ts";
import { type Actor, DomainError, type PriorEvents, type TimedCommand } from "./decider.ts";
import { reveal, sealOrNull } from "./event.ts";
import { type Ban, type ExistingRoom, RANK, type RoomEvent, requireAdmin, roleOf } from "./room-state.ts";

type Person = { readonly actor: Actor; readonly subject: Subject; readonly user: string };
export type ModerationCommand =
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
export const mayModerate = (role: Role | undefined): "admin" | "owner" =>
  role !== undefined && RANK[role] > RANK.member ? "owner" : "admin";

export function decideModeration(
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
