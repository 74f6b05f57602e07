// Notifications: sending, finding, cancelling, editing and retrying them.

import { notificationTimeline } from "../../../app/audit.ts";
import { createNotification, furtherFaults } from "../../../app/create-notification.ts";
import {
  cancelNotification,
  deleteNotification,
  editNotification,
  getNotification,
  listNotifications,
  retryNotification,
} from "../../../app/notifications.ts";
import { AuditEventResource } from "../../../contract/audit.ts";
import { listBody, PageQuery } from "../../../contract/fields.ts";
import { canonicalJson } from "../../../contract/json.ts";
import {
  BatchResult,
  ChangedNotificationParams,
  MAX_BODY_WITH_ATTACHMENTS_BYTES,
  NewNotification,
  NotificationBatch,
  NotificationParams,
  NotificationPatch,
  NotificationQuery,
  NotificationResource,
  NotificationSummary,
  Retry,
} from "../../../contract/notifications.ts";
import { deriveUuid } from "../../../event-store/derived-ids.ts";
import type { CommandContext } from "../../../event-store/envelope.ts";
import type { Position } from "../../../event-store/event-store.ts";
import { batchPerTick, mapBounded } from "../../../platform/bounded.ts";
import { faultsIn } from "../body.ts";
import { fingerprintOf } from "../idempotency.ts";
import {
  created,
  type Handling,
  listReply,
  noContent,
  type Reply,
  type Route,
  route,
  routesOf,
  shown,
} from "../route.ts";
import { checkBody } from "../validation.ts";

// A batch: several requests of one route in one, each checked, carried out and answered as if it came by itself.

/**
 * Items of one batch that are carried out at the same time: what they append is written together. (Measured: 250 at once
 * take a batch of 1,000 twice as long.)
 */
const ITEMS_AT_ONCE = 1_000;

type Answered = {
  readonly index: number;
  readonly status: number;
  readonly body: unknown;
  /** Of an item that had an effect. */
  readonly position?: Position | undefined;
  readonly replayed?: boolean | undefined;
};

/**
 * Answers each item as the route would. Under one idempotency key each has its own, which follows from its index: sent
 * again, those that had an effect are answered as before, and the others are carried out.
 */
async function answerEach(
  call: Omit<Handling<undefined, undefined, undefined>, "body">,
  route: Route,
  items: readonly unknown[],
): Promise<Reply> {
  const pepper = await call.services.keyring.pepper(call.caller.client);
  const answered = await mapBounded(items, ITEMS_AT_ONCE, async (item, index): Promise<Answered> => {
    await batchPerTick();
    try {
      const { status, body, position, replayed } = await route.handle({
        ...call,
        body: checkBody(route, item, call, faultsIn(item, canonicalJson(item))),
        context: contextOf(call, { value: item, index, pepper }),
      } as Handling<never, never, never>);
      return { index, status, body, position, replayed };
    } catch (error) {
      return { index, ...call.refusal(error) };
    }
  });
  const done = answered.filter((one) => one.position !== undefined);
  const data = answered.map(({ index, status, body }) => ({ index, status, body }));
  const position = done
    .flatMap((one) => one.position ?? [])
    .toSorted()
    .at(-1);
  const replayed = done.length > 0 && done.every((one) => one.replayed === true);
  return { status: 200, body: { data }, replayed, ...(position === undefined ? {} : { position }) };
}

type Item = { readonly value: unknown; readonly index: number; readonly pepper: Uint8Array };

/** The command of an item: part of the storage format, for a key must find it again. */
function contextOf(
  {
    context: { stages: _ofAll, ...context },
    services,
  }: Pick<Handling<undefined, undefined, undefined>, "context" | "services">,
  { value, index, pepper }: Item,
): CommandContext {
  if (context.fingerprint === undefined) {
    const commandId = services.newId();
    return { ...context, commandId, causation: commandId };
  }
  const commandId = deriveUuid("batch-item", context.commandId, /* fence: batch-keys */ index);
  return { ...context, commandId, causation: commandId, fingerprint: fingerprintOf(pepper, value) };
}

const readAccess = { kind: "key", scope: "notifications:read" } as const;
const writeAccess = { kind: "key", scope: "notifications:write" } as const;

const changing = {
  access: writeAccess,
  params: ChangedNotificationParams,
  responses: { 200: NotificationResource },
} as const;

