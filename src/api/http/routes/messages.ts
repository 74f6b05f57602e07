// Messages.
import {
  addReaction,
  appendToMessage,
  cancelMessage,
  completeMessage,
  deleteMessage,
  editMessage,
  getMessage,
  listMessages,
  listReactions,
  listReplies,
  listVersions,
  messageFaults,
  postMessage,
  removeReaction,
  requiredWithKey,
  restoreMessage,
  searchMessages,
} from "../../../app/messages.ts";
import { scheduleMessage } from "../../../app/scheduled-messages.ts";
import type { Caller } from "../../../app/services.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import { listBody, PageQuery } from "../../../contract/fields.ts";
import { isObject } from "../../../contract/json.ts";
import {
  AppendInput,
  CompleteInput,
  FoundMessageResource,
  MessageParams,
  MessagePatch,
  MessageQuery,
  MessageResource,
  MessageSearchQuery,
  MessageVersionResource,
  NewMessage,
  ReactionInput,
  ReactionParams,
  ReactionQuery,
  ReactionResource,
  ScheduledMessageResource,
} from "../../../contract/messages.ts";
import { RoomParams } from "../../../contract/rooms.ts";
import { InvalidInput } from "../../../domain/decider.ts";
import {
  API_PREFIX,
  accepted,
  created,
  type Handling,
  listReply,
  noContent,
  route,
  routesOf,
  shown,
} from "../route.ts";

const readAccess = { kind: "keyOrUser", scope: "messages:read" } as const;
const writeAccess = { kind: "keyOrUser", scope: "messages:write" } as const;

const changing = { access: writeAccess, params: MessageParams, conditional: true } as const;
const listing = {
  access: readAccess,
  params: MessageParams,
  query: PageQuery,
  problems: ["not_found", "not_a_member"],
} as const;
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

const growingRefusals = [
  "not_found",
  "not_a_member",
  "read_only",
  "muted",
  "sender_mismatch",
  "precondition_failed",
  "room_inactive",
  "not_growing",
] as const;
const growing = {
  ...changing,
  responses: { 200: MessageResource },
  problems: growingRefusals,
} as const;

const reactorFaults = ({ kind }: Caller, body: unknown): readonly FieldFault[] =>
  kind === "key" && isObject(body) && (body.user_id ?? null) === null ? [requiredWithKey("user_id")] : [];

/** The reaction that a path names. Throws InvalidInput unless it is known whose it is. */
function reaction(
  { params, caller }: Pick<Handling<typeof ReactionParams, undefined, undefined>, "params" | "caller">,
  named: string | null,
) {
  const user = named ?? (caller.kind === "user" ? caller.userId : null);
  if (user === null) throw new InvalidInput([requiredWithKey("?user_id")]);
  return { room: params.room_id, message: params.message_id, emoji: params.emoji, user };
}

const reactionRefusals = [
  "not_found",
  "not_a_member",
  "read_only",
  "sender_mismatch",
  "room_inactive",
  "message_deleted",
  "too_many_reactions",
] as const;

