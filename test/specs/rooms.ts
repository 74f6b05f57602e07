// Rooms as their specifications tell of them: who is who, events and commands in few words.

import { type MessageId, messageId, type RoomId, type Subject } from "../../src/contract/ids.ts";
import type { Role, RoomKind } from "../../src/contract/rooms.ts";
import type { Instant } from "../../src/contract/time.ts";
import type { Actor } from "../../src/domain/decider.ts";
import type { DeletedBy } from "../../src/domain/message-events.ts";
import { type RoomCommand, roomDecider } from "../../src/domain/room.ts";
import type { MemberData, RoomEvent, RoomSettings } from "../../src/domain/room-state.ts";
import { given, type History, NOW } from "../support/given.ts";

export const ROOM: RoomId = "room_0123456789abcdefghjkmnpqrs";

export const key: Actor = { type: "key", id: "key_1" };
export const ownerOlga: Actor = { type: "user", id: "sub_olga" };
export const adminAnna: Actor = { type: "user", id: "sub_anna" };
export const memberMax: Actor = { type: "user", id: "sub_max" };
export const readerRita: Actor = { type: "user", id: "sub_rita" };
export const strangerStan: Actor = { type: "user", id: "sub_stan" };

export const person = (subject: Subject): Omit<MemberData, "role"> => ({
  subject,
  user: { open: subject.slice(4) },
  name: null,
  meta: { open: {} },
});
export const member = (subject: Subject, role: Role = "member"): MemberData => ({ ...person(subject), role });

export const STAFF = [
  member("sub_olga", "owner"),
  member("sub_anna", "admin"),
  member("sub_max", "member"),
  member("sub_rita", "reader"),
];

export const settings = (changes: Partial<RoomSettings> = {}): RoomSettings => ({
  name: "Team",
  description: null,
  kind: "private",
  joinRole: "member",
  maxMembers: null,
  posting: "everyone",
  history: "all",
  meta: {},
  ...changes,
});
export const created = (members: MemberData[] = STAFF, kind: RoomKind = "private"): RoomEvent => ({
  type: "RoomCreated",
  data: { ...settings({ kind }), externalId: null, members },
});
export const createdWith = (changes: Partial<RoomSettings>): RoomEvent => ({
  type: "RoomCreated",
  data: { ...settings(changes), externalId: null, members: STAFF },
});
export const privateRoom = created();
export const publicRoom = created(STAFF, "public");
export const directRoom = created([member("sub_max"), member("sub_olga")], "direct");

export const deactivated: RoomEvent = { type: "RoomDeactivated", data: {} };
export const activated: RoomEvent = { type: "RoomActivated", data: {} };
export const deleted: RoomEvent = { type: "RoomDeleted", data: {} };
export const joined = (subject: Subject, role: Role = "member", name: MemberData["name"] = null): RoomEvent => ({
  type: "MemberJoined",
  data: { ...member(subject, role), name },
});
export const updated = (subject: Subject, role: Role): RoomEvent => ({
  type: "MemberUpdated",
  data: member(subject, role),
});
export const left = (subject: Subject, reason: "left" | "removed" | "banned" = "left"): RoomEvent => ({
  type: "MemberLeft",
  data: { subject, user: { open: subject.slice(4) }, reason },
});

export const muted = (subject: Subject, until: Instant | null): RoomEvent => ({
  type: "MemberMuted",
  data: { subject, user: { open: subject.slice(4) }, until },
});
export const banned = (subject: Subject, until: Instant | null = null, reason: string | null = null): RoomEvent => ({
  type: "MemberBanned",
  data: { subject, user: { open: subject.slice(4) }, until, reason: reason === null ? null : { open: reason } },
});
export const unbanned = (subject: Subject): RoomEvent => ({
  type: "MemberUnbanned",
  data: { subject, user: { open: subject.slice(4) } },
});

/** The id of the message whose posting is at `seq`. */
export const idAt = (seq: number): MessageId => messageId(ROOM, seq, NOW);
type Posted = Extract<RoomEvent, { type: "MessagePosted" }>["data"];
/** Max's message at `seq`. */
export const posted = (seq: number, changes: Partial<Posted> = {}): RoomEvent => ({
  type: "MessagePosted",
  data: {
    id: idAt(seq),
    sender: "sub_max",
    user: { open: "max" },
    senderName: null,
    type: "text",
    content: { open: "hello" },
    meta: { open: {} },
    ...{ mentions: [], everyone: false },
    replyTo: null,
    thread: null,
    ordinal: seq - 1,
    growing: false,
    ...changes,
  },
});
type Edited = Extract<RoomEvent, { type: "MessageEdited" }>["data"];
export const edited = (seq: number, content: string, meta = {}, changes: Partial<Edited> = {}): RoomEvent => ({
  type: "MessageEdited",
  data: {
    ...{ id: idAt(seq), messageSeq: seq, sender: "sub_max", content: { open: content }, meta: { open: meta } },
    ...{ mentions: [], everyone: false, unmentioned: [], ...changes },
  },
});
type InThread = { readonly to: number; readonly sender: Subject };
export const messageDeleted = (
  seq: number,
  reply: InThread | null = null,
  endSeq: number | null = null,
  by: DeletedBy | null = "sender",
): RoomEvent => ({
  type: "MessageDeleted",
  data: { id: idAt(seq), messageSeq: seq, reply, endSeq, by },
});
/** Max's message at `seq`, deleted by somebody. */
export const deletedBy = (by: DeletedBy | null, seq: number): RoomEvent => messageDeleted(seq, null, null, by);
export const restored = (seq: number, reply: InThread | null = null, endSeq: number | null = null): RoomEvent => ({
  type: "MessageRestored",
  data: { id: idAt(seq), messageSeq: seq, reply, endSeq },
});

