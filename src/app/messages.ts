// Messages: posting, changing, reading and listing them.

import { setImmediate as immediate } from "node:timers/promises";
import type { FieldFault } from "../contract/errors.ts";
import { firstCodePoints, type PageQuery } from "../contract/fields.ts";
import { type RoomId, type Subject, seqOfMessage } from "../contract/ids.ts";
import { isObject } from "../contract/json.ts";
import {
  EVERYONE,
  type FoundMessageResource,
  type MessagePatch,
  type MessageQuery,
  type MessageResource,
  type MessageSearchQuery,
  type MessageVersionResource,
  type NewMessage,
  type ReactionResource,
} from "../contract/messages.ts";
import { rfc3339 } from "../contract/time.ts";
import { type Bare, DomainError, InvalidInput } from "../domain/decider.ts";
import { reveal } from "../domain/event.ts";
import { growthOf } from "../domain/growing-message.ts";
import { contentFaults, contentOf, visibleFrom } from "../domain/message-rules.ts";
import { type Mentions, systemFaults } from "../domain/room-messages.ts";
import { respondersTo } from "../domain/room-responses.ts";
import { contentSeq, type ExistingRoom, messageEtag, requireExisting } from "../domain/room-state.ts";
import { highlight, InvalidQuery, parseQuery, type Term } from "../domain/search.ts";
import type { Position } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { VERSIONS, versionsOf } from "../projections/models/audit.ts";
import { searchMessages as querySearch } from "../projections/models/message-search.ts";
import { listMessages as queryMessages } from "../projections/models/messages.ts";
import { listReactions as queryReactions } from "../projections/models/reactions.ts";
import { type Page, pageOf, readCursor } from "../projections/page.ts";
import {
  appendText,
  cancelGrowth,
  completeGrowth,
  endWithText,
  type NamedMessage,
  requireRoomToGrow,
  textSoFar,
  withTexts,
} from "./growing-messages.ts";
import { ROOM_NAMES } from "./public-room-events.ts";
import { type MessageHistory, messageOfEvents, messageOfRow, reactionResource, shownResponses } from "./resources.ts";
import { type Changed, eventAt, executeOnRoom, openAsMember, type RoomChange } from "./rooms.ts";
import type { Call, Caller, Services, Written } from "./services.ts";

/** Of a body or a query in which a client key has to say for whom it acts. */
export const requiredWithKey = (path: string): FieldFault => ({
  path,
  code: "required",
  message: "is required with a client key",
});

/** Who speaks: a client key says it, a user's token is it, under no other name and never the system. And what may be said without text. */
export function messageFaults({ kind }: Pick<Caller, "kind">, body: unknown): readonly FieldFault[] {
  if (!isObject(body)) return [];
  const { sender_id = null, sender_name = null, type = "text", content = null, meta = {}, state, send_at } = body;
  const sender: FieldFault[] = kind === "key" && sender_id === null ? [requiredWithKey("sender_id")] : [];
  if (kind === "user" && sender_name !== null) {
    // fence: sender-name-by-users
    sender.push({ path: "sender_name", code: "not_allowed", message: "is for a client key to set" });
  }
  const empty = state === "growing" ? [] : contentFaults(type, content, meta);
  const both: FieldFault[] =
    state === "growing" && (send_at ?? null) !== null
      ? [{ path: "send_at", code: "not_allowed", message: "does not go with state growing" }]
      : [];
  return [...sender, ...empty, ...both, ...systemFaults(type, kind)];
}

const PEOPLE_AT_ONCE = 50;

type ShownMessage = { readonly message: MessageResource; readonly etag: number };

/** Throws what the room's rules refuse. */
export async function postMessage(call: Call, named: string, wanted: NewMessage): Promise<ShownMessage & Written> {
  const { services, caller } = call;
  const { sender_name: senderName, type: messageType, content, meta, reply_to: replyTo, thread_of: threadOf } = wanted;
  const user = wanted.sender_id ?? (caller.kind === "user" ? caller.userId : "");
  const sender = await services.keyring.subjectOfUser(caller.client, user);
  const ownName = senderName === null ? (await services.people.of(sender)).name : null;
  const mentions = await mentionsOf(call, wanted.mentions);
  const growing = wanted.state === "growing";
  if (growing) await requireRoomToGrow(call, user);
  const said = { messageType, content, meta, replyTo, threadOf, mentions, growing } as const;
  const command = { type: "Post", sender, user, senderName, ownName, ...said } as const;
  const { room, events, replayed, ...outcome } = await executeOnRoom(call, named, command);
  const [event] = events;
  if (event?.type !== "MessagePosted") throw new Error("a message was neither posted nor refused");
  const position = await services.people.ensure(call, [{ subject: sender, userId: user }], outcome.position);
  const seq = event.revision + 1;
  if (growing && !replayed)
    await services.growing.begin({ client: caller.client, room, message: event.data.id, seq, sender }, content);
  const state = growing ? "growing" : "complete";
  const nothingSince = { state, end: null, edit: null, deletedAt: null } as const;
  const posting = { room, seq, posting: event.data, postedAt: event.at, ...nothingSince };
  const responses = shownResponses(undefined, seq, () => null);
  return { message: messageOfEvents({ ...posting, responses }), etag: seq, position, replayed };
}

