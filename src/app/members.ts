// Members of rooms: who they are, who is banned from being one, and how far each has read.
import type { FieldFault } from "../contract/errors.ts";
import type { PageQuery } from "../contract/fields.ts";
import type { RoomId, Subject } from "../contract/ids.ts";
import type {
  BanResource,
  MemberInput,
  MemberPatch,
  MemberResource,
  NewBan,
  ReadMarkerInput,
  ReadMarkerResource,
} from "../contract/rooms.ts";
import { SECOND_MS } from "../contract/time.ts";
import type { PresenceResource } from "../contract/users.ts";
import { type Actor, DomainError, InvalidInput, refuse } from "../domain/decider.ts";
import { reveal, seal, sealOrNull } from "../domain/event.ts";
import { type ReadsCommand, readsDecider, readsStream } from "../domain/reads.ts";
import {
  descriptionIn,
  type ExistingRoom,
  type RoomEvent,
  requireAdmin,
  requireExisting,
} from "../domain/room-state.ts";
import type { Position } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { listBans as queryBans } from "../projections/models/bans.ts";
import { markersOf, listReads as queryReads, unreadOf } from "../projections/models/reads.ts";
import { listMembers as queryMembers } from "../projections/models/rooms.ts";
import type { Page } from "../projections/page.ts";
import { policyFor } from "./clients.ts";
import { AppError } from "./errors.ts";
import { banResource, memberOfEvent, memberResource, readMarkerResource } from "./resources.ts";
import { eventAt, executeOnRoom, openAsMember } from "./rooms.ts";
import type { Call, Services, Written } from "./services.ts";

/** How long an answer waits for the read model to count what is unread now. */
const COUNT_WAIT_MS = 5 * SECOND_MS;
const READS_AT_ONCE = 50;

type SetMember = {
  readonly member: MemberResource;
  readonly joined: boolean;
  readonly position: Position;
  /** Where the member is found. */
  readonly path: string;
};

/** The fault of a user's token that names somebody else. */
export const OTHERS_NAME = { code: "not_allowed", message: "is for the member itself or a client key to set" } as const;

/** A user's token makes no users. Throws InvalidInput. */
export async function requireUsers(
  { people }: Services,
  named: readonly { readonly subject: Subject; readonly path: string }[],
): Promise<void> {
  // fence: users-by-users
  const faults = await mapBounded(named, READS_AT_ONCE, async ({ subject, path }): Promise<readonly FieldFault[]> => {
    const { userId } = await people.of(subject);
    return userId === null ? [{ path, code: "not_allowed", message: "is not a user of this client" }] : [];
  });
  refuse(faults.flat());
}

/** Adds a member, or replaces its role, name and meta. Throws what the room's rules refuse. */
export async function setMember(
  call: Call,
  named: string,
  userId: string,
  { role, name, meta }: MemberInput,
  onlyNew: boolean,
): Promise<SetMember> {
  const { services, caller } = call;
  const subject = await services.keyring.subjectOfUser(caller.client, userId);
  if (caller.kind === "user" && caller.subject !== subject) {
    if (name !== null) throw new InvalidInput([{ ...OTHERS_NAME, path: "name" }]);
    // Only who is in the room learns who exists.
    const { room } = await openAsMember(services, caller, named);
    if (!room.members.has(subject)) await requireUsers(services, [{ subject, path: "user_id" }]);
  }
  const described = { subject, user: seal(userId), name: sealOrNull(name), meta: seal(meta) };
  const change = { type: "SetMember", member: described, role, onlyNew, policy: await policyFor(call) } as const;
  const { room, state, events, ...outcome } = await executeOnRoom(call, named, change);
  const member = await shownMember(services, room, requireExisting(state), subject, events[0]);
  const position = await services.people.ensure(call, [{ subject, userId }], outcome.position);
  return {
    member,
    joined: events[0]?.type === "MemberJoined",
    position,
    path: `/rooms/${room}/members/${encodeURIComponent(userId)}`,
  };
}

