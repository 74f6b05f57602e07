// Rules that all decisions about a room's messages share, and what its events say of one.
import type { FieldFault } from "../contract/errors.ts";
import { type MessageId, type RoomId, type Subject, seqOfMessage } from "../contract/ids.ts";
import { isObject } from "../contract/json.ts";
import { EVERYONE } from "../contract/messages.ts";
import type { Instant } from "../contract/time.ts";
import { type Actor, DomainError, type PriorEvents } from "./decider.ts";
import { reveal } from "./event.ts";
import { visibleFrom } from "./room-history.ts";
import { type ExistingRoom, RANK, type RoomEvent, roleOf } from "./room-state.ts";

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
