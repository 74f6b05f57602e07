// The inbox of a user.
import { listInbox, markInbox, markItem } from "../../../app/inbox.ts";
import { InboxCounts, InboxItemParams, InboxList, InboxMarks, InboxQuery } from "../../../contract/inbox.ts";
import { UserParams } from "../../../contract/users.ts";
import type { ItemMark } from "../../../domain/delivery.ts";
import type { InboxMark } from "../../../domain/inbox.ts";
import { listReply, ok, type Route, route, routesOf, shown } from "../route.ts";

const PATH = "/users/:user_id/notifications";
const writing = {
  access: { kind: "keyOrUser", scope: "notifications:write" },
  responses: { 200: InboxCounts },
} as const;

const marksItem = (action: string, as: ItemMark, summary: string, description: string): Route =>
  route("POST", `${PATH}/:notification_id/${action}`, {
    ...{ ...writing, summary, description },
    params: InboxItemParams,
    problems: ["not_found", "read_model_behind"],
    handle: async (call) => {
      const { user_id, notification_id } = call.params;
      return shown(await markItem(call, user_id, notification_id, as), "counts");
    },
  });

const marksAll = (action: string, as: InboxMark, summary: string, description: string): Route =>
  route("POST", `${PATH}/${action}`, {
    ...{ ...writing, summary, description },
    params: UserParams,
    body: InboxMarks,
    problems: ["not_found", "read_model_behind"],
    handle: async (call) => shown(await markInbox(call, call.params.user_id, as, call.body.before), "counts"),
  });

export const inboxRoutes = routesOf("inbox", {
  listInbox: route("GET", PATH, {
    summary: "List a user's inbox",
    description:
      "The user's WebSocket notifications, newest first, with what is unread and unseen in the whole inbox. Without `status` those that are not archived.",
    access: { kind: "keyOrUser", scope: "notifications:read" },
    params: UserParams,
    query: InboxQuery,
    responses: { 200: InboxList },
    problems: ["not_found"],
    handle: async (call) => {
      const page = await listInbox(call, call.params.user_id, call.query);
      return ok({ ...listReply(call, page).body, ...page.counts });
    },
  }),
  readItem: marksItem(
    "read",
    "read",
    "Mark a notification as read",
    "It is seen then, and acknowledged: no fallback mail follows.",
  ),
  unreadItem: marksItem(
    "unread",
    "unread",
    "Mark a notification as unread",
    "Taken out of the archive when it is there.",
  ),
  archiveItem: marksItem("archive", "archived", "Archive a notification", "It is read then, and acknowledged."),
  unarchiveItem: marksItem("unarchive", "unarchived", "Take a notification out of the archive", "It stays read."),
  seeInbox: marksAll(
    "seen",
    "seen",
    "Mark the inbox as seen",
    "For when it is opened: what comes later counts as unseen.",
  ),
  readInbox: marksAll(
    "read-all",
    "read",
    "Mark all notifications as read",
    "In one event, however many; they are acknowledged too.",
  ),
  archiveInbox: marksAll("archive-all", "archived", "Archive all notifications", "In one event; they are read then."),
});
