// Deliveries: one recipient on one channel, where it stands and when it is due next.

import type { ClientId, DeliveryId, NotificationId, Subject } from "../../contract/ids.ts";
import type { Channel, DeliveryError, DeliveryStatus, Priority } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import type { DeliveryRequest } from "../../domain/delivery-events.ts";
import { reveal } from "../../domain/event.ts";
import type { Position } from "../../event-store/event-store.ts";
import {
  bigint,
  boolean,
  change,
  type EventFacts,
  integer,
  json,
  projection,
  put,
  type RowChange,
  type RowOf,
  text,
} from "../projection.ts";
import { deliveryOf } from "../stream-ids.ts";

const columns = {
  id: text<DeliveryId>(),
  client: text<ClientId>(),
  notification_id: text<NotificationId>(),
  channel: text<Channel>(),
  subject: text<Subject>(),
  address: text({ nullable: true }),
  name: text({ nullable: true }),
  status: text<DeliveryStatus>(),
  fallback_of: text<DeliveryId>({ nullable: true }),
  priority: text<Priority>(),
  bulk: boolean(),
  /** The attempt that is open, due next, or was the last. */
  n: integer(),
  /** Attempts started. */
  attempt_count: integer(),
  /** Asked to stop while an attempt is open. */
  cancel_requested: boolean(),
  /** When somebody has to see to it: an attempt, a lease's end, a fallback, the expiry; null when it has ended. */
  next_action_at: bigint({ nullable: true }),
  next_attempt_at: bigint({ nullable: true }),
  lease_until: bigint({ nullable: true }),
  sent_at: bigint({ nullable: true }),
  delivered_at: bigint({ nullable: true }),
  read_at: bigint({ nullable: true }),
  provider: text({ nullable: true }),
  provider_message_id: text({ nullable: true }),
  error: json<DeliveryError>({ nullable: true }),
  /** The mail that it fell back to. */
  mail: text<DeliveryId>({ nullable: true }),
  mail_recipient: text<Subject>({ nullable: true }),
  mail_address: text({ nullable: true }),
  mail_name: text({ nullable: true }),
  /** Whether it is offered to the user on connect, until it expires. */
  offered: boolean(),
  expires_at: bigint(),
  fallback_at: bigint({ nullable: true }),
  requested_at: bigint(),
  updated_at: bigint(),
  position: text<Position>(),
};
export type DeliveryRow = RowOf<typeof columns>;
type Body = Omit<DeliveryRow, "id">;

export const deliveries = projection({
  name: "deliveries",
  version: 1,
  key: ["id"],
  columns,
  indexes: [
    "(notification_id, position)",
    "(next_action_at, id) where next_action_at is not null",
    "(client, subject, expires_at) where offered",
    "(notification_id) where status = 'fell_back'",
  ],
  personal: ["address", "name", "error", "mail_address", "mail_name"],
  on: {
    DeliveryRequested: (e) =>
      e.meta.client === null ? [] : [put([deliveryOf(e.stream)], requested(e.data, e.meta.client, e))],
    DeliveryAttemptStarted: (e) => [
      moved(e, (row) => ({
        ...{ n: e.data.n, provider: e.data.provider, lease_until: e.data.leaseUntil },
        attempt_count: row.attempt_count + 1,
        next_attempt_at: null,
        next_action_at: e.data.leaseUntil,
      })),
    ],
    DeliverySucceeded: (e) => [
      moved(e, () => ({
        ...ENDED,
        provider: e.data.provider,
        provider_message_id: e.data.providerMessageId,
        sent_at: e.meta.at,
        delivered_at: e.data.to === "delivered" ? e.meta.at : null,
        error: null,
      })),
    ],
    DeliveryAttemptFailed: (e) => [
      moved(e, () => ({ provider: e.data.provider, error: reveal(e.data.error), lease_until: null })),
    ],
    DeliveryRetryScheduled: (e) => [
      moved(e, () => ({ n: e.data.n, next_attempt_at: e.data.at, next_action_at: e.data.at })),
    ],
    DeliveryExhausted: (e) => [moved(e, (row) => ({ ...ENDED, error: row.error ?? faultOf(e.data.reason) }))],
    DeliveryAcknowledged: (e) => [
      moved(e, (row) => ({
        ...ENDED,
        read_at: e.meta.at,
        delivered_at: e.data.to === "delivered" ? e.meta.at : row.delivered_at,
      })),
    ],
    DeliveryFallbackRequested: (e) => [
      moved(e, () => ({
        ...ENDED,
        offered: true,
        mail: e.data.mail,
        mail_recipient: e.data.mailRecipient,
        mail_address: reveal(e.data.address),
        mail_name: reveal(e.data.name),
      })),
    ],
    DeliveryCancelRequested: (e) => [moved(e, () => ({ cancel_requested: true }))],
    DeliveryCancelled: (e) => [moved(e, () => ENDED)],
    DeliveryExpired: (e) => [moved(e, () => ENDED)],
    DeliveryRedriven: (e) => [
      moved(e, (row) => ({
        ...due(row.channel, e.meta.at, e.data),
        // Numbers count on: the next attempt is another one when this one was made.
        n: row.attempt_count > 0 ? row.attempt_count + 1 : row.n,
        error: null,
        cancel_requested: false,
        expires_at: e.data.expiresAt,
        fallback_at: e.data.fallbackAt,
        requested_at: e.meta.at,
      })),
    ],
  },
});

/** Nothing more happens by itself. */
const ENDED = { next_action_at: null, next_attempt_at: null, lease_until: null, offered: false } as const;

function requested(data: DeliveryRequest, client: ClientId, e: EventFacts): Body {
  return {
    client,
    notification_id: data.notification,
    subject: data.recipient,
    ...{ channel: data.channel, priority: data.priority, bulk: data.bulk, status: data.to },
    address: reveal(data.address),
    name: reveal(data.name),
    fallback_of: data.fallbackOf,
    ...{ n: 1, attempt_count: 0, cancel_requested: false, lease_until: null },
    ...{ sent_at: null, delivered_at: null, read_at: null, provider: null, provider_message_id: null, error: null },
    ...{ mail: null, mail_recipient: null, mail_address: null, mail_name: null },
    ...due(data.channel, e.meta.at, data),
    expires_at: data.expiresAt,
    fallback_at: data.fallbackAt,
    requested_at: e.meta.at,
    updated_at: e.meta.at,
    position: e.position,
  };
}

/** What is due first for one that has just begun: there are no attempts on a WebSocket. */
function due(
  channel: Channel,
  at: Instant,
  { expiresAt, fallbackAt }: Pick<DeliveryRequest, "expiresAt" | "fallbackAt">,
) {
  if (channel !== "websocket") return { next_attempt_at: at, next_action_at: at, offered: false };
  return { next_attempt_at: null, next_action_at: Math.min(expiresAt, fallbackAt ?? expiresAt), offered: true };
}

const FAULTS: Readonly<Record<string, string>> = {
  no_address: "there is no address to send to",
  attempts_exhausted: "no attempt succeeded",
};
const faultOf = (code: string): DeliveryError => ({ code, message: FAULTS[code] ?? "it was given up" });

/** Any event after the first; the status is always the one that it ends in. */
const moved = (
  e: EventFacts & { data: { to: DeliveryStatus } },
  changed: (row: DeliveryRow) => Partial<Body>,
): RowChange<DeliveryRow, Body> =>
  change([deliveryOf(e.stream)], (row) => ({ ...row, ...changed(row), status: e.data.to, updated_at: e.meta.at }));
