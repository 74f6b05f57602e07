// Decisions about a room's messages: posting, editing, deleting, restoring. Those on growing ones are in their own file.

import type { FieldFault } from "../contract/errors.ts";
import { messageId, type RoomId, type Subject, seqOfMessage } from "../contract/ids.ts";
import { type JsonObject, sameJson } from "../contract/json.ts";
import { MAX_EMOJI } from "../contract/messages.ts";
import type { Instant } from "../contract/time.ts";
import {
  type Actor,
  DomainError,
  type IfMatch,
  mergeMeta,
  type PriorEvents,
  refuse,
  requireMatch,
  requireNew,
  type TimedCommand,
} from "./decider.ts";
import { reveal, type Sealed, seal, sealOrNull } from "./event.ts";
import { endGrowth, ending, type GrowthCommand, MAX_GROWING_IN_ROOM } from "./growing-message.ts";
import { type DeletedBy, replyOf } from "./message-events.ts";
import { contentFaults, contentOf, type Posting, postingSeen, requirePosting } from "./message-rules.ts";
import { hasReacted, reactionsTo } from "./room-responses.ts";
import {
  contentSeq,
  descriptionIn,
  type ExistingRoom,
  messageEtag,
  RANK,
  type RoomEvent,
  requireRole,
  roleOf,
} from "./room-state.ts";

export type MessageCommand = TimedCommand & { room: RoomId; actor: Actor } & (
    | {
        type: "Post";
        sender: Subject;
        user: string;
        /** Null: the sender's name in the room, else `ownName`. */
        senderName: string | null;
        /** The user's own name, if it has one. */
        ownName: string | null;
        messageType: string;
        content: string;
        meta: JsonObject;
        replyTo: string | null;
        /** The message in whose thread it is to be. */
        threadOf: string | null;
        mentions: Mentions;
        /** Its text is to grow: `content` is what it begins with. */
        growing: boolean;
      }
    | GrowthCommand
    /** `content: null` and what is undefined stay as they are; `meta` is a merge patch, null clears it. */
    | {
        type: "Edit";
        id: string;
        content: string | null;
        meta: JsonObject | null | undefined;
        mentions?: Mentions | undefined;
        ifMatch: IfMatch;
      }
    /** `grown`: the text so far of a message that grows; without it such a one is refused as `message_growing`. */
    | { type: "DeleteMessage"; id: string; ifMatch: IfMatch; grown?: Sealed<string> | null }
    | { type: "RestoreMessage"; id: string; ifMatch: IfMatch }
    | ({ type: "React"; onlyNew?: boolean } & Reaction)
    | ({ type: "Unreact" } & Reaction)
  );
/** Users by their place in what was sent, and whether all members are mentioned, at `everyone`. */
export type Mentions = {
  readonly people: readonly { readonly subject: Subject; readonly user: string; readonly at: number }[];
  readonly everyone: number | null;
};
type Reaction = { id: string; subject: Subject; user: string; emoji: string };
type Post = Extract<MessageCommand, { type: "Post" }>;
type React = Extract<MessageCommand, { type: "React" | "Unreact" }>;

/** The seqs of the events that a command needs: a message's posting, for an edit its last content, for restoring its deletion, or what a posting refers to. */
export function messagePriorEvents(room: ExistingRoom, command: MessageCommand): readonly number[] {
  const ids = command.type === "Post" ? [command.replyTo, command.threadOf] : [command.id];
  const message = ids.flatMap((id) => {
    const seq = id === null ? undefined : seqOfMessage(command.room, id);
    if (seq === undefined || seq > room.seq) return [];
    if (command.type === "Edit") return [seq, contentSeq(room, seq)];
    if (command.type === "RestoreMessage") return [seq, room.changes.get(seq)?.change ?? seq];
    if (command.type !== "Complete" && command.type !== "Cancel") return [seq];
    return [seq, ...[room.changes.get(seq)?.end?.seq ?? []].flat()];
  });
  const sender = command.type === "Post" && command.senderName === null ? room.members.get(command.sender) : undefined;
  return [...new Set([...message, ...(sender?.named === true ? [sender.described] : [])])];
}

