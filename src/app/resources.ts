// Resources as answers and frames show them: one conversion each, from what a row of the read model holds, or a state or
// an event says.

import type { AttemptResource, DeliveryResource } from "../contract/deliveries.ts";
import type { RoomId, Subject } from "../contract/ids.ts";
import { type MessageResource, NAMED_USERS, type ReactionResource } from "../contract/messages.ts";
import type { PublicActor } from "../contract/public-events.ts";
import type { BanResource, MemberResource, ReadMarkerResource, RoomResource } from "../contract/rooms.ts";
import { type Instant, rfc3339, rfc3339OrNull } from "../contract/time.ts";
import type { UserResource, UserRoomResource } from "../contract/users.ts";
import { reveal } from "../domain/event.ts";
import { mentionedIn } from "../domain/message-rules.ts";
import { NO_RESPONSES, reactionsTo, threadUnder } from "../domain/room-responses.ts";
import type { ExistingRoom, MemberData, Room, RoomEvent } from "../domain/room-state.ts";
import { openProfile, type User } from "../domain/user.ts";
import type { AttemptRow } from "../projections/models/attempts.ts";
import type { DeliveryRow } from "../projections/models/deliveries.ts";
import type { ShownMessageRow } from "../projections/models/messages.ts";
import type { UserRoom } from "../projections/models/reads.ts";
import type { RoomRow } from "../projections/models/rooms.ts";
import type { UserRow } from "../projections/models/users.ts";

/** A resource before its times are written out: each is an Instant. */
type Timed<R> = { readonly [K in keyof R]: K extends `${string}_at` ? Instant | Extract<R[K], null> : R[K] };

const roomResource = (room: Timed<RoomResource>): RoomResource => ({
  id: room.id,
  external_id: room.external_id,
  name: room.name,
  description: room.description,
  kind: room.kind,
  join_role: room.join_role,
  max_members: room.max_members,
  posting: room.posting,
  history: room.history,
  meta: room.meta,
  active: room.active,
  seq: room.seq,
  member_count: room.member_count,
  message_count: room.message_count,
  created_at: rfc3339(room.created_at),
  updated_at: rfc3339(room.updated_at),
});

export const roomOfRow = (row: RoomRow): RoomResource => roomResource({ ...row, id: row.room_id });

/** The room as it was just after the event that the state ends with. */
export const roomOfState = (id: RoomId, room: ExistingRoom): RoomResource =>
  roomResource({
    id,
    external_id: room.externalId,
    ...room.settings,
    join_role: room.settings.joinRole,
    max_members: room.settings.maxMembers,
    active: room.active,
    seq: room.seq,
    member_count: room.members.size,
    message_count: room.posted - room.deleted,
    created_at: room.createdAt,
    updated_at: room.updatedAt,
  });

export const memberResource = (member: Timed<Omit<MemberResource, "muted_until">> & Muted): MemberResource => ({
  user_id: member.user_id,
  name: member.name,
  role: member.role,
  meta: member.meta,
  joined_at: rfc3339(member.joined_at),
  muted_until: rfc3339OrNull(member.muted_until),
});
type Muted = { readonly muted_until: Instant | null };

/** From the data of an event. `ownName` is the user's, shown when the member has none in the room. */
export const memberOfEvent = (
  data: MemberData,
  { joinedAt, mutedUntil }: { readonly joinedAt: Instant; readonly mutedUntil: Instant | null },
  ownName: string | null,
): MemberResource =>
  memberResource({
    user_id: reveal(data.user),
    name: reveal(data.name) ?? ownName,
    role: data.role,
    meta: reveal(data.meta) ?? {},
    joined_at: joinedAt,
    muted_until: mutedUntil,
  });

export const banResource = ({
  until,
  banned_at,
  ...ban
}: Omit<BanResource, "until" | "banned_at"> & {
  readonly until: Instant | null;
  readonly banned_at: Instant;
}): BanResource => ({
  user_id: ban.user_id,
  until: rfc3339OrNull(until),
  reason: ban.reason,
  banned_at: rfc3339(banned_at),
  banned_by: ban.banned_by,
});

