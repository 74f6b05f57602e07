// A notification as answers show it: its row, and its deliveries, those that are still to be made among them.
import type { Subject } from "../../contract/ids.ts";
import { type NotificationResource, type NotificationSummary, SHOWN_DELIVERIES } from "../../contract/resources.ts";
import { rfc3339, rfc3339OrNull, SECOND_MS } from "../../contract/time.ts";
import { deliveryId } from "../../event-store/derived-ids.ts";
import type { AttemptRow, DeliveryRow } from "../../projections/models/deliveries.ts";
import { type DeliveryCounts, madeCount } from "../../projections/models/notification-status.ts";
import type { NotificationRow, ShownRecipient } from "../../projections/models/notifications.ts";
import { deliveryResource } from "../resources.ts";

const commonBody = (row: NotificationRow) => ({
  id: row.id,
  type: row.channel,
  status: row.status,
  room_id: row.room_id,
  subject: row.subject,
  content: row.content,
  meta: row.meta,
  priority: row.priority,
  category: null,
  email_fallback: fallbackBody(row.fallback),
  send_at: rfc3339OrNull(row.send_at),
  expires_at: rfc3339(row.expires_at),
  created_at: rfc3339(row.created_at),
  updated_at: rfc3339(row.updated_at),
});

const fallbackBody = (fallback: NotificationRow["fallback"]): NotificationResource["email_fallback"] =>
  fallback === null
    ? null
    : {
        enabled: true,
        to_email: fallback.to?.address ?? null,
        subject: fallback.subject,
        content: fallback.content,
        after_seconds: fallback.afterMs / SECOND_MS,
      };

/** How many deliveries were announced and are not made, and what becomes of them. */
export function unmade(row: NotificationRow): { readonly count: number; readonly status: "pending" | "cancelled" } {
  const stopped = row.state === "cancelled" || row.stop_requested;
  const status = stopped ? "cancelled" : "pending";
  if (row.routed && !stopped) return { count: 0, status };
  const mails = Object.values(row.mails).filter((made) => made).length;
  return { count: Math.max(0, row.recipients_total - (madeCount(row.counts) - mails)), status };
}

/** A row of a list. */
export function notificationSummaryBody(row: NotificationRow): NotificationSummary {
  const { count, status } = unmade(row);
  const counts: DeliveryCounts = { ...row.counts };
  if (count > 0) counts[status] = (counts[status] ?? 0) + count;
  return { ...commonBody(row), delivery_counts: counts, deliveries_total: madeCount(counts) };
}

/** What an answer about one notification is made of. */
export type NotificationView = {
  readonly row: NotificationRow;
  /** The first that were made. */
  readonly made: readonly DeliveryRow[];
  /** Their attempts, each delivery's in order. */
  readonly attempts: readonly AttemptRow[];
  /** The first whom it is for; those without a delivery are shown as to be made. None when all were made. */
  readonly planned: readonly ShownRecipient[];
};

export function notificationBody({ row, made, attempts, planned }: NotificationView): NotificationResource {
  const { count, status } = unmade(row);
  const places = new Map(planned.map(({ subject }, index) => [subject, index]));
  // A room's members go by subject, as they are expanded; others as they were named.
  const placeOf = (subject: Subject) => (row.audience === null ? places.get(subject) : subject) ?? null;
  const known = new Set(made.map((one) => one.id));
  const announced = planned.flatMap(({ subject, address }) => {
    const id = deliveryId(row.id, subject, row.channel);
    if (known.has(id)) return [];
    const body = deliveryResource({ id, notification_id: row.id, channel: row.channel, address, status }, []);
    return [{ body, place: placeOf(subject) }];
  });
  const attemptsOf = Map.groupBy(attempts, (attempt) => attempt.delivery_id);
  const there = made.map((one) => {
    const body = deliveryResource(one, attemptsOf.get(one.id) ?? []);
    // Mails of fallbacks have no place of their own: they come last, as they were made.
    return { body, place: one.fallback_of === null ? placeOf(one.subject) : null };
  });
  const sorted = [...there, ...announced.slice(0, count)].toSorted((a, b) => comparePlaces(a.place, b.place));
  return {
    ...commonBody(row),
    deliveries: sorted.slice(0, SHOWN_DELIVERIES).map(({ body }) => body),
    deliveries_total: madeCount(row.counts) + count,
  };
}

function comparePlaces(a: string | number | null, b: string | number | null): number {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return a < b ? -1 : 1;
}
