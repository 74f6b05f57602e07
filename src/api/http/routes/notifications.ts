// Notifications, and deliveries as the people whom they are for see them.
import { notificationTimeline } from "../../../app/audit.ts";
import { createNotification, timeFaults } from "../../../app/create-notification.ts";
import { AppError } from "../../../app/errors.ts";
import {
  acknowledgeDelivery,
  cancelNotification,
  editNotification,
  getNotification,
  listNotifications,
  retryNotification,
} from "../../../app/notifications.ts";
import {
  ChangedNotificationParams,
  DeliveryParams,
  NewNotification,
  NotificationParams,
  NotificationPatch,
  NotificationQuery,
  PageQuery,
  Retry,
} from "../../../contract/requests.ts";
import {
  AuditEventResource,
  DeliveryResource,
  listBody,
  NotificationResource,
  NotificationSummary,
} from "../../../contract/resources.ts";
import { accepted, listReply, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

const tag = "notifications";
const readAccess = { kind: "key", scope: "notifications:read" } as const;
const writeAccess = { kind: "key", scope: "notifications:write" } as const;

const create = route({
  method: "POST",
  path: "/notifications",
  summary: "Send a notification by email, WebSocket or webhook",
  tag,
  access: writeAccess,
  body: NewNotification,
  furtherFaults: (_caller, body, at) => timeFaults(body, at),
  responses: { 202: NotificationResource },
  problems: ["ambiguous_recipients", "no_recipients", "email_provider_not_configured"],
  handle: async (call) => {
    const { notification, ...about } = await createNotification(call, call.body);
    return accepted(notification, { ...about, location: `/api/v1/notifications/${notification.id}` });
  },
});

const list = route({
  method: "GET",
  path: "/notifications",
  summary: "List notifications, newest first",
  tag,
  access: readAccess,
  query: NotificationQuery,
  responses: { 200: listBody(NotificationSummary) },
  problems: [],
  handle: async (call) => listReply(call, await listNotifications(call, call.query)),
});

const get = route({
  method: "GET",
  path: "/notifications/:notification_id",
  summary: "Read a notification with its deliveries and every attempt",
  tag,
  access: readAccess,
  params: NotificationParams,
  responses: { 200: NotificationResource },
  problems: ["not_found"],
  handle: async (call) => {
    const { notification, etag } = await getNotification(call, call.params.notification_id);
    return ok(notification, { etag });
  },
});

const timeline = route({
  method: "GET",
  path: "/notifications/:notification_id/timeline",
  summary: "List every event of a notification and its deliveries, oldest first",
  tag,
  access: readAccess,
  params: NotificationParams,
  query: PageQuery,
  responses: { 200: listBody(AuditEventResource) },
  problems: ["not_found"],
  handle: async (call) => listReply(call, await notificationTimeline(call, call.params.notification_id, call.query)),
});

const changing = {
  tag,
  access: writeAccess,
  params: ChangedNotificationParams,
  responses: { 200: NotificationResource },
} as const;

const cancel = route({
  ...changing,
  method: "POST",
  path: "/notifications/:notification_id/cancel",
  summary: "Stop every delivery that is not sent yet, and its fallbacks",
  problems: ["not_found", "not_cancellable", "precondition_failed", "read_model_behind"],
  conditional: true,
  handle: async (call) => {
    const { notification, ...about } = await cancelNotification(call, call.params.notification_id, call.ifMatch);
    return ok(notification, about);
  },
});

const patch = route({
  ...changing,
  method: "PATCH",
  path: "/notifications/:notification_id",
  summary: "Change a notification that is still scheduled",
  body: NotificationPatch,
  problems: ["not_found", "not_editable", "precondition_failed", "read_model_behind"],
  conditional: true,
  handle: async (call) => {
    const { body, ifMatch, params } = call;
    const { notification, ...about } = await editNotification(call, params.notification_id, body, ifMatch);
    return ok(notification, about);
  },
});

const retry = route({
  ...changing,
  method: "POST",
  path: "/notifications/:notification_id/retry",
  summary: "Start deliveries again that are exhausted, bounced or expired",
  body: Retry,
  problems: ["not_found", "nothing_to_retry", "read_model_behind"],
  handle: async (call) => {
    const { body, params } = call;
    const { notification, ...about } = await retryNotification(call, params.notification_id, body.delivery_ids);
    return ok(notification, about);
  },
});

const acknowledge = route({
  method: "POST",
  path: "/deliveries/:delivery_id/ack",
  summary: "Acknowledge a WebSocket delivery, for users without a socket",
  tag,
  access: { kind: "keyOrUser", scope: null },
  params: DeliveryParams,
  responses: { 200: DeliveryResource },
  problems: ["forbidden", "not_found"],
  handle: async (call) => {
    const { caller, params } = call;
    if (caller.kind !== "user") {
      throw new AppError("forbidden", { detail: "Only the user whom a delivery is for acknowledges it." });
    }
    const { delivery, ...about } = await acknowledgeDelivery(call, params.delivery_id, caller.subject);
    return ok(delivery, about);
  },
});

export const notificationRoutes: readonly Route[] = [create, list, get, timeline, cancel, patch, retry, acknowledge];