/** How far a member has read. */
export const readMarkerResource = (marker: ReadMarkerResource): ReadMarkerResource => ({
  room_id: marker.room_id,
  user_id: marker.user_id,
  read_seq: marker.read_seq,
  delivered_seq: marker.delivered_seq,
  unread_count: marker.unread_count,
  mention_count: marker.mention_count,
});

/** Of a deleted message nothing of its content is shown. */
const messageResource = (message: Timed<MessageResource>): MessageResource => ({
  id: message.id,
  room_id: message.room_id,
  seq: message.seq,
  sender_id: message.sender_id,
  sender_name: message.sender_name,
  type: message.type,
  content: message.deleted_at === null ? message.content : null,
  meta: message.deleted_at === null ? message.meta : {},
  reply_to: message.reply_to,
  thread_of: message.thread_of,
  mentions: message.deleted_at === null ? message.mentions : [],
  thread: message.thread,
  reactions: message.deleted_at === null ? message.reactions : [],
  created_at: rfc3339(message.created_at),
  edited_at: rfc3339OrNull(message.edited_at),
  edited_by: message.edited_by,
  deleted_at: rfc3339OrNull(message.deleted_at),
  state: message.state,
});

export const messageOfRow = (row: ShownMessageRow): MessageResource =>
  messageResource({ ...row, sender_id: row.user_id });

export const reactionResource = ({ emoji, user_id, created_at }: Timed<ReactionResource>): ReactionResource => ({
  emoji,
  user_id,
  created_at: rfc3339(created_at),
});

type DataOf<T extends RoomEvent["type"]> = Extract<RoomEvent, { type: T }>["data"];

/** What became of a message: its posting, how it ended growing, its last edit, and since when it is deleted. */
export type MessageHistory = {
  readonly room: RoomId;
  readonly seq: number;
  readonly posting: DataOf<"MessagePosted">;
  readonly postedAt: Instant;
  readonly state: MessageResource["state"];
  /** The content at the end of its growth. Null: it never grew, or that content is not shown. */
  readonly end: DataOf<"MessageCompleted"> | null;
  /** The text so far, while it grows. */
  readonly grown?: string | null | undefined;
  readonly edit: { readonly data: DataOf<"MessageEdited">; readonly at: Instant; readonly by: PublicActor } | null;
  readonly deletedAt: Instant | null;
  readonly responses: ShownResponses;
};

/** What members did with a message, as it shows it. */
type ShownResponses = Pick<MessageResource, "reactions" | "thread">;

/** What the room knows of it. A room that is not given had nothing of the kind. `userIdOf`: null for erased people. */
export const shownResponses = (
  room: Room | undefined,
  messageSeq: number,
  userIdOf: (subject: Subject) => string | null,
): ShownResponses => {
  const responses = room?.status === "live" ? room.responses : NO_RESPONSES;
  const named = (all: readonly Subject[]) => all.slice(0, NAMED_USERS).flatMap((subject) => userIdOf(subject) ?? []);
  const { seqs, by: repliers } = threadUnder(responses, messageSeq);
  const last = seqs.at(-1);
  const participants = named(repliers.map(({ sender }) => sender));
  return {
    reactions: reactionsTo(responses, messageSeq).map(({ emoji, by }) => ({
      emoji,
      count: by.length,
      user_ids: named(by),
    })),
    thread:
      last === undefined ? null : { reply_count: seqs.length, participant_ids: participants, last_reply_seq: last },
  };
};

