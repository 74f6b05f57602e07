// What the outside sees of a room's event: a function of the event and of what has become of its message since.
import type { RoomId, Subject } from "../contract/ids.ts";
import type { PublicActor, PublicEvent, RoomEventType } from "../contract/public-events.ts";
import type { MemberResource } from "../contract/rooms.ts";
import { rfc3339 } from "../contract/time.ts";
import { reveal } from "../domain/event.ts";
import { growthOf } from "../domain/growing-message.ts";
import { hasResponses, respondersTo } from "../domain/room-responses.ts";
import {
  contentSeq,
  descriptionIn,
  type ExistingRoom,
  type Member,
  type Room,
  type RoomEvent,
} from "../domain/room-state.ts";
import { publicEventId } from "../event-store/derived-ids.ts";
import type { StoredEvent } from "../event-store/envelope.ts";
import { banResource, memberOfEvent, messageOfEvents, roomOfState, shownResponses } from "./resources.ts";

export type StoredRoomEvent = StoredEvent<RoomEvent>;
type EventOf<T extends RoomEvent["type"]> = StoredEvent<Extract<RoomEvent, { type: T }>>;

/** Public name of each event of a room. */
export const ROOM_NAMES = {
  RoomCreated: "room.created",
  RoomUpdated: "room.updated",
  RoomDeactivated: "room.deactivated",
  RoomActivated: "room.activated",
  RoomDeleted: "room.deleted",
  MemberJoined: "member.joined",
  MemberUpdated: "member.updated",
  MemberLeft: "member.left",
  MemberMuted: "member.updated",
  MemberBanned: "member.banned",
  MemberUnbanned: "member.unbanned",
  MessagePosted: "message.posted",
  MessageCompleted: "message.completed",
  MessageCancelled: "message.cancelled",
  MessageEdited: "message.edited",
  MessageDeleted: "message.deleted",
  MessageRestored: "message.restored",
  ReactionAdded: "reaction.added",
  ReactionRemoved: "reaction.removed",
} as const satisfies Record<RoomEvent["type"], RoomEventType>;

/** What an event is shown with, besides itself. */
type EventFacts = {
  readonly room: RoomId;
  /** Its position, sealed for its client. */
  readonly position: string;
  /** The room now: which of its messages are deleted, and the seqs of their contents. */
  readonly now: Room;
  /** The room just before the event and just after it, where `showsRoom` says that it is needed. */
  readonly before: Room | undefined;
  readonly after: Room | undefined;
  /** The user's own name, shown when the member has none in the room. */
  readonly ownName: string | null;
  /** A user's id by subject, where `responders` names it; null when the person was erased. */
  readonly userIdOf: (subject: Subject) => string | null;
  /** The events at the seqs that `priorSeqs` named. */
  readonly priorEvents: ReadonlyMap<number, StoredRoomEvent>;
  /** Who acted, as the outside sees it: of this event, and of the edit that it shows. */
  readonly actorOf: (event: StoredRoomEvent) => PublicActor;
};

/**
 * Whether an event is shown with the room around it: its settings, what it knew of a member, or what members had done with
 * a message. `now`: the room now, which knows of every message that members ever did something with.
 */
export function showsRoom(event: StoredRoomEvent, now: Room): boolean {
  const { type } = event;
  if (showsResponses(event)) return now.status !== "live" || hasResponses(now.responses, event.data.messageSeq);
  return type.startsWith("Room") || type === "MemberUpdated" || type === "MemberLeft" || type === "MemberMuted";
}

type Changing = EventOf<"MessageCompleted" | "MessageCancelled" | "MessageEdited" | "MessageRestored">;
/** Whether an event shows its message with what members had done with it by then. */
const showsResponses = (event: StoredRoomEvent): event is Changing =>
  event.type === "MessageEdited" ||
  event.type === "MessageRestored" ||
  event.type === "MessageCompleted" ||
  event.type === "MessageCancelled";

/** The members that an event names because of what they did with its message before. */
export function responders(event: StoredRoomEvent, after: Room | undefined): readonly Subject[] {
  if (!showsResponses(event)) return [];
  return after?.status === "live" ? respondersTo(after.responses, event.data.messageSeq) : [];
}

const changeOf = (now: Room, messageSeq: number) => (now.status === "live" ? now.changes.get(messageSeq) : undefined);

/** The seq of the posting of the message that an event is about; null for events about no message. */
export function messageSeqOf(event: StoredRoomEvent): number | null {
  switch (event.type) {
    case "MessagePosted":
      return event.revision + 1;
    case "MessageCompleted":
    case "MessageCancelled":
    case "MessageEdited":
    case "MessageDeleted":
    case "MessageRestored":
    case "ReactionAdded":
    case "ReactionRemoved":
      return event.data.messageSeq;
    default:
      return null;
  }
}

/** The seqs of other events that an event is shown with: its message's posting, content and deletion, or its member's description. */
export function priorSeqs(
  event: StoredRoomEvent,
  { now, before }: Pick<EventFacts, "now" | "before">,
): readonly number[] {
  if (event.type === "MemberLeft" || event.type === "MemberMuted")
    return [memberIn(before, event.data.subject).described];
  const seq = messageSeqOf(event);
  if (seq === null || event.type === "MessageDeleted" || "emoji" in event.data) return [];
  const change = changeOf(now, seq);
  const posting = event.type === "MessagePosted" ? [] : [seq];
  const content = event.type === "MessageRestored" && now.status === "live" ? [contentSeq(now, seq)] : [];
  return [...new Set([...posting, ...content, ...(change?.deleted === true ? [change.change] : [])])];
}

