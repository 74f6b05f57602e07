// Notifications: asking for them, finding and reading them.
import { z } from "zod";
import { eventsAt, shownEvents } from "../../../app/audit-events.ts";
import { notificationBody, notificationSummaryBody } from "../../../app/bodies/notification.ts";
import { askFor } from "../../../app/notifications/ask.ts";
import { NotificationInput } from "../../../app/notifications/input.ts";
import { subjectsNamed } from "../../../app/notifications/targets.ts";
import { timelinePage } from "../../../app/notifications/timeline.ts";
import { timeFaults } from "../../../app/notifications/times.ts";
import { viewNow } from "../../../app/notifications/view.ts";
import { commaSeparated, created, input, paging, text } from "../../../contract/fields.ts";
import { type NotificationId, NotificationIdSchema, type RoomId } from "../../../contract/ids.ts";
import {
  AuditEventResource,
  ChannelSchema,
  listBody,
  NotificationResource,
  NotificationStatusSchema,
  NotificationSummary,
} from "../../../contract/resources.ts";
import { DomainError } from "../../../domain/errors.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import {
  notificationById,
  listNotifications as queryNotifications,
} from "../../../projections/models/notifications.ts";
import { accepted, listReply, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";
import { notificationChangeRoutes } from "./notification-changes.ts";

const read = { kind: "key", scope: "notifications:read" } as const;
const params = z.object({ notification_id: NotificationIdSchema });

const createNotification = route({
  method: "POST",
  path: "/notifications",
  summary: "Asks for a notification by email, WebSocket or webhook.",
  tag: "notifications",
  access: { kind: "key", scope: "notifications:write" },
  body: NotificationInput,
  furtherFaults: (_caller, body, at) => timeFaults(body, at),
  responses: { 202: NotificationResource },
  problems: ["ambiguous_recipients", "no_recipients", "email_provider_not_configured"],
  handle: async ({ services, read, context, at, body }) => {
    const { view, position, replayed } = await askFor(services, read, { context, at }, body);
    const location = `/api/v1/notifications/${view.row.id}`;
    return { ...accepted(notificationBody(view), { position, replayed, etag: view.row.revision }), location };
  },
});

/** A URL may have commas in it, and then is the only value. */
const recipients = z
  .string()
  .transform((value) => (/^https?:/i.test(value) ? [value] : value.split(",").map((one) => one.trim())))
  .pipe(z.array(text(1, 2_048)).max(100));

const NotificationQuery = input({
  ...paging,
  ...created,
  status: commaSeparated(NotificationStatusSchema).optional(),
  type: commaSeparated(ChannelSchema).optional(),
  recipient: recipients.optional().meta({ type: "string", description: "User ids, mail addresses, or a URL" }),
  room_id: commaSeparated(text(1, 128)).optional(),
  ids: commaSeparated(text(1, 128)).optional(),
});

const listNotifications = route({
  method: "GET",
  path: "/notifications",
  summary: "Lists notifications, newest first.",
  tag: "notifications",
  access: read,
  query: NotificationQuery,
  responses: { 200: listBody(NotificationSummary) },
  problems: [],
  handle: async (handling) => {
    const { services, caller, read, query } = handling;
    const { status, type, recipient, room_id, ids, limit, cursor, from, to } = query;
    const people = recipient?.map((one) => subjectsNamed(services, caller.client, one));
    const page = await queryNotifications(read, {
      limit,
      ...omitUndefined({
        ...{ cursor, from, to, statuses: status, channels: type },
        recipient: people === undefined ? undefined : [...new Set((await Promise.all(people)).flat())],
        // What is no id is nobody's.
        roomIds: room_id as RoomId[] | undefined,
        ids: ids as NotificationId[] | undefined,
      }),
    });
    return listReply(handling, page, notificationSummaryBody);
  },
});

const getNotification = route({
  method: "GET",
  path: "/notifications/:notification_id",
  summary: "Reads a notification with its deliveries and every attempt.",
  tag: "notifications",
  access: read,
  params,
  responses: { 200: NotificationResource },
  problems: ["not_found"],
  handle: async ({ services, read, params }) => {
    const row = await notificationById(read, params.notification_id);
    if (row === undefined) throw new DomainError("not_found");
    return ok(notificationBody(await viewNow(services, read, row)), { etag: row.revision });
  },
});

const getTimeline = route({
  method: "GET",
  path: "/notifications/:notification_id/timeline",
  summary: "Lists every event of a notification and its deliveries, oldest first.",
  tag: "notifications",
  access: read,
  params,
  query: input(paging),
  responses: { 200: listBody(AuditEventResource) },
  problems: ["not_found"],
  handle: async (handling) => {
    const { services, read, params, query } = handling;
    if ((await notificationById(read, params.notification_id)) === undefined) throw new DomainError("not_found");
    const { limit, cursor } = query;
    const { rows, next } = await timelinePage(read, params.notification_id, { limit, ...omitUndefined({ cursor }) });
    const events = await shownEvents(services, read, await eventsAt(services, rows));
    return listReply(handling, { rows: events, next }, (one) => one);
  },
});

export const notificationRoutes: readonly Route[] = [
  createNotification,
  listNotifications,
  getNotification,
  getTimeline,
  ...notificationChangeRoutes,
];
