// Messages.
import {
  deleteMessage,
  editMessage,
  getMessage,
  listMessages,
  postMessage,
  restoreMessage,
} from "../../../app/messages.ts";
import type { Caller } from "../../../app/services.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import { isObject } from "../../../contract/json.ts";
import { MessageParams, MessagePatch, MessageQuery, NewMessage, RoomParams } from "../../../contract/requests.ts";
import { listBody, MessageResource } from "../../../contract/resources.ts";
import { contentFaults, systemFaults } from "../../../domain/room-messages.ts";
import { created, listReply, noContent, ok } from "../reply.ts";
import { type Handling, type Route, route } from "../route.ts";

const tag = "messages";
const readAccess = { kind: "keyOrUser", scope: "messages:read" } as const;
const writeAccess = { kind: "keyOrUser", scope: "messages:write" } as const;

/** Who speaks: a client key says it, a user's token is it and never the system. And what may be said without text. */
function messageFaults({ kind }: Caller, body: unknown): readonly FieldFault[] {
  if (!isObject(body)) return [];
  const { sender_id = null, type = "text", content = null, meta = {} } = body;
  const sender: readonly FieldFault[] =
    kind === "key" && sender_id === null
      ? [{ path: "sender_id", code: "required", message: "is required with a client key" }]
      : [];
  return [...sender, ...contentFaults(type, content, meta), ...systemFaults(type, kind)];
}

const post = route({
  method: "POST",
  path: "/rooms/:room_id/messages",
  summary: "Post a message",
  tag,
  access: writeAccess,
  params: RoomParams,
  body: NewMessage,
  faultsFor: messageFaults,
  responses: { 201: MessageResource },
  problems: ["not_found", "not_a_member", "read_only", "sender_mismatch", "room_inactive"],
  handle: async (call) => {
    const { message, ...about } = await postMessage(call, call.params.room_id, call.body);
    return created(message, `/rooms/${message.room_id}/messages/${message.id}`, about);
  },
});

const list = route({
  method: "GET",
  path: "/rooms/:room_id/messages",
  summary: "List messages; the bounds are exclusive",
  tag,
  access: readAccess,
  params: RoomParams,
  query: MessageQuery,
  responses: { 200: listBody(MessageResource) },
  problems: ["not_found", "not_a_member"],
  handle: async (call) => listReply(call, await listMessages(call, call.params.room_id, call.query)),
});

const get = route({
  method: "GET",
  path: "/rooms/:room_id/messages/:message_id",
  summary: "Read a message as it is now; a deleted one has neither content nor meta",
  tag,
  access: readAccess,
  params: MessageParams,
  responses: { 200: MessageResource },
  problems: ["not_found", "not_a_member"],
  handle: async (call) => {
    const { message, etag } = await getMessage(call, call.params.room_id, call.params.message_id);
    return ok(message, { etag });
  },
});

const changing = { tag, access: writeAccess, params: MessageParams, conditional: true } as const;
const refusals = [
  "not_found",
  "not_a_member",
  "read_only",
  "role_required",
  "precondition_failed",
  "room_inactive",
] as const;

const named = ({
  params,
  ifMatch,
}: Pick<Handling<typeof MessageParams, undefined, undefined>, "params" | "ifMatch">) => ({
  room: params.room_id,
  message: params.message_id,
  ifMatch,
});

const patch = route({
  ...changing,
  method: "PATCH",
  path: "/rooms/:room_id/messages/:message_id",
  summary: "Edit a message by a JSON Merge Patch",
  body: MessagePatch,
  responses: { 200: MessageResource },
  problems: [...refusals, "message_deleted"],
  handle: async (call) => {
    const { message, ...about } = await editMessage(call, named(call), call.body);
    return ok(message, about);
  },
});

const remove = route({
  ...changing,
  method: "DELETE",
  path: "/rooms/:room_id/messages/:message_id",
  summary: "Delete a message; it keeps its id and seq and can be restored",
  responses: { 204: null },
  problems: refusals,
  handle: async (call) => {
    const { position } = await deleteMessage(call, named(call));
    return noContent({ position });
  },
});

const restore = route({
  ...changing,
  method: "POST",
  path: "/rooms/:room_id/messages/:message_id/restore",
  summary: "Restore a deleted message",
  responses: { 200: MessageResource },
  problems: refusals,
  handle: async (call) => {
    const { message, ...about } = await restoreMessage(call, named(call));
    return ok(message, about);
  },
});

export const messageRoutes: readonly Route[] = [post, list, get, patch, remove, restore];
