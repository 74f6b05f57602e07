// Frames: what a room's event looks like to those who listen. A function of the event and of what has become of its message.

import type { MessageId, RoomId } from "../contract/ids.ts";
import type { JsonObject } from "../contract/json.ts";
import type { Role } from "../contract/resources.ts";
import type { Instant } from "../contract/time.ts";
import { reveal, type Sealed } from "../domain/event.ts";
import type { RoomEvent } from "../domain/room-events.ts";
import { contentSeq, type LiveRoom, type Room } from "../domain/room-state.ts";
import type { StoredEvent } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";

export type StoredRoomEvent = StoredEvent<RoomEvent>;
type EventOf<T extends RoomEvent["type"]> = StoredEvent<Extract<RoomEvent, { type: T }>>;

/** What the interface calls each event of a room; the same in frames and webhooks. */
const EVENT_NAMES = {
  RoomCreated: "room.created",
  RoomUpdated: "room.updated",
  RoomDeactivated: "room.deactivated",
  RoomActivated: "room.activated",
  RoomDeleted: "room.deleted",
  MemberJoined: "member.joined",
  MemberUpdated: "member.updated",
  MemberLeft: "member.left",
  MessagePosted: "message.posted",
  MessageEdited: "message.edited",
  MessageDeleted: "message.deleted",
  MessageRestored: "message.restored",
} as const satisfies Record<RoomEvent["type"], string>;

/** A user by its own id, null when the person was erased; a key by its id. */
export type FrameActor = { readonly type: string; readonly id: string | null };

export type EventFrame = {
  readonly type: "event";
  readonly room_id: RoomId;
  readonly seq: number;
  readonly event: (typeof EVENT_NAMES)[RoomEvent["type"]];
  readonly at: string;
  readonly position: Position;
  readonly actor: FrameActor;
  readonly data: JsonObject;
};

/** A member's data as the log tells it; just before the event, for one that changed or left. */
export type MemberFacts = {
  readonly name: string | null;
  readonly role: Role | null;
  readonly meta: JsonObject;
  readonly joinedAt: Instant | null;
};

/** What a frame is made of besides its event. */
type FrameFacts = {
  readonly room: RoomId;
  /** The room now: which of its messages are deleted, and where their contents stand. */
  readonly now: Room;
  /** The room just after the event, just before it for its deletion. Only `room.*` frames ask for it. */
  readonly roomThen: LiveRoom | undefined;
  /** Of the member that changed or left, just before. Only `member.updated` and `member.left` ask for it. */
  readonly member: MemberFacts | undefined;
  /** The user's own name, shown when the member has none in the room. Only `member.*` frames ask for it. */
  readonly ownName: string | null;
  /** The events at the seqs that `framePremises` named. */
  readonly premises: ReadonlyMap<number, StoredRoomEvent>;
  readonly actor: FrameActor;
};

const iso = (at: Instant): string => new Date(at).toISOString();
const changeOf = (now: Room, messageSeq: number) => (now.status === "live" ? now.changes.get(messageSeq) : undefined);

/** The seq of the posting of the message that an event is about; null for events about no message. */
export function messageSeqOf(event: StoredRoomEvent): number | null {
  switch (event.type) {
    case "MessagePosted":
      return event.revision + 1;
    case "MessageEdited":
    case "MessageDeleted":
    case "MessageRestored":
      return event.data.messageSeq;
    default:
      return null;
  }
}

/** The seqs of other events that an event's frame is made of: a message's posting, its content, its deletion. */
export function framePremises(event: StoredRoomEvent, now: Room): readonly number[] {
  const seq = messageSeqOf(event);
  if (seq === null || event.type === "MessageDeleted") return [];
  const change = changeOf(now, seq);
  const posting = event.type === "MessagePosted" ? [] : [seq];
  const content = event.type === "MessageRestored" && now.status === "live" ? [contentSeq(now, seq)] : [];
  return [...new Set([...posting, ...content, ...(change?.deleted === true ? [change.change] : [])])];
}

/** The frame of a room's event. Throws when a premise is missing. */
export function frameOf(event: StoredRoomEvent, facts: FrameFacts): EventFrame {
  return {
    type: "event",
    room_id: facts.room,
    seq: event.revision + 1,
    event: EVENT_NAMES[event.type],
    at: iso(event.meta.at),
    position: event.position,
    actor: facts.actor,
    data: dataOf(event, facts),
  };
}

