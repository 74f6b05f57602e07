// domain/growing-message.ts: a message that grows while it is written, from its posting to its end. The text between is not
// in the log: whoever ends it says what it came to.
import type { RoomId } from "../contract/ids.ts";
import { sameJson } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import {
  type Actor,
  DomainError,
  type IfMatch,
  type PriorEvents,
  refuse,
  requireMatch,
  type TimedCommand,
} from "./decider.ts";
import { type Sealed, seal } from "./event.ts";
import { contentFaults, contentOf, type Posting, postingSeen, requirePosting } from "./message-rules.ts";
import { type ExistingRoom, type Growing, messageEtag, type RoomEvent, requireRole } from "./room-state.ts";

/** Messages that may grow in a room at once. */
export const MAX_GROWING_IN_ROOM = 100;

/** Whether a message grows, or how its growth ended; `complete` for those that never grew. */
export function growthOf(room: ExistingRoom, messageSeq: number): "complete" | "growing" | "cancelled" {
  if (room.growing.has(messageSeq)) return "growing";
  return room.changes.get(messageSeq)?.end?.cancelled === true ? "cancelled" : "complete";
}

export type GrowthCommand =
  /** `content`: the whole text; null: what it was posted with. `rewritten`: the writer gives it anew. */
  | { type: "Complete"; id: string; content: Sealed<string> | null; rewritten: boolean; ifMatch: IfMatch }
  | { type: "Cancel"; id: string; content: Sealed<string> | null; ifMatch: IfMatch };

/** Who writes: the sender itself, or whoever may do everything inside the client. */
function requireWriter(room: ExistingRoom, actor: Actor, { sender }: Pick<Growing, "sender">): void {
  if (requireRole(room, actor, "reader") === "reader") throw new DomainError("read_only");
  // fence: growing-writer
  if (actor.type === "user" && actor.id !== sender)
    throw new DomainError("sender_mismatch", "only its sender writes a message");
}

/** The growing message at a seq. Throws what keeps this caller from appending to it now; undefined when none grows there. */
export function requireAppending(
  room: ExistingRoom,
  { seq, id, actor, at }: { readonly seq: number; readonly id: string; readonly actor: Actor; readonly at: Instant },
  ifMatch: IfMatch,
): Growing | undefined {
  const growing = room.growing.get(seq);
  if (growing === undefined || growing.id !== id) return undefined;
  requireWriter(room, actor, growing);
  requireWriting(room, growing, at);
  requireMatch(ifMatch, messageEtag(room, seq));
  if (!room.active) throw new DomainError("room_inactive");
  return growing;
}

/** The sender may still post: whoever was removed or muted meanwhile writes no further, by a client key neither. */
function requireWriting(room: ExistingRoom, { sender }: Pick<Growing, "sender">, at: Instant): void {
  const member = room.members.get(sender);
  // fence: growing-member
  if (member === undefined) throw new DomainError("not_a_member", "the sender is not a member of this room");
  requirePosting(room, sender, at);
}

/** The end of a growing message. Said twice it is meant once. */
export function endGrowth(
  room: ExistingRoom,
  command: GrowthCommand & TimedCommand & { readonly room: RoomId; readonly actor: Actor },
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  const { actor, at, type } = command;
  requireRole(room, actor, "reader");
  const posting = postingSeen(room, command, command.id, priorEvents);
  if (posting === undefined) throw new DomainError("not_found");
  const { data, seq } = posting;
  requireWriter(room, actor, data);
  const growing = room.growing.has(seq);
  const content = command.content ?? data.content;
  const system = data.type === "system";
  if (growing && type === "Complete") {
    if (!system) requireWriting(room, data, at);
    const meta = "open" in data.meta ? data.meta.open : {};
    refuse("open" in content ? contentFaults(data.type, content.open, meta) : []);
  }
  // fence: growing-match
  requireMatch(command.ifMatch, messageEtag(room, seq));
  if (!growing) {
    const end = room.changes.get(seq)?.end ?? null;
    const said = contentOf(priorEvents.get(end?.seq ?? 0))?.content;
    const same = type === "Cancel" || !command.rewritten || said === undefined || sameJson(said, command.content);
    if (end !== null && end.cancelled === (type === "Cancel") && same) return [];
    // fence: growing-ended
    throw new DomainError("not_growing");
  }
  if (type === "Cancel") return [ending("MessageCancelled", room, posting, command.content)];
  if (!system && !room.active) throw new DomainError("room_inactive");
  return [ending("MessageCompleted", room, posting, content)];
}

/** The event that ends a growing message. `content`: null where nothing was written since its posting. */
export function ending(
  type: "MessageCompleted" | "MessageCancelled",
  room: ExistingRoom,
  { data, seq }: { readonly data: Posting; readonly seq: number },
  content: Sealed<string> | null,
): RoomEvent {
  const { id, sender, meta, mentions, everyone } = data;
  const ordinal = room.ordinal + (data.type === "system" ? 0 : 1);
  const about = { id, messageSeq: seq, sender, meta, mentions, everyone };
  return { type, data: { ...about, content: content ?? data.content, ordinal } };
}

/** What a text is sealed as; erased where its writer was erased meanwhile. */
export const grownContent = (text: string | null): Sealed<string> => (text === null ? { erased: true } : seal(text));