export const reacted = (seq: number, subject: Subject, emoji: string): RoomEvent => ({
  type: "ReactionAdded",
  data: { id: idAt(seq), messageSeq: seq, emoji, subject, user: { open: subject.slice(4) } },
});
export const unreacted = (seq: number, subject: Subject, emoji: string): RoomEvent => ({
  type: "ReactionRemoved",
  data: { id: idAt(seq), messageSeq: seq, emoji, subject, user: { open: subject.slice(4) } },
});

type Of<T extends RoomCommand["type"]> = Extract<RoomCommand, { type: T }>;
const about = { at: NOW, room: ROOM } as const;
export const post = (actor: Actor, changes: Partial<Of<"Post">> = {}): RoomCommand => ({
  ...about,
  type: "Post",
  actor,
  sender: actor.type === "user" ? actor.id : "sub_max",
  user: actor.type === "user" ? actor.id.slice(4) : "max",
  senderName: null,
  ownName: null,
  messageType: "text",
  content: "hello",
  meta: {},
  replyTo: null,
  threadOf: null,
  mentions: { people: [], everyone: null },
  growing: false,
  ...changes,
});
export const edit = (actor: Actor, seq: number, changes: Partial<Of<"Edit">> = {}): RoomCommand => ({
  ...about,
  type: "Edit",
  actor,
  id: idAt(seq),
  content: "better",
  meta: undefined,
  ifMatch: null,
  ...changes,
});
export const deleteMessage = (actor: Actor, seq: number, ifMatch: number | null = null): RoomCommand => ({
  ...about,
  type: "DeleteMessage",
  actor,
  id: idAt(seq),
  ifMatch,
});
export const restore = (actor: Actor, seq: number, ifMatch: number | null = null): RoomCommand => ({
  ...about,
  type: "RestoreMessage",
  actor,
  id: idAt(seq),
  ifMatch,
});
export const react = (
  type: "React" | "Unreact",
  actor: Actor,
  seq: number,
  emoji: string,
  subject: Subject = actor.type === "user" ? actor.id : "sub_max",
): RoomCommand => ({ ...about, type, actor, id: idAt(seq), emoji, subject, user: subject.slice(4) });
export const setMember = (
  actor: Actor,
  subject: Subject,
  role: Role | null = null,
  changes: Partial<Of<"SetMember">> = {},
): RoomCommand => ({ type: "SetMember", at: NOW, actor, member: person(subject), role, ...changes });
export const removeMember = (actor: Actor, subject: Subject): RoomCommand => ({
  type: "RemoveMember",
  at: NOW,
  actor,
  subject,
  user: subject.slice(4),
});
export const changeMember = (actor: Actor, subject: Subject, changes: Of<"ChangeMember">["changes"]): RoomCommand => ({
  type: "ChangeMember",
  at: NOW,
  actor,
  subject,
  user: subject.slice(4),
  changes,
});
export const ban = (actor: Actor, subject: Subject, until: Instant | null = null, reason: string | null = null) =>
  ({ type: "Ban", at: NOW, actor, subject, user: subject.slice(4), until, reason }) satisfies RoomCommand;
export const unban = (actor: Actor, subject: Subject) =>
  ({ type: "Unban", at: NOW, actor, subject, user: subject.slice(4) }) satisfies RoomCommand;
export const update = (actor: Actor, changes: Of<"Update">["changes"], ifMatch: number | null = null): RoomCommand => ({
  type: "Update",
  at: NOW,
  actor,
  changes,
  ifMatch,
});
export const change = (
  type: "Deactivate" | "Activate" | "Delete",
  actor: Actor,
  ifMatch: number | null = null,
): RoomCommand => ({ type, at: NOW, actor, ifMatch });

/** A room with these events. */
export const room = (...history: History<RoomEvent>) => given(roomDecider, ...history);

type Ended = Extract<RoomEvent, { type: "MessageCompleted" }>["data"];
/** The end of Max's message at `seq` that grew. */
export const grown = (
  type: "MessageCompleted" | "MessageCancelled",
  seq: number,
  content: string,
  changes: Partial<Ended> = {},
): RoomEvent => ({
  type,
  data: {
    ...{ id: idAt(seq), messageSeq: seq, sender: "sub_max", content: { open: content }, meta: { open: {} } },
    ...{ mentions: [], everyone: false, ordinal: seq - 1, ...changes },
  },
});
export const complete = (
  actor: Actor,
  seq: number,
  text: string | null,
  rewritten = false,
  ifMatch: number | null = null,
): RoomCommand => ({
  ...about,
  type: "Complete",
  actor,
  id: idAt(seq),
  content: text === null ? null : { open: text },
  rewritten,
  ifMatch,
});
export const cancel = (actor: Actor, seq: number, text: string | null, ifMatch: number | null = null): RoomCommand => ({
  ...about,
  type: "Cancel",
  actor,
  id: idAt(seq),
  content: text === null ? null : { open: text },
  ifMatch,
});
