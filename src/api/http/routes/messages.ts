// Messages: posting, listing and reading them.
import { z } from "zod";
import type { Caller } from "../../../app/authenticate.ts";
import { meetUsers } from "../../../app/meet-users.ts";
import { messageOfEvents, messageResource } from "../../../app/resources.ts";
import { messageFacts } from "../../../app/rooms/message-facts.ts";
import { findRoom, openAsMember } from "../../../app/rooms/room-access.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import {
  commaSeparated,
  input,
  meta,
  name,
  orNull,
  paging,
  pattern,
  queryBoolean,
  queryInteger,
  text,
  userId,
} from "../../../contract/fields.ts";
import { isObject } from "../../../contract/json.ts";
import { listBody, MessageResource } from "../../../contract/resources.ts";
import { roomDecider, roomStream } from "../../../domain/room.ts";
import { messageEtag } from "../../../domain/room-state.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import { listMessages as queryMessages } from "../../../projections/models/messages.ts";
import { created, listReply, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";
import { messageChangeRoutes } from "./message-changes.ts";
import { content, messageParams } from "./message-pieces.ts";
import { roomParams } from "./room-pieces.ts";

const write = { kind: "keyOrUser", scope: "messages:write" } as const;
const read = { kind: "keyOrUser", scope: "messages:read" } as const;
const MAX_SEQ = 2 ** 31 - 1;
const messageType = pattern(/^[a-z][a-z0-9_.-]*$/, "of a-z 0-9 _ . - and begin with a letter", 1, 64);

const NewMessage = input({
  sender_id: orNull(userId).describe("Needed with a client key; a user token's own otherwise"),
  sender_name: orNull(name).describe("Left out: the member's name, else the user's"),
  content: content.describe("May be empty with meta, except for `text` and `system`"),
  type: messageType.default("text").describe("text, image, file, system or your own"),
  meta: meta.default({}),
  reply_to: orNull(text(1, 128)),
});

/** Who speaks: a client key says it, a user token is it and never the system. And what may be said without words. */
function messageFaults({ kind }: Caller, body: unknown): readonly FieldFault[] {
  if (!isObject(body)) return [];
  const sent: Readonly<Record<"sender_id" | "type" | "content" | "meta", unknown>> = {
    ...{ sender_id: null, type: "text", content: null, meta: {} },
    ...body,
  };
  const faults: FieldFault[] = [];
  if (kind === "key" && sent.sender_id === null) {
    faults.push({ path: "sender_id", code: "required", message: "is required with a client key" });
  }
  const plain = sent.type === "text" || sent.type === "system";
  const bare = isObject(sent.meta) && Object.keys(sent.meta).length === 0;
  if (sent.content === "" && (plain || bare)) {
    const message = plain ? `must not be empty for type ${sent.type}` : "must not be empty without meta";
    faults.push({ path: "content", code: "too_short", message });
  }
  if (kind === "user" && sent.type === "system") {
    faults.push({ path: "type", code: "not_allowed", message: "only a client key may post for the system" });
  }
  return faults;
}

const postMessage = route({
  method: "POST",
  path: "/rooms/:room_id/messages",
  summary: "Posts a message.",
  tag: "messages",
  access: write,
  params: roomParams,
  body: NewMessage,
  faultsFor: messageFaults,
  responses: { 201: MessageResource },
  problems: ["not_found", "not_a_member", "read_only", "sender_mismatch", "room_inactive"],
  handle: async ({ services, caller, read, params, context, at, body }) => {
    const { keyring, commands, memberNames } = services;
    const room = await findRoom(services, caller.client, params.room_id);
    const user = body.sender_id ?? (caller.kind === "user" ? caller.userId : "");
    const sender = await keyring.subjectOfUser(caller.client, user);
    const senderName = body.sender_name ?? (await memberNames.nameOf(read, room, sender));
    const { type: messageType, content, meta, reply_to: replyTo } = body;
    const about = { room, actor: caller.actor, sender, user, senderName } as const;
    const command = { type: "Post", at, ...about, messageType, content, meta, replyTo } as const;
    const outcome = await commands.execute(roomDecider, roomStream(room), command, context);
    const [event] = outcome.events;
    if (event?.type !== "MessagePosted") throw new Error("a message was neither posted nor refused");
    const position = await meetUsers(services, [{ subject: sender, userId: user }], {
      ...{ context, at },
      after: outcome.position,
    });
    const seq = event.revision + 1;
    const shown = messageOfEvents({ room, seq, posting: event.data, postedAt: event.at, edit: null, deletedAt: null });
    const { replayed } = outcome;
    return created(shown, `/rooms/${room}/messages/${shown.id}`, { position, replayed, etag: seq });
  },
});

const MessageQuery = z.strictObject({
  ...paging,
  after_seq: queryInteger(0, MAX_SEQ).optional(),
  before_seq: queryInteger(0, MAX_SEQ).optional(),
  order: z.enum(["asc", "desc"]).optional().describe("Left out: asc when only after_seq is given, else desc"),
  sender_id: commaSeparated(userId).optional(),
  type: commaSeparated(messageType).optional(),
  include_deleted: queryBoolean.default(false),
});

const listMessages = route({
  method: "GET",
  path: "/rooms/:room_id/messages",
  summary: "Lists messages; the bounds are exclusive.",
  tag: "messages",
  access: read,
  params: roomParams,
  query: MessageQuery,
  responses: { 200: listBody(MessageResource) },
  problems: ["not_found", "not_a_member"],
  handle: async (handling) => {
    const { services, caller, read, params, query } = handling;
    const { id } = await openAsMember(services, caller, params.room_id);
    const { after_seq: afterSeq, before_seq: beforeSeq, include_deleted: includeDeleted, limit, cursor } = query;
    const order = query.order ?? (afterSeq !== undefined && beforeSeq === undefined ? "asc" : "desc");
    const senders = query.sender_id?.map((user) => services.keyring.subjectOfUser(caller.client, user));
    const filters = {
      ...omitUndefined({ afterSeq, beforeSeq, cursor, types: query.type }),
      ...(senders === undefined ? {} : { senders: await Promise.all(senders) }),
    };
    const page = await queryMessages(read, id, { ...filters, order, includeDeleted, limit });
    return listReply(handling, page, messageResource);
  },
});

const getMessage = route({
  method: "GET",
  path: "/rooms/:room_id/messages/:message_id",
  summary: "Reads a message as it is now; of a deleted one content and meta are gone.",
  tag: "messages",
  access: read,
  params: messageParams,
  responses: { 200: MessageResource },
  problems: ["not_found", "not_a_member"],
  handle: async ({ services, caller, params }) => {
    const { id, room } = await openAsMember(services, caller, params.room_id);
    const facts = await messageFacts(services, id, room, params.message_id);
    return ok(messageOfEvents(facts), { etag: messageEtag(room, facts.seq) });
  },
});

export const messageRoutes: readonly Route[] = [postMessage, listMessages, getMessage, ...messageChangeRoutes];