export const messageRoutes = routesOf("messages", {
  postMessage: route("POST", "/rooms/:room_id/messages", {
    summary: "Post a message",
    description:
      "The sender must be a member of the room. The answer's `seq` is the place of the message in the room's history. With `send_at` it waits for its time, and the answer is 202.",
    access: writeAccess,
    params: RoomParams,
    body: NewMessage,
    faultsFor: messageFaults,
    responses: { 201: MessageResource, 202: ScheduledMessageResource },
    problems: [
      "not_found",
      "not_a_member",
      "read_only",
      "sender_mismatch",
      "room_inactive",
      "too_many_growing",
      "too_many_scheduled",
    ],
    handle: async (call) => {
      const later = await scheduleMessage(call, call.params.room_id, call.body);
      if (later !== undefined) {
        const { room_id, id } = later.scheduled;
        return { ...accepted(later, "scheduled"), location: `${API_PREFIX}/rooms/${room_id}/scheduled-messages/${id}` };
      }
      const posted = await postMessage(call, call.params.room_id, call.body);
      return created(posted, "message", `/rooms/${posted.message.room_id}/messages/${posted.message.id}`);
    },
  }),
  searchMessages: route("GET", "/messages/search", {
    summary: "Search messages",
    description:
      "The best matches first, the newest first among equals. Case, accents and the form of Unicode do not matter; Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese text is found by any part of it. Deleted messages are never found; with a user token only those of rooms that the user is in.",
    access: readAccess,
    query: MessageSearchQuery,
    responses: { 200: listBody(FoundMessageResource) },
    handle: async (call) => listReply(call, await searchMessages(call, call.query)),
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
    problems: [...refusals, "message_deleted", "message_growing"],
    handle: async (call) => shown(await editMessage(call, named(call), call.body), "message"),
  }),
  deleteMessage: route("DELETE", "/rooms/:room_id/messages/:message_id", {
    ...changing,
    summary: "Delete a message",
    description: "It keeps its id and seq, and can be restored, what an admin or a client key deleted by these alone.",
    responses: { 204: null },
    problems: refusals,
    handle: async (call) => noContent(await deleteMessage(call, named(call))),
  }),
  restoreMessage: route("POST", "/rooms/:room_id/messages/:message_id/restore", {
    ...changing,
    summary: "Restore a deleted message",
    description:
      "Its content and meta can be read again. A sender restores what it deleted itself; admins and client keys restore what anybody deleted.",
    responses: { 200: MessageResource },
    problems: [...refusals, "message_growing"],
    handle: async (call) => shown(await restoreMessage(call, named(call)), "message"),
  }),
  listVersions: route("GET", "/rooms/:room_id/messages/:message_id/history", {
    ...listing,
    summary: "List the versions of a message",
    description:
      "Oldest first, its deletion and restoring among them. While it is deleted, the contents are for client keys with `audit:read` alone.",
    responses: { 200: listBody(MessageVersionResource) },
    handle: async (call) => listReply(call, await listVersions(call, named(call), call.query)),
  }),
  listReplies: route("GET", "/rooms/:room_id/messages/:message_id/replies", {
    ...listing,
    summary: "List the replies of a thread",
    description: "Oldest first, deleted ones left out.",
    responses: { 200: listBody(MessageResource) },
    handle: async (call) => listReply(call, await listReplies(call, named(call), call.query)),
  }),
  appendToMessage: route("POST", "/rooms/:room_id/messages/:message_id/append", {
    ...growing,
    summary: "Append to a growing message",
    description:
      "`offset` is the length of the message so far, in code points: the same text sent again changes nothing, other text there or a gap is `offset_mismatch` with `expected`. At most 100,000 code points in all.",
    body: AppendInput,
    problems: [...growingRefusals, "offset_mismatch"],
    handle: async (call) => shown(await appendToMessage(call, named(call), call.body), "message"),
  }),
  completeMessage: route("POST", "/rooms/:room_id/messages/:message_id/complete", {
    ...growing,
    summary: "Complete a growing message",
    description: "With what was appended, or with `content` in its place. From then on it is a message like any other.",
    body: CompleteInput,
    handle: async (call) => shown(await completeMessage(call, named(call), call.body.content), "message"),
  }),
  cancelMessage: route("POST", "/rooms/:room_id/messages/:message_id/cancel", {
    ...growing,
    summary: "Give up a growing message",
    description: "It ends as `cancelled`, with what there is of it. So does one to which nothing is appended for 60 s.",
    handle: async (call) => shown(await cancelMessage(call, named(call)), "message"),
  }),
  addReaction: route("PUT", "/rooms/:room_id/messages/:message_id/reactions/:emoji", {
    summary: "React to a message",
    description:
      "With one emoji of Unicode's, percent-encoded and in any of its forms, or `:name:`. It is shown fully qualified. At most 50 different ones on a message.",
    access: writeAccess,
    params: ReactionParams,
    body: ReactionInput,
    faultsFor: reactorFaults,
    responses: { 200: MessageResource },
    problems: [...reactionRefusals, "precondition_failed"],
    handle: async (call) => {
      const { onlyNew, body } = call;
      return shown(await addReaction(call, { ...reaction(call, body.user_id), onlyNew }), "message");
    },
  }),
  removeReaction: route("DELETE", "/rooms/:room_id/messages/:message_id/reactions/:emoji", {
    summary: "Take a reaction back",
    description: "A client key names the user by `user_id`.",
    access: writeAccess,
    params: ReactionParams,
    query: ReactionQuery,
    responses: { 204: null },
    problems: reactionRefusals.filter((code) => code !== "too_many_reactions"),
    handle: async (call) => noContent(await removeReaction(call, reaction(call, call.query.user_id ?? null))),
  }),
  listReactions: route("GET", "/rooms/:room_id/messages/:message_id/reactions", {
    ...listing,
    summary: "List who reacted to a message",
    description: "Newest first; none of a deleted message.",
    responses: { 200: listBody(ReactionResource) },
    handle: async (call) => listReply(call, await listReactions(call, named(call), call.query)),
  }),
});