/** Changes some of a member. Throws what the room's rules refuse. */
export async function changeMember(
  call: Call,
  named: string,
  userId: string,
  { muted_until: mutedUntil, ...patch }: MemberPatch,
): Promise<{ readonly member: MemberResource; readonly position: Position }> {
  const { services, caller } = call;
  const subject = await services.keyring.subjectOfUser(caller.client, userId);
  if (patch.name !== undefined && caller.kind === "user" && caller.subject !== subject)
    throw new InvalidInput([{ ...OTHERS_NAME, path: "name" }]);
  const changes = omitUndefined({ ...patch, mutedUntil });
  const change = { type: "ChangeMember", subject, user: userId, changes } as const;
  const { room, state, position } = await executeOnRoom(call, named, change);
  return { member: await shownMember(services, room, requireExisting(state), subject), position };
}

/** A member as the room's state has it; `event` may be the one that describes it. Throws unavailable when it left meanwhile. */
async function shownMember(
  services: Services,
  room: RoomId,
  state: ExistingRoom,
  subject: Subject,
  event?: RoomEvent,
): Promise<MemberResource> {
  const known = state.members.get(subject);
  const described = descriptionIn(event ?? (await eventAt(services, room, known?.described ?? 1)), subject);
  if (known === undefined || described === undefined)
    throw new AppError("unavailable", { detail: "The member left meanwhile. Try again." });
  const ownName = described.name === null ? (await services.people.of(subject)).name : null;
  return memberOfEvent({ ...described, role: known.role }, known, ownName);
}

/** Bans a user, who is removed if it is a member. Throws what the room's rules refuse. */
export async function banUser(
  call: Call,
  named: string,
  userId: string,
  { until, reason }: NewBan,
): Promise<Written & { readonly ban: BanResource }> {
  const { services, caller, at } = call;
  if (until !== null && until <= at)
    throw new InvalidInput([{ path: "until", code: "too_small", message: "must be in the future" }]);
  const subject = await services.keyring.subjectOfUser(caller.client, userId);
  const change = { type: "Ban", subject, user: userId, until, reason } as const;
  const { room, state, position, replayed } = await executeOnRoom(call, named, change);
  const event = await eventAt(services, room, requireExisting(state).bans.get(subject)?.seq ?? 1);
  if (event?.type !== "MemberBanned")
    throw new AppError("unavailable", { detail: "The ban was lifted meanwhile. Try again." });
  const by = await services.people.actor(event.meta.actor);
  const facts = { user_id: userId, until: event.data.until, reason: reveal(event.data.reason) };
  return { ban: banResource({ ...facts, banned_at: event.meta.at, banned_by: by }), position, replayed };
}

/** Throws what the room's rules refuse. */
export async function unbanUser(call: Call, named: string, user: string): Promise<Written> {
  const subject = await call.services.keyring.subjectOfUser(call.caller.client, user);
  return executeOnRoom(call, named, { type: "Unban", subject, user });
}

/** Bans that hold now, newest first. Throws not_found, not_a_member, role_required, InvalidCursor. */
export async function listBans(call: Call, named: string, query: PageQuery): Promise<Page<BanResource>> {
  const { services, caller, read, at } = call;
  const { id, room } = await openAsMember(services, caller, named);
  requireAdmin(room, caller.actor, "admin");
  const { rows, next } = await queryBans(read, id, { ...omitUndefined(query), at });
  const shown = await mapBounded(rows, READS_AT_ONCE, async ({ actor_type: type, actor_id, ...row }) =>
    banResource({ ...row, banned_by: await services.people.actor({ type, id: actor_id } as Actor) }),
  );
  return { rows: shown, next };
}

/** A user leaves by naming itself. Throws what the room's rules refuse. */
export async function removeMember(call: Call, named: string, user: string): Promise<Written> {
  const subject = await call.services.keyring.subjectOfUser(call.caller.client, user);
  return executeOnRoom(call, named, { type: "RemoveMember", subject, user });
}

/** Newest first. Throws not_found, not_a_member, InvalidCursor. */
export async function listMembers(
  { services, caller, read }: Call,
  named: string,
  query: PageQuery,
): Promise<Page<MemberResource>> {
  const { id } = await openAsMember(services, caller, named);
  const { rows, next } = await queryMembers(read, id, omitUndefined(query));
  return { rows: rows.map(memberResource), next };
}