/** The users that a filter names; undefined without one. */
const subjectsOf = async ({ services, caller }: Call, users: readonly string[] | undefined) =>
  users && Promise.all(users.map((user) => services.keyring.subjectOfUser(caller.client, user)));

/** Whom a message is to mention, each once. */
export async function mentionsOf({ services, caller }: Call, named: readonly string[]): Promise<Mentions> {
  const distinct = [...new Set(named)].map((user) => ({ user, at: named.indexOf(user) }));
  const people = distinct.filter(({ user }) => user !== EVERYONE);
  return {
    people: await mapBounded(people, PEOPLE_AT_ONCE, async (one) => ({
      ...one,
      subject: await services.keyring.subjectOfUser(caller.client, one.user),
    })),
    everyone: distinct.find(({ user }) => user === EVERYONE)?.at ?? null,
  };
}

/** Carries out a change; gives the message as it is just after that. */
async function changed(
  call: Call,
  named: NamedMessage,
  change: Bare<Extract<RoomChange, { type: "RestoreMessage" | "Edit" | "React" }>, "id" | "ifMatch">,
): Promise<ShownMessage & Written & { readonly room: RoomId }> {
  const about = { ...change, id: named.message, ifMatch: named.ifMatch };
  return afterwards(call, named, await executeOnRoom(call, named.room, about));
}

/** The message just after a change of it. */
async function afterwards(
  call: Call,
  { message }: Pick<NamedMessage, "message">,
  { room, state, position, replayed }: Changed,
) {
  return { ...(await shown(call, { id: room, room: requireExisting(state) }, message)), room, position, replayed };
}

/** Throws what the room's rules refuse. */
export async function editMessage(call: Call, named: NamedMessage, { content, meta, mentions }: MessagePatch) {
  const mentioned = mentions === undefined ? undefined : await mentionsOf(call, mentions ?? []);
  return changed(call, named, { type: "Edit", content: content ?? null, meta, mentions: mentioned });
}

/** Throws what the room's rules refuse. */
export const restoreMessage = (call: Call, named: NamedMessage) => changed(call, named, { type: "RestoreMessage" });

/** One that grows ends with its deletion. Throws what the room's rules refuse. */
export async function deleteMessage(
  call: Call,
  { room, message: id, ifMatch }: NamedMessage,
): Promise<Written & { readonly room: RoomId }> {
  try {
    return await executeOnRoom(call, room, { type: "DeleteMessage", id, ifMatch });
  } catch (error) {
    if (!(error instanceof DomainError) || error.code !== "message_growing") throw error;
    return endWithText(call, { room, message: id }, (grown) => ({ type: "DeleteMessage", id, ifMatch, grown }));
  }
}

/** Throws what the room's rules refuse, offset_mismatch, not_growing. */
export async function appendToMessage(call: Call, named: NamedMessage, input: { text: string; offset: number }) {
  const { position, replayed, length } = await appendText(call, named, input);
  const { message, etag } = await getMessage(call, named.room, named.message);
  const { state, content } = message;
  // Under a key the answer is that of the first time, whatever was appended since.
  const cut = length !== null && state === "growing" && content !== null;
  const shown = cut ? { ...message, content: firstCodePoints(content, length) } : message;
  return { message: shown, etag, position, replayed };
}

/** Throws what the room's rules refuse, not_growing. */
export const completeMessage = async (call: Call, named: NamedMessage, content: string | undefined) =>
  afterwards(call, named, await completeGrowth(call, named, content));

/** Throws what the room's rules refuse, not_growing. */
export const cancelMessage = async (call: Call, named: NamedMessage) =>
  afterwards(call, named, await cancelGrowth(call, named));

type Reacting = Pick<NamedMessage, "room" | "message"> & { readonly emoji: string; readonly user: string };

const reaction = async ({ services, caller }: Call, { emoji, user }: Reacting) => ({
  subject: await services.keyring.subjectOfUser(caller.client, user),
  user,
  emoji,
});