export function decideMessage(
  room: ExistingRoom,
  command: MessageCommand,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  if (command.type === "Post") return post(room, command, priorEvents);
  if (command.type === "React" || command.type === "Unreact") return react(room, command, priorEvents);
  if (command.type === "Complete" || command.type === "Cancel") return endGrowth(room, command, priorEvents);
  const role = requireRole(room, command.actor, "reader");
  const posting = postingSeen(room, command, command.id, priorEvents);
  if (posting === undefined) throw new DomainError("not_found");
  const { data, seq } = posting;
  const own = command.actor.type === "user" && command.actor.id === data.sender;
  if (role === "reader") throw new DomainError("read_only");
  // fence: edit-own-words
  if (command.type === "Edit" && command.actor.type === "user" && !own)
    throw new DomainError("role_required", "only its sender or a client key may edit a message");
  if (role === "member" && !own)
    throw new DomainError("role_required", "only its sender or an admin may delete or restore a message");
  // fence: restore-own-deletion
  if (command.type === "RestoreMessage" && role === "member" && !deletedBySender(room, seq, priorEvents))
    throw new DomainError("role_required", "only an admin or a client key may restore what its sender did not delete");
  // Made here because faults of the input go before conflicts.
  const edited = command.type === "Edit" ? edit(room, data, seq, command, priorEvents) : [];
  requireMatch(command.ifMatch, messageEtag(room, seq));
  if (!room.active) throw new DomainError("room_inactive");
  const gone = room.changes.get(seq)?.deleted ?? false;
  const about = { id: data.id, messageSeq: seq, reply: replyOf(data), endSeq: room.changes.get(seq)?.end?.seq ?? null };
  const by: DeletedBy = command.actor.type !== "user" ? "backend" : own ? "sender" : "moderator";
  // fence: growing-edits
  if (room.growing.has(seq) && !(command.type === "DeleteMessage" && command.grown !== undefined))
    throw new DomainError("message_growing");
  switch (command.type) {
    case "DeleteMessage":
      if (room.growing.has(seq)) {
        const ended = ending("MessageCancelled", room, posting, command.grown ?? null);
        return [ended, { type: "MessageDeleted", data: { ...about, endSeq: room.seq + 1, by } }];
      }
      return gone ? [] : [{ type: "MessageDeleted", data: { ...about, by } }];
    case "RestoreMessage":
      return gone ? [{ type: "MessageRestored", data: about }] : [];
    case "Edit":
      if (gone) throw new DomainError("message_deleted", "a deleted message must be restored before it is edited");
      return edited;
  }
}

/** Whether its sender may bring a message back: not what others deleted. Of old deletions nobody knows, and those it may. */
function deletedBySender(room: ExistingRoom, seq: number, priorEvents: PriorEvents<RoomEvent>): boolean {
  const change = room.changes.get(seq);
  if (change?.deleted !== true) return true;
  const deletion = priorEvents.get(change.change);
  if (deletion?.type !== "MessageDeleted") throw new Error("the deletion was not given to the decision");
  return deletion.data.by === null || deletion.data.by === "sender";
}

function post(room: ExistingRoom, command: Post, priorEvents: PriorEvents<RoomEvent>): readonly RoomEvent[] {
  const { actor, sender, messageType, growing } = command;
  const system = messageType === "system";
  refuse(systemFaults(messageType, actor.type));
  // fence: post-member
  requireRole(room, actor, "member");
  // fence: post-own-name
  if (actor.type === "user" && actor.id !== sender) throw new DomainError("sender_mismatch");
  const member = room.members.get(sender);
  // fence: post-sender-member
  if (!system && member === undefined) throw new DomainError("not_a_member", "the sender is not a member of this room");
  if (!system) requirePosting(room, sender, command.at);
  const target = command.replyTo === null ? undefined : postingSeen(room, command, command.replyTo, priorEvents);
  const root = command.threadOf === null ? undefined : postingSeen(room, command, command.threadOf, priorEvents);
  const elsewhere = "is not a message of this room";
  refuse([
    ...(command.replyTo !== null && target === undefined ? [notAllowed("reply_to", elsewhere)] : []),
    ...(command.threadOf !== null && root === undefined ? [notAllowed("thread_of", elsewhere)] : []),
    .../* fence: thread-in-thread */ ((root?.data.thread ?? null) !== null
      ? [notAllowed("thread_of", "is itself in a thread")]
      : []),
    ...(growing ? [] : contentFaults(messageType, command.content, command.meta)),
    ...mentionFaults(room, actor, command.mentions, { mentions: [], everyone: false }),
  ]);
  if (!room.active) throw new DomainError("room_inactive");
  // fence: growing-in-room
  if (growing && room.growing.size >= MAX_GROWING_IN_ROOM) throw new DomainError("too_many_growing");
  const described = member?.named === true ? descriptionIn(priorEvents.get(member.described), sender) : undefined;
  const name = command.senderName ?? reveal(described?.name) ?? command.ownName;
  const data: Posting = {
    id: messageId(command.room, room.seq + 1, command.at),
    sender,
    user: seal(command.user),
    senderName: sealOrNull(name),
    type: messageType,
    content: seal(command.content),
    meta: seal(command.meta),
    ...sealedMentions(command.mentions),
    replyTo: target?.data.id ?? null,
    thread: root === undefined ? null : { id: root.data.id, seq: root.seq },
    ordinal: room.ordinal + (system || growing ? 0 : 1),
    growing,
  };
  return [{ type: "MessagePosted", data }];
}

const notAllowed = (path: string, message: string): FieldFault => ({ path, code: "not_allowed", message });

