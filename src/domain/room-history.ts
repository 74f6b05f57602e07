// What of a room's history a member sees. A room with `history: from_join` shows each member what happened from its last
// joining on; client keys see everything.
import { type RoomId, seqOfMessage } from "../contract/ids.ts";
import type { PublicEvent } from "../contract/public-events.ts";
import type { Actor } from "./decider.ts";
import type { ExistingRoom } from "./room-state.ts";

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
