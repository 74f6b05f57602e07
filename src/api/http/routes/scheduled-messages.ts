// Messages for later.
import {
  changeScheduled,
  getScheduled,
  listScheduledMessages,
  sendScheduledNow,
  unschedule,
} from "../../../app/scheduled-messages.ts";
import { listBody } from "../../../contract/fields.ts";
import {
  ScheduledMessageParams,
  ScheduledMessagePatch,
  ScheduledMessageQuery,
  ScheduledMessageResource,
} from "../../../contract/messages.ts";
import { RoomParams } from "../../../contract/rooms.ts";
import { listReply, noContent, route, routesOf, shown } from "../route.ts";

const one = "/rooms/:room_id/scheduled-messages/:scheduled_id";
const reading = { access: { kind: "keyOrUser", scope: "messages:read" } } as const;
const changing = {
  access: { kind: "keyOrUser", scope: "messages:write" },
  params: ScheduledMessageParams,
  problems: ["not_found", "not_scheduled"],
} as const;

type Path = { readonly params: { readonly room_id: string; readonly scheduled_id: string } };
const named = ({ params }: Path) => ({ room: params.room_id, scheduled: params.scheduled_id });

export const scheduledMessageRoutes = routesOf("messages", {
  listScheduledMessages: route("GET", "/rooms/:room_id/scheduled-messages", {
    ...reading,
    summary: "List messages for later",
    description: "Newest first: to admins of the room all of them, to others their own. Posted and refused ones stay.",
    params: RoomParams,
    query: ScheduledMessageQuery,
    responses: { 200: listBody(ScheduledMessageResource) },
    problems: ["not_found", "not_a_member"],
    handle: async (call) => listReply(call, await listScheduledMessages(call, call.params.room_id, call.query)),
  }),
  getScheduledMessage: route("GET", one, {
    ...reading,
    summary: "Read a message for later",
    description: "Its `status` says what became of it: `message_id` is the message, `reason` why the room refused it.",
    params: ScheduledMessageParams,
    responses: { 200: ScheduledMessageResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getScheduled(call, named(call)), "scheduled"),
  }),
  editScheduledMessage: route("PATCH", one, {
    ...changing,
    summary: "Change a message for later",
    description:
      "A JSON Merge Patch (RFC 7396), by its sender or a client key. A past `send_at`, or null, posts it now.",
    body: ScheduledMessagePatch,
    responses: { 200: ScheduledMessageResource },
    handle: async (call) => shown(await changeScheduled(call, named(call), call.body), "scheduled"),
  }),
  cancelScheduledMessage: route("DELETE", one, {
    ...changing,
    summary: "Cancel a message for later",
    description: "By its sender, an admin of the room or a client key. It stays in the list as `cancelled`.",
    responses: { 204: null },
    handle: async (call) => noContent(await unschedule(call, named(call))),
  }),
  sendScheduledMessageNow: route("POST", `${one}/send-now`, {
    ...changing,
    summary: "Post a message for later now",
    description: "The room decides at once: the answer is `posted`, or `refused` with its `reason`.",
    responses: { 200: ScheduledMessageResource },
    handle: async (call) => shown(await sendScheduledNow(call, named(call)), "scheduled"),
  }),
});