export function messageOfEvents({
  room,
  seq,
  posting,
  postedAt,
  state,
  end,
  grown,
  edit,
  deletedAt,
  responses,
}: MessageHistory): MessageResource {
  const { content, meta, mentions, everyone } = edit?.data ?? end ?? posting;
  return messageResource({
    id: posting.id,
    room_id: room,
    seq,
    sender_id: reveal(posting.user),
    sender_name: reveal(posting.senderName),
    type: posting.type,
    content: grown === undefined ? reveal(content) : grown,
    meta: reveal(meta) ?? {},
    reply_to: posting.replyTo,
    thread_of: posting.thread?.id ?? null,
    mentions: mentionedIn({ mentions, everyone }),
    ...responses,
    created_at: postedAt,
    edited_at: edit?.at ?? null,
    edited_by: edit?.by ?? null,
    deleted_at: deletedAt,
    state,
  });
}

const userResource = (user: Timed<UserResource>): UserResource => ({
  id: user.id,
  name: user.name,
  email: user.email,
  timezone: user.timezone,
  meta: user.meta,
  created_at: rfc3339(user.created_at),
  updated_at: rfc3339(user.updated_at),
});

export const userOfRow = (row: UserRow): UserResource => userResource({ ...row, id: row.user_id });

export const userOfState = (id: string, user: Extract<User, { status: "registered" }>): UserResource =>
  userResource({
    id,
    ...openProfile(user.profile),
    created_at: user.createdAt,
    updated_at: user.updatedAt,
  });

/** A room among those of a user. */
export const userRoomResource = ({ room, role, last_message, ...unread }: UserRoom): UserRoomResource => ({
  room: roomOfRow(room),
  role,
  seq: room.seq,
  read_seq: unread.read_seq,
  delivered_seq: unread.delivered_seq,
  unread_count: unread.unread_count,
  mention_count: unread.mention_count,
  last_message: last_message === null ? null : messageOfRow(last_message),
});

const attemptResource = (row: AttemptRow): AttemptResource => ({
  number: row.number,
  started_at: rfc3339(row.started_at),
  ended_at: rfc3339OrNull(row.ended_at),
  outcome: row.outcome,
  provider: row.provider,
  response: row.response,
  error: row.error,
  next_attempt_at: rfc3339OrNull(row.next_attempt_at),
});

/** What is known of a delivery before it is made. */
type AnnouncedDelivery = Pick<DeliveryRow, "id" | "notification_id" | "channel" | "address" | "status"> &
  Partial<Pick<DeliveryRow, "held_until" | "error">>;

/** What a delivery is before anything happened to it. */
const NOTHING_YET = {
  endpoint_id: null,
  event_id: null,
  fallback_of: null,
  attempt_count: 0,
  next_attempt_at: null,
  held_until: null,
  sent_at: null,
  delivered_at: null,
  read_at: null,
  opened_at: null,
  provider: null,
  provider_message_id: null,
  error: null,
};

const endpointSource = ({ endpoint_id, event_id }: Pick<DeliveryRow, "endpoint_id" | "event_id">) =>
  endpoint_id === null || event_id === null ? null : { endpoint_id, event_id };

/** A delivery with its own attempts, in order; also one that is not made yet. */
export function deliveryResource(
  delivery: DeliveryRow | AnnouncedDelivery,
  attempts: readonly AttemptRow[],
): DeliveryResource {
  const row = { ...NOTHING_YET, ...delivery };
  return {
    id: row.id,
    notification_id: row.notification_id,
    source: endpointSource(row),
    channel: row.channel,
    recipient: row.address,
    status: row.status,
    fallback_of: row.fallback_of,
    attempt_count: row.attempt_count,
    next_attempt_at: rfc3339OrNull(row.next_attempt_at),
    held_until: rfc3339OrNull(row.held_until),
    sent_at: rfc3339OrNull(row.sent_at),
    delivered_at: rfc3339OrNull(row.delivered_at),
    read_at: rfc3339OrNull(row.read_at),
    opened_at: rfc3339OrNull(row.opened_at),
    provider: row.provider,
    provider_message_id: row.provider_message_id,
    error: row.error,
    attempts: attempts.map(attemptResource),
  };
}