/** Who of the members is online, newest member first. Throws not_found, not_a_member, InvalidCursor. */
export async function listRoomPresence(call: Call, named: string, query: PageQuery): Promise<Page<PresenceResource>> {
  const { services, caller } = call;
  const { rows, next } = await listMembers(call, named, query);
  const shown = await mapBounded(rows, READS_AT_ONCE, async ({ user_id: user }) =>
    user === null ? ERASED : services.presence.of(await services.keyring.subjectOfUser(caller.client, user), user),
  );
  return { rows: shown, next };
}
const ERASED: PresenceResource = { user_id: null, online: false, since: null, last_seen_at: null, devices: 0 };

type Reader = { readonly user: string; readonly subject: Subject };
/** Which markers move, and where to; `mark_unread` sets the read one back too. */
type Moves = Partial<ReadMarkerInput>;

/**
 * Moves a member's markers forward, where a lower seq changes nothing, or sets the read one back. Throws not_found,
 * not_a_member, forbidden, InvalidInput; setting back read_model_behind as well.
 */
export async function moveMarkers(call: Call, named: string, reader: Reader, moves: Moves) {
  const { services, caller, read, at, context } = call;
  const { subject, user } = reader;
  const { id, room, position: head } = await openAsMember(services, caller, named);
  if (caller.kind === "user" && caller.subject !== subject) {
    throw new AppError("forbidden", { detail: "a user token may only move its own user's markers" });
  }
  const member = room.members.get(subject);
  if (member === undefined) throw new DomainError("not_a_member", "the user is not a member of this room");
  const { seq, delivered_seq: delivered, mark_unread: back = false } = moves;
  const message = `must be at most ${room.seq}`;
  refuse(
    Object.entries({ seq, delivered_seq: delivered }).flatMap(([path, value]) =>
      (value ?? 0) > room.seq ? [{ path, code: "too_large", message } as const] : [],
    ),
  );
  // To set back rests on what is read now; an older floor only means a marker that says nothing new.
  if (back && head !== null && !(await services.readSide.waitFor(head, COUNT_WAIT_MS)))
    throw new AppError("read_model_behind");
  const now = await markersOf(read, id, subject);
  const whose = { at, subject, user };
  const commands: ReadsCommand[] = [];
  if (seq !== undefined && back) {
    const to = Math.max(seq, /* fence: unread-before-joining */ member.joinedSeq);
    commands.push({ ...whose, type: "MarkUnread", seq: to, readSeq: now?.read_seq ?? -1, head: room.seq });
  } else if (seq !== undefined) {
    const floor = { seq: now?.implicit_seq ?? 0, base: now?.base ?? 0 };
    commands.push({ ...whose, type: "MarkRead", seq, floor });
  }
  if (delivered !== undefined)
    commands.push({ ...whose, type: "MarkDelivered", seq: delivered, floor: now?.delivered_seq ?? 0 });
  const positions = head === null ? [] : [head];
  for (const [index, command] of commands.entries()) {
    // Each is a command of its own.
    const own = index === 0 ? context : { ...context, commandId: services.newId() };
    const { position } = await services.commands.execute(readsDecider, readsStream(id), command, own);
    positions.push(position);
  }
  return { room: id, position: positions.reduce((latest, one) => (one > latest ? one : latest)) };
}

/** As `moveMarkers`, with what is unread then. Throws read_model_behind as well. */
export async function putReadMarker(
  call: Call,
  named: string,
  user: string,
  moves: ReadMarkerInput,
): Promise<{ readonly marker: ReadMarkerResource; readonly position: Position }> {
  const { services, caller, read } = call;
  const subject = await services.keyring.subjectOfUser(caller.client, user);
  const { room, position } = await moveMarkers(call, named, { user, subject }, moves);
  if (!(await services.readSide.waitFor(position, COUNT_WAIT_MS))) throw new AppError("read_model_behind");
  const unread = await unreadOf(read, room, subject);
  if (unread === undefined) throw new DomainError("not_a_member", "the user left the room meanwhile");
  return { marker: readMarkerResource({ room_id: room, user_id: user, ...unread }), position };
}

/** Newest member first. Throws not_found, not_a_member, InvalidCursor. */
export async function listReadMarkers(
  { services, caller, read }: Call,
  named: string,
  query: PageQuery,
): Promise<Page<ReadMarkerResource>> {
  const { id } = await openAsMember(services, caller, named);
  const { rows, next } = await queryReads(read, id, omitUndefined(query));
  return { rows: rows.map(readMarkerResource), next };
}