const sending = route("POST", "/notifications", {
  summary: "Send a notification by email, WebSocket or webhook",
  description:
    "Accepted means that it is in the log and queued: what becomes of each delivery is in the notification, its timeline, and on webhooks. With `send_at` it is released later, and can be edited until then. 200 and nothing written: with `dry_run` it is what would be sent, and within the window of `dedupe` the first notification with its key.",
  access: writeAccess,
  body: NewNotification,
  maxBodyBytes: MAX_BODY_WITH_ATTACHMENTS_BYTES,
  largeField: "attachments",
  furtherFaults: (_caller, body, at) => furtherFaults(body, at),
  responses: { 200: NotificationResource, 202: NotificationResource },
  problems: ["ambiguous_recipients", "no_recipients", "email_provider_not_configured", "unavailable"],
  handle: async (call) => {
    const accepted = await createNotification(call, call.body);
    if (!accepted.made) return shown(accepted, "notification");
    return { ...created(accepted, "notification", `/notifications/${accepted.notification.id}`), status: 202 };
  },
});

/** Max bytes of a batch. */
const MAX_BATCH_BYTES = 10 * 1_024 * 1_024;

export const notificationRoutes = routesOf("notifications", {
  createNotification: sending,
  createNotifications: route("POST", "/notifications/batch", {
    summary: "Send up to 1,000 notifications in one request",
    description:
      "Each stands alone, and is answered by its index with the status and the body that a request of its own would have; paths of faults are those within it. One `Idempotency-Key` covers each by its index: sent again, those that were accepted are answered as before, and the others are tried.",
    access: writeAccess,
    body: NotificationBatch,
    itemsIn: "notifications",
    item: NewNotification,
    maxBodyBytes: MAX_BATCH_BYTES,
    responses: { 200: BatchResult },
    handle: (call) => answerEach(call, sending, call.body.notifications),
  }),
  listNotifications: route("GET", "/notifications", {
    summary: "List notifications",
    description: "Without their deliveries; `delivery_counts` says how many have which status.",
    access: readAccess,
    query: NotificationQuery,
    responses: { 200: listBody(NotificationSummary) },
    handle: async (call) => listReply(call, await listNotifications(call, call.query)),
  }),
  getNotification: route("GET", "/notifications/:notification_id", {
    summary: "Read a notification",
    description: "With its first 100 deliveries and every attempt of each.",
    access: readAccess,
    params: NotificationParams,
    responses: { 200: NotificationResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getNotification(call, call.params.notification_id), "notification"),
  }),
  getNotificationTimeline: route("GET", "/notifications/:notification_id/timeline", {
    summary: "List the events of a notification",
    description: "Every event of the notification and of its deliveries, oldest first, as the audit shows them.",
    access: readAccess,
    params: NotificationParams,
    query: PageQuery,
    responses: { 200: listBody(AuditEventResource) },
    problems: ["not_found"],
    handle: async (call) => listReply(call, await notificationTimeline(call, call.params.notification_id, call.query)),
  }),
  cancelNotification: route("POST", "/notifications/:notification_id/cancel", {
    ...changing,
    summary: "Cancel what is not sent yet",
    description: "Deliveries that were sent stay sent; an attempt that is under way finishes and counts.",
    problems: ["not_found", "not_cancellable", "precondition_failed", "read_model_behind"],
    conditional: true,
    handle: async (call) =>
      shown(await cancelNotification(call, call.params.notification_id, call.ifMatch), "notification"),
  }),
  deleteNotification: route("DELETE", "/notifications/:notification_id", {
    summary: "Delete a notification",
    description:
      "Cancels what is not sent yet, and erases content, meta and addresses, here and in the audit. Its id, statuses and times stay.",
    access: writeAccess,
    params: ChangedNotificationParams,
    responses: { 204: null },
    problems: ["not_found", "precondition_failed", "read_model_behind"],
    conditional: true,
    handle: async (call) => noContent(await deleteNotification(call, call.params.notification_id, call.ifMatch)),
  }),
  editNotification: route("PATCH", "/notifications/:notification_id", {
    ...changing,
    summary: "Edit a scheduled notification",
    description: "A JSON Merge Patch (RFC 7396), as long as the notification is scheduled.",
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
    summary: "Retry failed deliveries",
    description:
      "Of all deliveries that are exhausted, bounced or expired, or of those named. Attempts are counted on.",
    body: Retry,
    problems: ["not_found", "precondition_failed", "nothing_to_retry", "read_model_behind"],
    conditional: true,
    handle: async (call) => {
      const { params, body, ifMatch } = call;
      return shown(await retryNotification(call, params.notification_id, body.delivery_ids, ifMatch), "notification");
    },
  }),
});