/** Members alone are mentioned; all at once by admins and client keys. `before`: whom the message mentions already. */
export function mentionFaults(
  room: ExistingRoom,
  actor: Actor,
  { people, everyone }: Mentions,
  before: Pick<Posting, "mentions" | "everyone">,
): readonly FieldFault[] {
  const known = new Set(before.mentions.map(({ subject }) => subject));
  const faults = people
    // fence: mention-members
    .filter(({ subject }) => !room.members.has(subject) && !known.has(subject))
    .map(({ at }): FieldFault => ({ path: `mentions.${at}`, code: "not_allowed", message: "is not a member" }));
  const role = actor.type === "user" ? (roleOf(room, actor.id) ?? "reader") : "owner";
  // fence: mention-everyone
  if (everyone === null || before.everyone || RANK[role] >= RANK.admin) return faults;
  const message = "only admins and client keys mention everyone";
  return [...faults, { path: `mentions.${everyone}`, code: "not_allowed", message }];
}

/** Whom a message mentions, as its events say it. */
export const sealedMentions = ({ people, everyone }: Mentions): Pick<Posting, "mentions" | "everyone"> => ({
  mentions: people.map(({ subject, user }) => ({ subject, user: seal(user) })),
  everyone: everyone !== null,
});

/** Who may not post a message does not show that it types one. Throws what posting would. */
export function requireTyping(room: ExistingRoom, subject: Subject, at: Instant): void {
  // fence: typing-posters
  requirePosting(room, subject, at);
  if (!room.active) throw new DomainError("room_inactive");
}

/** Members react who are no readers; a client key does it for them. */
function react(room: ExistingRoom, command: React, priorEvents: PriorEvents<RoomEvent>): readonly RoomEvent[] {
  const { actor, subject, emoji } = command;
  requireRole(room, actor, "reader");
  const posting = postingSeen(room, command, command.id, priorEvents);
  if (posting === undefined) throw new DomainError("not_found");
  // fence: react-own-name
  if (actor.type === "user" && actor.id !== subject) throw new DomainError("sender_mismatch");
  const role = roleOf(room, subject);
  // fence: react-member
  if (role === undefined) throw new DomainError("not_a_member", "the user is not a member of this room");
  if (role === "reader") throw new DomainError("read_only");
  if (!room.active) throw new DomainError("room_inactive");
  const { seq: messageSeq } = posting;
  if (room.changes.get(messageSeq)?.deleted === true) throw new DomainError("message_deleted");
  const wanted = command.type === "React";
  const exists = hasReacted(room.responses, { messageSeq, emoji, subject });
  if (wanted) requireNew(command.onlyNew, exists);
  if (exists === wanted) return [];
  const there = reactionsTo(room.responses, messageSeq);
  // fence: reactions-limit
  if (wanted && there.length >= MAX_EMOJI && there.every((one) => one.emoji !== emoji))
    throw new DomainError("too_many_reactions");
  const data = { id: posting.data.id, messageSeq, emoji, subject, user: seal(command.user) };
  return [{ type: wanted ? "ReactionAdded" : "ReactionRemoved", data }];
}

function edit(
  room: ExistingRoom,
  posting: Posting,
  seq: number,
  command: Extract<MessageCommand, { type: "Edit" }>,
  priorEvents: PriorEvents<RoomEvent>,
): readonly RoomEvent[] {
  const old = contentOf(priorEvents.get(contentSeq(room, seq)));
  if (old === undefined) throw new Error(`the content of message ${posting.id} was not given to the decision`);
  const content = command.content === null ? old.content : seal(command.content);
  const meta = command.meta === undefined ? old.meta : seal(mergeMeta(reveal(old.meta) ?? {}, command.meta));
  const { mentions, everyone } = command.mentions === undefined ? old : sealedMentions(command.mentions);
  refuse([
    ...("open" in content && "open" in meta ? contentFaults(posting.type, content.open, meta.open) : []),
    ...(command.mentions === undefined ? [] : mentionFaults(room, command.actor, command.mentions, old)),
  ]);
  const next = { content, meta, mentions, everyone };
  if (sameJson(next, { content: old.content, meta: old.meta, mentions: old.mentions, everyone: old.everyone }))
    return [];
  const about = { id: posting.id, messageSeq: seq, sender: posting.sender };
  const still = new Set(mentions.map(({ subject }) => subject));
  const unmentioned = old.mentions.map(({ subject }) => subject).filter((subject) => !still.has(subject));
  return [{ type: "MessageEdited", data: { ...about, ...next, unmentioned } }];
}

/** No user speaks for the system. */
export const systemFaults = (type: unknown, actor: Actor["type"]): readonly FieldFault[] =>
  type === "system" && actor === "user"
    ? [{ path: "type", code: "not_allowed", message: "only a client key may post for the system" }]
    : [];