/** Throws what the room's rules refuse. */
export const addReaction = async (call: Call, wanted: Reacting & { readonly onlyNew: boolean }) => {
  const { onlyNew, ...named } = wanted;
  return changed(call, { ...named, ifMatch: null }, { type: "React", onlyNew, ...(await reaction(call, wanted)) });
};

/** Throws what the room's rules refuse. */
export const removeReaction = async (call: Call, wanted: Reacting): Promise<Written & { readonly room: RoomId }> =>
  executeOnRoom(call, wanted.room, { type: "Unreact", id: wanted.message, ...(await reaction(call, wanted)) });

/** Newest first. Throws not_found, not_a_member, InvalidCursor. */
export async function listReactions(
  { services, caller, read }: Call,
  { room: named, message }: Pick<NamedMessage, "room" | "message">,
  query: PageQuery,
): Promise<Page<ReactionResource>> {
  const open = await openAsMember(services, caller, named);
  const { room, seq: messageSeq, deletedAt } = await historyOf({ services, caller }, open, message);
  if (deletedAt !== null) return { rows: [], next: null };
  const { rows, next } = await queryReactions(read, { room, messageSeq }, omitUndefined(query));
  return { rows: rows.map(reactionResource), next };
}

/** Throws not_found, not_a_member. */
export async function getMessage(call: Call, named: string, message: string): Promise<ShownMessage> {
  return shown(call, await openAsMember(call.services, call.caller, named), message);
}

type InRoom = { readonly id: RoomId; readonly room: ExistingRoom };

async function shown({ services, caller }: Reader, open: InRoom, id: string): Promise<ShownMessage> {
  const history = await historyOf({ services, caller }, open, id);
  const { seq } = history;
  const { room: state } = open;
  const ids = new Map<Subject, string | null>();
  await mapBounded([...new Set(respondersTo(state.responses, seq))], PEOPLE_AT_ONCE, async (subject) => {
    ids.set(subject, (await services.people.of(subject)).userId);
  });
  const responses = shownResponses(state, seq, (subject) => ids.get(subject) ?? null);
  if (history.state === "growing") {
    const text = await textSoFar(services, { room: open.id, seq, message: history.posting.id });
    return { message: messageOfEvents({ ...history, responses, grown: text }), etag: messageEtag(state, seq) };
  }
  return { message: messageOfEvents({ ...history, responses }), etag: messageEtag(state, seq) };
}

type Reader = { readonly services: Services; readonly caller: Pick<Caller, "actor"> };

/** The message as of the state, from at most three events. Throws not_found, also for one that the caller does not see. */
async function historyOf(
  { services, caller }: Reader,
  { id: room, room: state }: InRoom,
  id: string,
): Promise<Omit<MessageHistory, "responses">> {
  const seq = seqOfMessage(room, id);
  if (seq === undefined || seq > state.seq) throw new DomainError("not_found");
  // fence: message-unseen
  if (seq < visibleFrom(state, caller.actor)) throw new DomainError("not_found");
  const change = state.changes.get(seq);
  const content = contentSeq(state, seq);
  const [posting, edit, deletion] = await Promise.all([
    eventAt(services, room, seq),
    content === seq ? undefined : eventAt(services, room, content),
    change?.deleted === true ? eventAt(services, room, change.change) : undefined,
  ]);
  if (posting?.type !== "MessagePosted" || posting.data.id !== id) throw new DomainError("not_found");
  return {
    room,
    seq,
    posting: posting.data,
    postedAt: posting.meta.at,
    state: growthOf(state, seq),
    end: edit?.type === "MessageCompleted" || edit?.type === "MessageCancelled" ? edit.data : null,
    edit:
      edit?.type === "MessageEdited"
        ? { data: edit.data, at: edit.meta.at, by: await services.people.actor(edit.meta.actor) }
        : null,
    deletedAt: deletion?.meta.at ?? null,
  };
}

/** The replies of a thread, oldest first. Throws not_found, not_a_member, InvalidCursor. */
export async function listReplies(
  { services, caller, read }: Call,
  { room: named, message }: Pick<NamedMessage, "room" | "message">,
  query: PageQuery,
): Promise<Page<MessageResource>> {
  const open = await openAsMember(services, caller, named);
  const { room: id, seq: threadSeq } = await historyOf({ services, caller }, open, message);
  const list = { ...omitUndefined(query), threadSeq, order: "asc", includeDeleted: false } as const;
  const { rows, next } = await queryMessages(read, id, list);
  return { rows: await withTexts(services, rows.map(messageOfRow)), next };
}

/**
 * Every version of a message, oldest first; of one that is deleted now contents are for the audit alone. Throws not_found,
 * not_a_member, InvalidCursor.
 */
