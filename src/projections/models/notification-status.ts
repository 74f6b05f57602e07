// What is said of a notification as a whole: the first rule that holds.
import type { DeliveryStatus } from "../../contract/deliveries.ts";
import type { NotificationStatus } from "../../contract/notifications.ts";

/** How many deliveries are in each status; none are left out. */
export type DeliveryCounts = { [S in DeliveryStatus]?: number };

/** What the status rests on. */
export type NotificationProgress = {
  readonly state: "scheduled" | "released" | "cancelled";
  /** After its release: mails of fallbacks are made no more, and deliveries only until the router has seen it. */
  readonly stop_requested: boolean;
  /** All deliveries are made that will be, fallbacks apart; after a stop those that were made before it was seen. */
  readonly routed: boolean;
  readonly counts: DeliveryCounts;
  /** Whether any attempt was started, or, where there are none, anyone acknowledged. */
  readonly attempts_started: boolean;
  /** Whether a fallback's mail is asked for and not made yet. */
  readonly mails_due: boolean;
};

/** Deliveries of which something more will come by itself. */
export const openCount = ({ pending = 0, sending = 0, retrying = 0 }: DeliveryCounts): number =>
  pending + sending + retrying;

/** All deliveries that were made. */
export const madeCount = (counts: DeliveryCounts): number =>
  Object.values(counts).reduce<number>((sum, count) => sum + (count ?? 0), 0);

export function notificationStatus(row: NotificationProgress): NotificationStatus {
  if (row.state === "cancelled") return "cancelled";
  if (row.state === "scheduled") return "scheduled";
  const { counts } = row;
  const notAllMade = !row.routed || (row.mails_due && !row.stop_requested);
  if (notAllMade || openCount(counts) > 0) return row.attempts_started ? "processing" : "pending";
  const { fell_back = 0, delivered = 0, sent = 0, cancelled = 0, suppressed = 0, expired = 0 } = counts;
  const counted = madeCount(counts) - fell_back;
  if (counted === 0) return row.stop_requested ? "cancelled" : "failed";
  if (delivered === counted) return "delivered";
  if (delivered + sent === counted) return "sent";
  if (delivered + sent > 0) return "partial";
  if (cancelled === counted) return "cancelled";
  if (suppressed === counted) return "suppressed";
  if (expired === counted) return "expired";
  return "failed";
}
