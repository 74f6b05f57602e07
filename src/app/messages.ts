// Messages: posting, changing, reading and listing them.
import type { FieldFault } from "../contract/errors.ts";
import { type RoomId, seqOfMessage } from "../contract/ids.ts";
import { isObject } from "../contract/json.ts";
import type { MessagePatch, MessageQuery, MessageResource, NewMessage } from "../contract/messages.ts";
import { DomainError, type IfMatch } from "../domain/decider.ts";
import { contentFaults, systemFaults } from "../domain/room-messages.ts";
import { contentSeq, type ExistingRoom, messageEtag, requireExisting } from "../domain/room-state.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { listMessages as queryMessages } from "../projections/models/messages.ts";
import type { Page } from "../projections/page.ts";
import { type MessageHistory, messageOfEvents, messageOfRow } from "./resources.ts";
import { eventAt, executeOnRoom, openAsMember } from "./rooms.ts";
import type { Call, Caller, Services, Written } from "./services.ts";

/** Who speaks: a client key says it, a user's token is it, under no other name and never the system. And what may be said without text. */
export function messageFaults({ kind }: Pick<Caller, "kind">, body: unknown): readonly FieldFault[] {
  if (!isObject(body)) return [];
  const { sender_id = null, sender_name = null, type = "text", content = null, meta = {} } = body;
  const sender: FieldFault[] =
    kind === "key" && sender_id === null
      ? [{ path: "sender_id", code: "required", message: "is required with a client key" }]
      : [];
  if (kind === "user" && sender_name !== null) {
    // fence: sender-name-by-users
    sender.push({ path: "sender_name", code: "not_allowed", message: "is for a client key to set" });
  }
  return [...sender, ...contentFaults(type, content, meta), ...systemFaults(type, kind)];
}

type ShownMessage = { readonly message: MessageResource; readonly etag: number };

/** Throws what the room's rules refuse. */
export async function postMessage(call: Call, named: string, wanted: NewMessage): Promise<ShownMessage & Written> {
  const { services, caller } = call;
  const { sender_name: senderName, type: messageType, content, meta, reply_to: replyTo } = wanted;
  const user = wanted.sender_id ?? (caller.kind === "user" ? caller.userId : "");
  const sender = await services.keyring.subjectOfUser(caller.client, user);
  const ownName = senderName === null ? (await services.people.of(sender)).name : null;
  const command = { type: "Post", sender, user, senderName, ownName, messageType, content, meta, replyTo } as const;
  const { room, events, replayed, ...outcome } = await executeOnRoom(call, named, command);
  const [event] = events;
  if (event?.type !== "MessagePosted") throw new Error("a message was neither posted nor refused");
  const position = await services.people.ensure(call, [{ subject: sender, userId: user }], outcome.position);
  const seq = event.revision + 1;
  const history = { room, seq, posting: event.data, postedAt: event.at, edit: null, deletedAt: null };
  return { message: messageOfEvents(history), etag: seq, position, replayed };
}

/** A message as a path names it, and the ETag that a change rests on. */
type Named = { readonly room: string; readonly message: string; readonly ifMatch: IfMatch };

/** Carries out a change; gives the message as it is just after that. */
async function changed(
  call: Call,
  named: Named,
  change:
    | { readonly type: "RestoreMessage" }
    | { readonly type: "Edit"; readonly content: string | null; readonly meta: MessagePatch["meta"] },
): Promise<ShownMessage & Written> {
  const about = { ...change, id: named.message, ifMatch: named.ifMatch };
  const { room, state, position, replayed } = await executeOnRoom(call, named.room, about);
  return { ...(await shown(call.services, room, requireExisting(state), named.message)), position, replayed };
}

/** Throws what the room's rules refuse. */
export const editMessage = (call: Call, named: Named, { content, meta }: MessagePatch) =>
  changed(call, named, { type: "Edit", content: content ?? null, meta });

/** Throws what the room's rules refuse. */
export const restoreMessage = (call: Call, named: Named) => changed(call, named, { type: "RestoreMessage" });

/** Throws what the room's rules refuse. */
export const deleteMessage = (
  call: Call,
  { room, message: id, ifMatch }: Named,
): Promise<Written & { readonly room: RoomId }> => executeOnRoom(call, room, { type: "DeleteMessage", id, ifMatch });

/** Throws not_found, not_a_member. */
export async function getMessage({ services, caller }: Call, named: string, message: string): Promise<ShownMessage> {
  const { id, room } = await openAsMember(services, caller, named);
  return shown(services, id, room, message);
}

async function shown(services: Services, room: RoomId, state: ExistingRoom, id: string): Promise<ShownMessage> {
  const history = await historyOf(services, room, state, id);
  return { message: messageOfEvents(history), etag: messageEtag(state, history.seq) };
}

/** The message as of the state, from at most three events. Throws not_found. */
async function historyOf(services: Services, room: RoomId, state: ExistingRoom, id: string): Promise<MessageHistory> {
  const seq = seqOfMessage(room, id);
  if (seq === undefined || seq > state.seq) throw new DomainError("not_found");
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
    edit: edit?.type === "MessageEdited" ? { data: edit.data, at: edit.meta.at } : null,
    deletedAt: deletion?.meta.at ?? null,
  };
}

/** By seq; upwards when only `after_seq` is given. Throws not_found, not_a_member, InvalidCursor. */
export async function listMessages(
  { services, caller, read }: Call,
  named: string,
  query: MessageQuery,
): Promise<Page<MessageResource>> {
  const { id } = await openAsMember(services, caller, named);
  const { after_seq: afterSeq, before_seq: beforeSeq, include_deleted: includeDeleted, limit, cursor } = query;
  const order = query.order ?? (afterSeq !== undefined && beforeSeq === undefined ? "asc" : "desc");
  const subjects = query.sender_id?.map((user) => services.keyring.subjectOfUser(caller.client, user));
  const senders = subjects === undefined ? undefined : await Promise.all(subjects);
  const filters = omitUndefined({ afterSeq, beforeSeq, cursor, types: query.type, senders });
  const { rows, next } = await queryMessages(read, id, { ...filters, order, includeDeleted, limit });
  return { rows: rows.map(messageOfRow), next };
}