function dataOf(event: StoredRoomEvent, facts: FrameFacts): JsonObject {
  const { at } = event.meta;
  switch (event.type) {
    case "RoomCreated":
    case "RoomUpdated":
    case "RoomDeactivated":
    case "RoomActivated":
    case "RoomDeleted":
      return roomData(facts, event.revision + 1);
    case "MemberJoined":
    case "MemberUpdated": {
      const { user, name, role, meta } = event.data;
      const joinedAt = event.type === "MemberJoined" ? at : (facts.member?.joinedAt ?? null);
      return memberData(user, { name: reveal(name), role, meta: reveal(meta) ?? {}, joinedAt }, facts.ownName);
    }
    case "MemberLeft":
      return { ...memberData(event.data.user, facts.member, facts.ownName), reason: event.data.reason };
    case "MessagePosted":
      return messageData(event, event, facts);
    case "MessageEdited":
      return messageData(postingOf(facts, event.data.messageSeq), event, facts);
    case "MessageRestored":
      return restoredData(event, facts);
    case "MessageDeleted":
      return { id: event.data.id, seq: event.data.messageSeq, deleted_at: iso(at) };
  }
}

function roomData({ room, roomThen: then }: FrameFacts, seq: number): JsonObject {
  if (then === undefined) throw new Error(`the frame of ${room} at ${seq} needs the room`);
  return {
    id: room,
    external_id: then.externalId,
    ...then.settings,
    active: then.active,
    seq,
    member_count: then.members.size,
    message_count: then.posted - then.deleted,
    created_at: iso(then.createdAt),
    updated_at: iso(then.updatedAt),
  };
}

const memberData = (user: Sealed<string>, member: MemberFacts | undefined, ownName: string | null): JsonObject => ({
  user_id: reveal(user),
  name: member?.name ?? ownName,
  role: member?.role ?? null,
  meta: member?.meta ?? {},
  joined_at: member === undefined || member.joinedAt === null ? null : iso(member.joinedAt),
});

type Content = EventOf<"MessagePosted"> | EventOf<"MessageEdited">;

/** The message with a content of its own: deleted now, whatever the content, it shows none. */
function messageData(posting: EventOf<"MessagePosted">, content: Content, facts: FrameFacts): JsonObject {
  const seq = posting.revision + 1;
  const change = changeOf(facts.now, seq);
  const deleted = change?.deleted === true;
  const { id, user, senderName, type, replyTo } = posting.data;
  // fence: deleted-in-frames
  const shown = deleted ? null : reveal(content.data.content);
  return {
    id: id satisfies MessageId,
    room_id: facts.room,
    seq,
    sender_id: reveal(user),
    sender_name: reveal(senderName),
    type,
    content: shown,
    meta: deleted ? {} : (reveal(content.data.meta) ?? {}),
    reply_to: replyTo,
    created_at: iso(posting.meta.at),
    edited_at: content.type === "MessageEdited" ? iso(content.meta.at) : null,
    deleted_at: deleted ? iso(premise(facts, change.change).meta.at) : null,
  };
}

function restoredData(event: EventOf<"MessageRestored">, facts: FrameFacts): JsonObject {
  const { messageSeq } = event.data;
  const posting = postingOf(facts, messageSeq);
  const content = facts.now.status === "live" ? premise(facts, contentSeq(facts.now, messageSeq)) : posting;
  if (content.type !== "MessagePosted" && content.type !== "MessageEdited") {
    throw new Error(`the event at ${content.revision + 1} of ${facts.room} holds no content`);
  }
  return messageData(posting, content, facts);
}

function postingOf(facts: FrameFacts, seq: number): EventOf<"MessagePosted"> {
  const posting = premise(facts, seq);
  if (posting.type !== "MessagePosted") throw new Error(`the event at ${seq} of ${facts.room} is no posting`);
  return posting;
}

function premise(facts: FrameFacts, seq: number): StoredRoomEvent {
  const event = facts.premises.get(seq);
  if (event === undefined) throw new Error(`the frame needs the event at ${seq} of ${facts.room}`);
  return event;
}
