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
import { created, listReply, route, routesOf, shown } from "../route.ts";

const readAccess = { kind: "key", scope: "notifications:read" } as const;
const writeAccess = { kind: "key", scope: "notifications:write" } as const;

const changing = {
  access: writeAccess,
  params: ChangedNotificationParams,
  responses: { 200: NotificationResource },
} as const;

export const notificationRoutes = routesOf("notifications", {
  createNotification: route("POST", "/notifications", {
    summary: "Send a notification by email, WebSocket or webhook",
    access: writeAccess,
    body: NewNotification,
    furtherFaults: (_caller, body, at) => timeFaults(body, at),
    responses: { 202: NotificationResource },
    problems: ["ambiguous_recipients", "no_recipients", "email_provider_not_configured"],
    handle: async (call) => {
      const accepted = await createNotification(call, call.body);
      return { ...created(accepted, "notification", `/notifications/${accepted.notification.id}`), status: 202 };
    },
  }),
  listNotifications: route("GET", "/notifications", {
    summary: "List notifications, newest first",
    access: readAccess,
    query: NotificationQuery,
    responses: { 200: listBody(NotificationSummary) },
    handle: async (call) => listReply(call, await listNotifications(call, call.query)),
  }),
  getNotification: route("GET", "/notifications/:notification_id", {
    summary: "Read a notification with its deliveries and every attempt",
    access: readAccess,
    params: NotificationParams,
    responses: { 200: NotificationResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getNotification(call, call.params.notification_id), "notification"),
  }),
  getNotificationTimeline: route("GET", "/notifications/:notification_id/timeline", {
    summary: "List every event of a notification and its deliveries, oldest first",
    access: readAccess,
    params: NotificationParams,
    query: PageQuery,
    responses: { 200: listBody(AuditEventResource) },
    problems: ["not_found"],
    handle: async (call) => listReply(call, await notificationTimeline(call, call.params.notification_id, call.query)),
  }),
  cancelNotification: route("POST", "/notifications/:notification_id/cancel", {
    ...changing,
    summary: "Stop every delivery that is not sent yet, and its fallbacks",
    problems: ["not_found", "not_cancellable", "precondition_failed", "read_model_behind"],
    conditional: true,
    handle: async (call) =>
      shown(await cancelNotification(call, call.params.notification_id, call.ifMatch), "notification"),
  }),
  editNotification: route("PATCH", "/notifications/:notification_id", {
    ...changing,
    summary: "Change a notification that is still scheduled",
    body: NotificationPatch,
    problems: ["not_found", "not_editable", "precondition_failed", "read_model_behind"],
    conditional: true,
    handle: async (call) => {
      const { body, ifMatch, params } = call;
      return shown(await editNotification(call, params.notification_id, body, ifMatch), "notification");
    },
  }),
  retryNotification: route("POST", "/notifications/:notification_id/retry", {
    ...changing,
    summary: "Start deliveries again that are exhausted, bounced or expired",
    body: Retry,
    problems: ["not_found", "nothing_to_retry", "read_model_behind"],
    handle: async (call) =>
      shown(await retryNotification(call, call.params.notification_id, call.body.delivery_ids), "notification"),
  }),
  acknowledgeDelivery: route("POST", "/deliveries/:delivery_id/ack", {
    summary: "Acknowledge a WebSocket delivery, for users without a socket",
    access: { kind: "keyOrUser", scope: null },
    params: DeliveryParams,
    responses: { 200: DeliveryResource },
    problems: ["forbidden", "not_found"],
    handle: async (call) => {
      const { caller, params } = call;
      if (caller.kind !== "user") {
        throw new AppError("forbidden", { detail: "Only the user whom a delivery is for acknowledges it." });
      }
      return shown(await acknowledgeDelivery(call, params.delivery_id, caller.subject), "delivery");
    },
  }),
});
