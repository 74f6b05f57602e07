// A delivery with its attempts, as answers show it: from its row, or before it is made.
import { z } from "zod";
import { time } from "../../contract/fields.ts";
import type { DeliveryId, NotificationId } from "../../contract/ids.ts";
import { rfc3339, rfc3339OrNull } from "../../contract/time.ts";
import { DeliveryStatusSchema } from "../../domain/delivery-events.ts";
import { type Channel, ChannelSchema } from "../../domain/notification.ts";
import type { AttemptRow } from "../../projections/models/attempts.ts";
import type { DeliveryRow } from "../../projections/models/deliveries.ts";

const FaultBody = z.object({ code: z.string(), message: z.string() });

const AttemptBody = z
  .object({
    number: z.int().describe("From 1; starting again counts on"),
    started_at: time,
    ended_at: time.nullable(),
    outcome: z
      .enum(["succeeded", "transient", "permanent", "unknown"])
      .nullable()
      .describe("null while it is under way; unknown when its worker was lost"),
    provider: z.string().nullable(),
    response: z
      .object({ status: z.int().nullable(), body: z.string() })
      .nullable()
      .describe("What the target answered, the first KiB of it"),
    error: FaultBody.nullable(),
    next_attempt_at: time.nullable(),
  })
  .meta({ id: "Attempt" });

export const DeliveryBody = z
  .object({
    id: z.string(),
    notification_id: z.string(),
    channel: ChannelSchema,
    recipient: z
      .string()
      .nullable()
      .describe("A mail address, user id or URL; null when there is none or it was erased"),
    status: DeliveryStatusSchema,
    fallback_of: z.string().nullable().describe("The WebSocket delivery that this mail stands in for"),
    attempt_count: z.int(),
    next_attempt_at: time.nullable(),
    sent_at: time.nullable(),
    delivered_at: time.nullable(),
    read_at: time.nullable(),
    provider: z.string().nullable(),
    provider_message_id: z.string().nullable(),
    error: FaultBody.nullable(),
    attempts: z.array(AttemptBody),
  })
  .meta({ id: "Delivery" });
export type DeliveryBody = z.infer<typeof DeliveryBody>;

const attemptBody = (row: AttemptRow): z.infer<typeof AttemptBody> => ({
  number: row.number,
  started_at: rfc3339(row.started_at),
  ended_at: rfc3339OrNull(row.ended_at),
  outcome: row.outcome,
  provider: row.provider,
  response: row.response,
  error: row.error,
  next_attempt_at: rfc3339OrNull(row.next_attempt_at),
});

/** One that was made, with its own attempts, in order. */
export const deliveryBody = (row: DeliveryRow, attempts: readonly AttemptRow[]): DeliveryBody => ({
  id: row.id,
  notification_id: row.notification_id,
  channel: row.channel,
  recipient: row.address,
  status: row.status,
  fallback_of: row.fallback_of,
  attempt_count: row.attempt_count,
  next_attempt_at: rfc3339OrNull(row.next_attempt_at),
  sent_at: rfc3339OrNull(row.sent_at),
  delivered_at: rfc3339OrNull(row.delivered_at),
  read_at: rfc3339OrNull(row.read_at),
  provider: row.provider,
  provider_message_id: row.provider_message_id,
  error: row.error,
  attempts: attempts.map(attemptBody),
});

type PlannedDelivery = {
  readonly id: DeliveryId;
  readonly notification: NotificationId;
  readonly channel: Channel;
  readonly recipient: string | null;
  /** Cancelled: it will never be made. */
  readonly status: "pending" | "cancelled";
};

/** One that is not made yet. */
export const plannedDeliveryBody = ({
  id,
  notification,
  channel,
  recipient,
  status,
}: PlannedDelivery): DeliveryBody => ({
  id,
  notification_id: notification,
  channel,
  recipient,
  status,
  fallback_of: null,
  attempt_count: 0,
  next_attempt_at: null,
  sent_at: null,
  delivered_at: null,
  read_at: null,
  provider: null,
  provider_message_id: null,
  error: null,
  attempts: [],
});
