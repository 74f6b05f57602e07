// Rules that all decisions about a room's messages share: who sees which, who may post, and what its events say of one.

import type { FieldFault } from "../contract/errors.ts";
import { type MessageId, type RoomId, type Subject, seqOfMessage } from "../contract/ids.ts";
import { isObject } from "../contract/json.ts";
import { EVERYONE } from "../contract/messages.ts";
import type { PublicEvent } from "../contract/public-events.ts";
import type { Instant } from "../contract/time.ts";
import { type Actor, DomainError, type PriorEvents } from "./decider.ts";
import { reveal } from "./event.ts";
import { type ExistingRoom, RANK, type RoomEvent, roleOf } from "./room-state.ts";

// What of a room's history a member sees. A room with `history: from_join` shows each member what happened from its last
// joining on; client keys see everything.

/**
 * The first seq that an actor sees of a room: everything for all but users, and in a room that shows all. Whoever shows
 * a room to a caller must
 *
 * - show no message whose seq is lower: lists leave it out, naming it is `not_found`;
 * - tell no event whose seq is lower: catch-up and streams start here;
 * - pass later events through `eventSeenFrom`, as they may be about older messages.
 *
 * The state must be the newest there is: joining again and changing the room's settings move it. In a query, a member
 * sees the messages with `rooms.history = 'all' or messages.seq >= members.joined_seq`.
 */
export function visibleFrom(room: ExistingRoom, actor: Actor): number {
  // fence: history-from-join
  if (actor.type !== "user" || room.settings.history === "all") return 0;
  return room.members.get(actor.id)?.joinedSeq ?? Number.POSITIVE_INFINITY;
}

/**
 * An event as it is told to who sees the room from a seq on: undefined before that, and without anything of its message
 * when that is older. It keeps its id, type and seq.
 */
export function eventSeenFrom<E extends Pick<PublicEvent, "room_id" | "seq" | "data">>(
  event: E,
  from: number,
): E | undefined {
  if (event.seq !== null && event.seq < from) return undefined;
  const id = messageIdIn(event.data);
  const posted = event.room_id === null || id === undefined ? undefined : seqOfMessage(event.room_id as RoomId, id);
  // fence: hidden-in-events
  return posted === undefined || posted >= from ? event : { ...event, data: { id, hidden: true } };
}

/** The message that an event's data are or name. */
function messageIdIn(data: object): string | undefined {
  const id = "message_id" in data ? data.message_id : "id" in data ? data.id : undefined;
  return typeof id === "string" ? id : undefined;
}

export type Posting = Extract<RoomEvent, { type: "MessagePosted" }>["data"];

/** Whoever may post may not by a client key either, when it is a reader, muted, or the room is its admins'. */
export function requirePosting(room: ExistingRoom, sender: Subject, at: Instant): void {
  const role = roleOf(room, sender) ?? "reader";
  // fence: post-muted
  if ((room.members.get(sender)?.mutedUntil ?? 0) > at) throw new DomainError("muted");
  const least = /* fence: post-admins */ room.settings.posting === "admins" ? "admin" : "member";
  if (RANK[role] < RANK[least]) throw new DomainError("read_only");
}

/** Only what shows something else, an image, a file or the client's own type, may do without text. */
export function contentFaults(type: unknown, content: unknown, meta: unknown): readonly FieldFault[] {
  if (content !== "") return [];
  const needsText = type === "text" || type === "system";
  if (!needsText && !(isObject(meta) && Object.keys(meta).length === 0)) return [];
  const message = needsText ? `must not be empty for type ${type}` : "must not be empty without meta";
  return [{ path: "content", code: "too_short", message }];
}

/** What a posting, an edit or the end of a growing message says. */
export function contentOf(
  event: RoomEvent | undefined,
): Pick<Posting, "content" | "meta" | "mentions" | "everyone"> | undefined {
  switch (event?.type) {
    case "MessagePosted":
    case "MessageEdited":
    case "MessageCompleted":
    case "MessageCancelled":
      return event.data;
    default:
      return undefined;
  }
}

/** Whom a message mentions, by their ids; of erased people nothing is left. */
export const mentionedIn = ({ mentions, everyone }: Pick<Posting, "mentions" | "everyone">): string[] => [
  ...mentions.flatMap(({ user }) => reveal(user) ?? []),
  ...(everyone ? [EVERYONE] : []),
];

/** A message's posting, if the id names one that the actor sees and the event at its seq is that very posting. */
export function postingSeen(
  room: ExistingRoom,
  { room: roomId, actor }: { readonly room: RoomId; readonly actor: Actor },
  id: MessageId | string,
  priorEvents: PriorEvents<RoomEvent>,
): { data: Posting; seq: number } | undefined {
  const seq = seqOfMessage(roomId, id);
  const event = seq === undefined ? undefined : priorEvents.get(seq);
  if (seq === undefined || event?.type !== "MessagePosted" || event.data.id !== id) return undefined;
  return /* fence: change-unseen */ seq < visibleFrom(room, actor) ? undefined : { data: event.data, seq };
}