/** A room's event as the outside sees it. Throws when a prior event is missing. */
export const publicRoomEvent = (event: StoredRoomEvent, facts: EventFacts): PublicEvent => ({
  id: publicEventId(event.id),
  room_id: facts.room,
  seq: event.revision + 1,
  type: ROOM_NAMES[event.type],
  at: rfc3339(event.meta.at),
  position: facts.position,
  actor: facts.actorOf(event),
  data: dataOf(event, facts),
});

function dataOf(event: StoredRoomEvent, facts: EventFacts): object {
  const { at } = event.meta;
  switch (event.type) {
    case "RoomCreated":
    case "RoomUpdated":
    case "RoomDeactivated":
    case "RoomActivated":
    case "RoomDeleted":
      return roomData(event, facts);
    case "MemberJoined":
      return memberOfEvent(event.data, { joinedAt: at, mutedUntil: null }, facts.ownName);
    case "MemberUpdated":
      return memberOfEvent(event.data, memberIn(facts.after, event.data.subject), facts.ownName);
    case "MemberLeft":
      return {
        ...describedMember(event.data.subject, memberIn(facts.before, event.data.subject), facts),
        reason: event.data.reason,
      };
    case "MemberMuted":
      return describedMember(event.data.subject, memberIn(facts.after, event.data.subject), facts);
    case "MemberBanned": {
      const { user, until, reason } = event.data;
      const ban = {
        user_id: reveal(user),
        until,
        reason: reveal(reason),
        banned_at: at,
        banned_by: facts.actorOf(event),
      };
      return banResource(ban);
    }
    case "MemberUnbanned":
      return { user_id: reveal(event.data.user) };
    case "MessagePosted":
      return messageData(event, event, facts);
    case "MessageCompleted":
    case "MessageCancelled":
    case "MessageEdited":
      return messageData(postingOf(event, facts), event, facts);
    case "MessageRestored":
      return messageData(postingOf(event, facts), contentOf(event, facts), facts);
    case "MessageDeleted":
      return { id: event.data.id, seq: event.data.messageSeq, deleted_at: rfc3339(at) };
    case "ReactionAdded":
    case "ReactionRemoved":
      return { message_id: event.data.id, emoji: event.data.emoji, user_id: reveal(event.data.user) };
  }
}

function roomData(event: StoredRoomEvent, { room, before, after }: EventFacts): object {
  const shown = liveRoom(event.type === "RoomDeleted" ? before : after);
  return roomOfState(room, { ...shown, seq: event.revision + 1 });
}

/** A member that an event before describes. */
function describedMember(subject: Subject, member: Member, facts: EventFacts): MemberResource {
  const { described, role } = member;
  const description = descriptionIn(priorEvent(facts, described), subject);
  if (description === undefined) throw new Error(`the event at ${described} of ${facts.room} describes no such member`);
  return memberOfEvent({ ...description, role }, member, facts.ownName);
}

function liveRoom(room: Room | undefined): ExistingRoom {
  if (room?.status !== "live") throw new Error("an event of a room is shown without the room");
  return room;
}

function memberIn(room: Room | undefined, subject: Subject): Member {
  const member = liveRoom(room).members.get(subject);
  if (member === undefined) throw new Error(`${subject} is no member of the room that its event is shown with`);
  return member;
}

type Content = EventOf<"MessagePosted" | "MessageEdited" | "MessageCompleted" | "MessageCancelled">;
const holdsContent = (event: StoredRoomEvent): event is Content => "content" in event.data;

/** A message with the content of one event; deleted now, it shows none. */
function messageData(posting: EventOf<"MessagePosted">, content: Content, facts: EventFacts): object {
  const seq = posting.revision + 1;
  const change = changeOf(facts.now, seq);
  // fence: deleted-in-frames
  const deletion = change?.deleted === true ? priorEvent(facts, change.change) : undefined;
  return messageOfEvents({
    ...{ room: facts.room, seq, posting: posting.data, postedAt: posting.meta.at },
    state: content.type === "MessagePosted" && posting.data.growing ? "growing" : endedAs(facts.now, seq),
    end: content.type === "MessageCompleted" || content.type === "MessageCancelled" ? content.data : null,
    edit:
      content.type === "MessageEdited" ? { data: content.data, at: content.meta.at, by: facts.actorOf(content) } : null,
    deletedAt: deletion?.meta.at ?? null,
    responses: shownResponses(facts.after, seq, facts.userIdOf),
  });
}

/** How a message stands that does not grow any more. */
const endedAs = (now: Room, seq: number) => (now.status === "live" ? growthOf(now, seq) : "complete");

function postingOf(event: Changing, facts: EventFacts): EventOf<"MessagePosted"> {
  const posting = priorEvent(facts, event.data.messageSeq);
  if (posting.type !== "MessagePosted") throw new Error(`${posting.type} of ${facts.room} is no posting`);
  return posting;
}

/** What a restored message says now. */
function contentOf({ data }: EventOf<"MessageRestored">, facts: EventFacts): Content {
  const { now } = facts;
  const content = priorEvent(facts, now.status === "live" ? contentSeq(now, data.messageSeq) : data.messageSeq);
  if (holdsContent(content)) return content;
  throw new Error(`${content.type} of ${facts.room} holds no content`);
}

function priorEvent({ room, priorEvents }: EventFacts, seq: number): StoredRoomEvent {
  const event = priorEvents.get(seq);
  if (event === undefined) throw new Error(`the event at ${seq} of ${room} is missing`);
  return event;
}
