// Decisions about a room's messages: posting, editing, deleting, restoring.

import { type MessageId, messageId, type RoomId, type Subject, seqOfMessage } from "../contract/ids.ts";
import { type JsonObject, sameJson } from "../contract/json.ts";
import type { Actor, PriorEvents, TimedCommand } from "./decider.ts";
import { DomainError, InvalidInput } from "./errors.ts";
import { type Sealed, seal } from "./event.ts";
import type { RoomEvent } from "./room-events.ts";
import { contentSeq, type LiveRoom, messageEtag, requireMatch, requireRole } from "./room-state.ts";

export type MessageCommand = TimedCommand & { room: RoomId; actor: Actor } & (
    | {
        type: "Post";
        sender: Subject;
        user: string;
        senderName: string | null;
        messageType: string;
        content: string;
        meta: JsonObject;
        replyTo: string | null;
      }
    | { type: "Edit"; id: string; content: string | null; meta: MetaChange | null; ifMatch: number | null }
    | { type: "DeleteMessage" | "RestoreMessage"; id: string; ifMatch: number | null }
  );
/** Makes the new meta from the old. */
type MetaChange = (old: JsonObject) => JsonObject;
type Posting = Extract<RoomEvent, { type: "MessagePosted" }>["data"];

/** The events that a command on messages needs: a message's posting and its last content; the one replied to. */
export function messagePriorEvents(room: LiveRoom, command: MessageCommand): readonly number[] {
  const id = command.type === "Post" ? command.replyTo : command.id;
  return id === null ? [] : seqs(room, command.room, id);
}

function seqs(room: LiveRoom, id: RoomId, message: string): readonly number[] {
  const seq = seqOfMessage(id, message);
  if (seq === undefined || seq > room.seq) return [];
  return [...new Set([seq, contentSeq(room, seq)])];
}

export function decideMessage(
  room: LiveRoom,
  command: MessageCommand,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  if (command.type === "Post") return post(room, command, priorEvents);
  const role = requireRole(room, command.actor, "reader");
  const posting = postingOf(command.room, command.id, priorEvents);
  if (posting === undefined) throw new DomainError("not_found");
  const { data, seq } = posting;
  const own = command.actor.type === "user" && command.actor.id === data.sender;
  if (role === "reader") throw new DomainError("read_only");
  if (role === "member" && !own)
    throw new DomainError("role_required", "only its sender or an admin may change a message");
  // Made here because faults of the input go before conflicts.
  const edited = command.type === "Edit" ? edit(room, data, seq, command, priorEvents) : [];
  requireMatch(command.ifMatch, messageEtag(room, seq));
  if (!room.active) throw new DomainError("room_inactive");
  const gone = room.changes.get(seq)?.deleted ?? false;
  const about = { id: data.id, messageSeq: seq };
  switch (command.type) {
    case "DeleteMessage":
      return gone ? [] : [{ type: "MessageDeleted", data: about }];
    case "RestoreMessage":
      return gone ? [{ type: "MessageRestored", data: about }] : [];
    case "Edit":
      if (gone) throw new DomainError("message_deleted", "a deleted message must be restored before it is edited");
      return edited;
  }
}

function post(
  room: LiveRoom,
  command: Extract<MessageCommand, { type: "Post" }>,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  const system = command.messageType === "system";
  if (system && command.actor.type === "user") {
    throw new InvalidInput([
      { path: "type", code: "not_allowed", message: "only a client key may post for the system" },
    ]);
  }
  // fence: post-member
  requireRole(room, command.actor, "member");
  // fence: post-own-name
  if (command.actor.type === "user" && command.actor.id !== command.sender) throw new DomainError("sender_mismatch");
  // fence: post-sender-member
  if (!system && !room.members.has(command.sender))
    throw new DomainError("not_a_member", "the sender is not a member of this room");
  if (!system && command.actor.type !== "user" && room.members.get(command.sender) === "reader")
    throw new DomainError("read_only");
  const target = command.replyTo === null ? undefined : postingOf(command.room, command.replyTo, priorEvents);
  if (command.replyTo !== null && target === undefined) {
    throw new InvalidInput([{ path: "reply_to", code: "not_allowed", message: "is not a message of this room" }]);
  }
  requireContent(command.messageType, command.content, command.meta);
  if (!room.active) throw new DomainError("room_inactive");
  const id = messageId(command.room, room.seq + 1, command.at);
  const data: Posting = {
    id,
    sender: command.sender,
    user: seal(command.user),
    senderName: command.senderName === null ? null : seal(command.senderName),
    type: command.messageType,
    content: seal(command.content),
    meta: seal(command.meta),
    replyTo: target?.data.id ?? null,
    ordinal: room.ordinal + (system ? 0 : 1),
  };
  return [{ type: "MessagePosted", data }];
}

function edit(
  room: LiveRoom,
  posting: Posting,
  seq: number,
  command: Extract<MessageCommand, { type: "Edit" }>,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  const old = contentOf(priorEvents.get(contentSeq(room, seq)));
  if (old === undefined) throw new Error(`the content of message ${posting.id} was not given to the decision`);
  const content = command.content === null ? old.content : seal(command.content);
  const meta = command.meta === null ? old.meta : seal(command.meta(opened(old.meta)));
  if ("open" in content && "open" in meta) requireContent(posting.type, content.open, meta.open);
  if (sameJson([content, meta], [old.content, old.meta])) return [];
  const about = { id: posting.id, messageSeq: seq, sender: posting.sender };
  return [{ type: "MessageEdited", data: { ...about, content, meta } }];
}

/** Only what shows something else, an image, a file or the client's own type, may do without text. */
function requireContent(type: string, content: string, meta: JsonObject): void {
  if (content !== "") return;
  const why =
    type === "text" || type === "system"
      ? `must not be empty for type ${type}`
      : Object.keys(meta).length === 0
        ? "must not be empty without meta"
        : undefined;
  if (why !== undefined) throw new InvalidInput([{ path: "content", code: "too_short", message: why }]);
}

const opened = (meta: Sealed<JsonObject>): JsonObject => ("open" in meta ? meta.open : {});

function contentOf(event: RoomEvent | undefined): Pick<Posting, "content" | "meta"> | undefined {
  return event?.type === "MessagePosted" || event?.type === "MessageEdited" ? event.data : undefined;
}

/** A message's posting, if the id names one and the event at its seq is that very posting. */
function postingOf(
  room: RoomId,
  id: MessageId | string,
  priorEvents: PriorEvents<RoomEvent>,
): { data: Posting; seq: number } | undefined {
  const seq = seqOfMessage(room, id);
  const event = seq === undefined ? undefined : priorEvents.get(seq);
  if (seq === undefined || event?.type !== "MessagePosted" || event.data.id !== id) return undefined;
  return { data: event.data, seq };
}