export async function listVersions(
  { services, caller, read }: Call,
  { room: named, message }: Pick<NamedMessage, "room" | "message">,
  { limit, cursor }: PageQuery,
): Promise<Page<MessageVersionResource>> {
  const open = await openAsMember(services, caller, named);
  const { room, posting, deletedAt } = await historyOf({ services, caller }, open, message);
  // fence: deleted-in-history
  const hidden = deletedAt !== null && !(caller.kind === "key" && caller.scopes.has("audit:read"));
  const [after] = readCursor(cursor, ["text"]) ?? [];
  const list = omitUndefined({ after: after as Position | undefined, limit: limit + 1 });
  const { rows, next } = pageOf(await versionsOf(read, posting.id, list), limit, (last) => [last.position]);
  const shown = await mapBounded(rows, PEOPLE_AT_ONCE, async (row): Promise<MessageVersionResource[]> => {
    const [event, content] = await Promise.all([
      eventAt(services, room, row.revision + 1),
      eventAt(services, room, row.content_revision + 1),
    ]);
    const type = VERSIONS.find((one) => one === event?.type);
    if (event === undefined || content === undefined || type === undefined) return [];
    const said = contentOf(content);
    const { actor, at } = event.meta;
    const none = hidden || type === "MessageDeleted";
    return [
      {
        event: ROOM_NAMES[type],
        content: none ? null : reveal(said?.content),
        meta: none ? {} : (reveal(said?.meta) ?? {}),
        at: rfc3339(at),
        actor: await services.people.actor(actor),
      },
    ];
  });
  return { rows: shown.flat(), next };
}

/** By seq; upwards when only `after_seq` is given. Throws not_found, not_a_member, InvalidCursor. */
export async function listMessages(call: Call, named: string, query: MessageQuery): Promise<Page<MessageResource>> {
  const { services, caller, read } = call;
  const { id, room } = await openAsMember(services, caller, named);
  const { after_seq: afterSeq, before_seq: beforeSeq, include_deleted: includeDeleted, limit, cursor } = query;
  const threadSeq = query.thread_of === undefined ? undefined : seqOfMessage(id, query.thread_of);
  // Of no message of this room there is no thread.
  if (query.thread_of !== undefined && (threadSeq === undefined || threadSeq > room.seq))
    return { rows: [], next: null };
  const order = query.order ?? (afterSeq !== undefined && beforeSeq === undefined ? "asc" : "desc");
  const [senders, mentioned] = await Promise.all([subjectsOf(call, query.sender_id), subjectsOf(call, query.mentions)]);
  const unseen = visibleFrom(room, caller.actor) - 1;
  const after = /* fence: list-unseen */ unseen > (afterSeq ?? 0) ? unseen : afterSeq;
  const filters = { afterSeq: after, beforeSeq, cursor, types: query.type, senders, threadSeq, mentioned };
  const list = { ...omitUndefined(filters), order, includeDeleted, limit };
  const { rows, next } = await queryMessages(read, id, list);
  return { rows: await withTexts(services, rows.map(messageOfRow)), next };
}

// Searching messages: what the caller may see, with what was found marked.

/** Characters that are marked before others have their turn: some milliseconds. */
const MARKED_AT_ONCE = 10_000;

/** With a user's token in the rooms that the user is in, else in all rooms. Throws InvalidInput, InvalidCursor. */
export async function searchMessages(
  call: Call,
  { q, room_id: rooms, sender_id, type: types, mentions, from, to, limit, cursor }: MessageSearchQuery,
): Promise<Page<FoundMessageResource>> {
  const terms = termsOf(q);
  const { caller, read } = call;
  const [senders, mentioned] = await Promise.all([subjectsOf(call, sender_id), subjectsOf(call, mentions)]);
  // fence: search-viewer
  const viewer = caller.kind === "user" ? caller.subject : undefined;
  const narrowed = omitUndefined({ viewer, rooms, senders, types, mentioned, from, to, cursor });
  const found = await querySearch(read, { ...narrowed, terms, limit });
  const rows: FoundMessageResource[] = [];
  let marked = 0;
  for (const { row, score } of found.rows) {
    const message = messageOfRow(row);
    const { content } = message;
    if (content === null) continue; // deleted or erased meanwhile
    marked += content.length;
    if (marked > MARKED_AT_ONCE) {
      await immediate();
      marked = content.length;
    }
    rows.push({ message, score, highlight: highlight(content, terms) });
  }
  return { rows, next: found.next };
}

/** Throws InvalidInput. */
function termsOf(query: string): readonly Term[] {
  try {
    return parseQuery(query);
  } catch (error) {
    if (!(error instanceof InvalidQuery)) throw error;
    throw new InvalidInput([{ path: "?q", code: error.code, message: error.message }]);
  }
}
