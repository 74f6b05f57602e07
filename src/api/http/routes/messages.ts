// Messages.
import {
  deleteMessage,
  editMessage,
  getMessage,
  listMessages,
  messageFaults,
  postMessage,
  restoreMessage,
} from "../../../app/messages.ts";
import { listBody } from "../../../contract/fields.ts";
import { MessageParams, MessagePatch, MessageQuery, MessageResource, NewMessage } from "../../../contract/messages.ts";
import { RoomParams } from "../../../contract/rooms.ts";
import { created, type Handling, listReply, noContent, route, routesOf, shown } from "../route.ts";

const readAccess = { kind: "keyOrUser", scope: "messages:read" } as const;
const writeAccess = { kind: "keyOrUser", scope: "messages:write" } as const;

const changing = { access: writeAccess, params: MessageParams, conditional: true } as const;
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

export const messageRoutes = routesOf("messages", {
  postMessage: route("POST", "/rooms/:room_id/messages", {
    summary: "Post a message",
    description:
      "The sender must be a member of the room. The answer's `seq` is the place of the message in the room's history.",
    access: writeAccess,
    params: RoomParams,
    body: NewMessage,
    faultsFor: messageFaults,
    responses: { 201: MessageResource },
    problems: ["not_found", "not_a_member", "read_only", "sender_mismatch", "room_inactive"],
    handle: async (call) => {
      const posted = await postMessage(call, call.params.room_id, call.body);
      return created(posted, "message", `/rooms/${posted.message.room_id}/messages/${posted.message.id}`);
    },
  }),
  listMessages: route("GET", "/rooms/:room_id/messages", {
    summary: "List messages",
    description:
      "By `seq`: upwards when only `after_seq` is given, else newest first. The bounds are exclusive. Deleted messages are left out unless `include_deleted` is true.",
    access: readAccess,
    params: RoomParams,
    query: MessageQuery,
    responses: { 200: listBody(MessageResource) },
    problems: ["not_found", "not_a_member"],
    handle: async (call) => listReply(call, await listMessages(call, call.params.room_id, call.query)),
  }),
  getMessage: route("GET", "/rooms/:room_id/messages/:message_id", {
    summary: "Read a message",
    description: "A deleted message has neither content nor meta.",
    access: readAccess,
    params: MessageParams,
    responses: { 200: MessageResource },
    problems: ["not_found", "not_a_member"],
    handle: async (call) => shown(await getMessage(call, call.params.room_id, call.params.message_id), "message"),
  }),
  editMessage: route("PATCH", "/rooms/:room_id/messages/:message_id", {
    ...changing,
    summary: "Edit a message",
    description:
      "A JSON Merge Patch (RFC 7396): null clears, `meta` is merged key by key. Only the sender edits, or a client key.",
    body: MessagePatch,
    responses: { 200: MessageResource },
    problems: [...refusals, "message_deleted"],
    handle: async (call) => shown(await editMessage(call, named(call), call.body), "message"),
  }),
  deleteMessage: route("DELETE", "/rooms/:room_id/messages/:message_id", {
    ...changing,
    summary: "Delete a message",
    description: "It keeps its id and seq, and can be restored.",
    responses: { 204: null },
    problems: refusals,
    handle: async (call) => noContent(await deleteMessage(call, named(call))),
  }),
  restoreMessage: route("POST", "/rooms/:room_id/messages/:message_id/restore", {
    ...changing,
    summary: "Restore a deleted message",
    description: "Its content and meta can be read again.",
    responses: { 200: MessageResource },
    problems: refusals,
    handle: async (call) => shown(await restoreMessage(call, named(call)), "message"),
  }),
});
