// Changing notifications: cancelling, editing while scheduled, starting failed deliveries again.
import { z } from "zod";
import { notificationBody } from "../../../app/bodies/notification.ts";
import { type Changed, cancel, edit } from "../../../app/notifications/change.ts";
import { NotificationPatch } from "../../../app/notifications/input.ts";
import { retry } from "../../../app/notifications/retry.ts";
import { input, orNull, text } from "../../../contract/fields.ts";
import { NotificationResource } from "../../../contract/resources.ts";
import { ok } from "../reply.ts";
import { type Reply, type Route, route } from "../route.ts";

const access = { kind: "key", scope: "notifications:write" } as const;
const params = z.object({ notification_id: z.string() });

/** Deliveries that one request may name. */
const MAX_NAMED = 1_000;

const answer = ({ view, position, replayed }: Changed): Reply =>
  ok(notificationBody(view), { position, replayed, etag: view.row.revision });

const cancelNotification = route({
  method: "POST",
  path: "/notifications/:notification_id/cancel",
  summary: "Stops every delivery that is not sent yet, and its fallbacks.",
  tag: "notifications",
  access,
  params,
  responses: { 200: NotificationResource },
  problems: ["not_found", "not_cancellable", "precondition_failed", "read_model_behind"],
  conditional: true,
  handle: async ({ params, ifMatch, ...change }) => answer(await cancel(change, params.notification_id, ifMatch)),
});

const editNotification = route({
  method: "PATCH",
  path: "/notifications/:notification_id",
  summary: "Changes a notification that is still scheduled.",
  tag: "notifications",
  access,
  params,
  body: NotificationPatch,
  responses: { 200: NotificationResource },
  problems: ["not_found", "not_editable", "precondition_failed", "read_model_behind"],
  conditional: true,
  handle: async ({ params, body, ifMatch, ...change }) =>
    answer(await edit(change, params.notification_id, body, ifMatch)),
});

const Retry = input({ delivery_ids: orNull(z.array(text(1, 128)).min(1).max(MAX_NAMED)) });

const retryNotification = route({
  method: "POST",
  path: "/notifications/:notification_id/retry",
  summary: "Starts deliveries again that are exhausted, bounced or expired.",
  tag: "notifications",
  access,
  params,
  body: Retry,
  responses: { 200: NotificationResource },
  problems: ["not_found", "nothing_to_retry", "read_model_behind"],
  handle: async ({ params, body, ...change }) => answer(await retry(change, params.notification_id, body.delivery_ids)),
});

export const notificationChangeRoutes: readonly Route[] = [cancelNotification, editNotification, retryNotification];
