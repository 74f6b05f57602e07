// Notifications: what was asked for, and how many of the deliveries are in which status.

import type { ClientId, DeliveryId, NotificationId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject, JsonValue } from "../../contract/json.ts";
import type { Channel, NotificationStatus, Priority } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import type { DeliveryEvent } from "../../domain/delivery-events.ts";
import { reveal } from "../../domain/event.ts";
import type { Fallback, NotificationContent, Recipient } from "../../domain/notification.ts";
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
import { deliveryOf, notificationOf } from "../stream-ids.ts";
import { type DeliveryCounts, notificationStatus, openCount } from "./notification-status.ts";

/** How many recipients a notification's row shows. */
export const SHOWN_RECIPIENTS = 100;

/** `address` and `name` are null when erased. */
export type ShownRecipient = { subject: Subject; address: string | null; name: string | null };
type ShownFallback = {
  /** Null: to the user's address at that time. */
  to: { subject: Subject; address: string | null } | null;
  subject: string | null;
  content: string | null;
  afterMs: number;
};

const columns = {
  id: text<NotificationId>(),
  client: text<ClientId>(),
  channel: text<Channel>(),
  subject: text({ nullable: true }),
  content: json({ nullable: true }),
  text: text({ nullable: true }),
  meta: json<JsonObject>(),
  room_id: text<RoomId>({ nullable: true }),
  priority: text<Priority>(),
  /** The first SHOWN_RECIPIENTS. */
  recipients: json<ShownRecipient[]>(),
  /** Deliveries that will be made, fallbacks apart. */
  recipients_total: integer(),
  audience: json<{ roomId: RoomId; atSeq: number; count: number }>({ nullable: true }),
  fallback: json<ShownFallback>({ nullable: true }),
  send_at: bigint({ nullable: true }),
  expires_at: bigint(),
  state: text<"scheduled" | "released" | "cancelled">(),
  stop_requested: boolean(),
  routed: boolean(),
  counts: json<DeliveryCounts & JsonObject>(),
  attempts_started: boolean(),
  /** Of each mail that a fallback asked for, whether it is made. */
  mails: json<{ [mail: string]: boolean }>(),
  mails_due: boolean(),
  /** Pending, sending and retrying deliveries. */
  open: integer(),
  status: text<NotificationStatus>(),
  revision: integer(),
  created_at: bigint(),
  updated_at: bigint(),
  position: text<Position>(),
};
export type NotificationRow = RowOf<typeof columns>;
type Body = Omit<NotificationRow, "id">;

export const notifications = projection({
  name: "notifications",
  version: 1,
  key: ["id"],
  columns,
  indexes: [
    "(client, position)",
    "(client, status, position)",
    "(client, created_at)",
    "(client, room_id, position) where room_id is not null",
    "(send_at, id) where state = 'scheduled'",
    "(position) where state = 'released' and not routed",
    "(position) where stop_requested and open > 0",
    "(position) where mails_due",
  ],
  personal: ["subject", "content", "text", "meta", "recipients", "fallback"],
  on: {
    NotificationRequested: (e) => {
      const { client, channel, roomId, recipients, audience, fallback } = e.data;
      const nothing = { stop_requested: false, routed: false, attempts_started: false, mails_due: false } as const;
      return [
        put([notificationOf(e.stream)], {
          ...{ client, channel, audience },
          ...contentOf(e.data),
          room_id: roomId,
          recipients: recipients.slice(0, SHOWN_RECIPIENTS).map(shown),
          recipients_total: audience?.count ?? recipients.length,
          fallback: fallback === null ? null : shownFallback(fallback),
          state: "scheduled",
          ...nothing,
          ...{ counts: {}, mails: {}, open: 0, status: "scheduled" },
          revision: e.revision,
          created_at: e.meta.at,
          updated_at: e.meta.at,
          position: e.position,
        }),
      ];
    },
    NotificationEdited: (e) => [decided(e, () => contentOf(e.data))],
    NotificationReleased: (e) => [decided(e, () => ({ state: "released" }))],
    NotificationCancelled: (e) => [decided(e, () => ({ state: "cancelled" }))],
    NotificationStopRequested: (e) => [decided(e, () => ({ stop_requested: true }))],
    NotificationRouted: (e) => [decided(e, () => ({ routed: true }))],
    DeliveryRequested: (e) => [
      counted(e, (row) => (e.data.fallbackOf === null ? {} : mail(row, deliveryOf(e.stream), true))),
    ],
    DeliveryAttemptStarted: (e) => [counted(e, () => ({ attempts_started: true }))],
    DeliverySucceeded: (e) => [counted(e)],
    DeliveryAttemptFailed: (e) => [counted(e)],
    DeliveryRetryScheduled: (e) => [counted(e)],
    DeliveryExhausted: (e) => [counted(e)],
    DeliveryAcknowledged: (e) => [counted(e, () => (e.data.to === "delivered" ? { attempts_started: true } : {}))],
    DeliveryFallbackRequested: (e) => [counted(e, (row) => mail(row, e.data.mail, false))],
    DeliveryCancelRequested: (e) => [counted(e)],
    DeliveryCancelled: (e) => [counted(e)],
    DeliveryExpired: (e) => [counted(e)],
    // What starts again may have been given more time.
    DeliveryRedriven: (e) => [counted(e, (row) => ({ expires_at: Math.max(row.expires_at, e.data.expiresAt) }))],
  },
});

const contentOf = (data: NotificationContent) => ({
  subject: reveal(data.subject),
  content: reveal<JsonValue>(data.content),
  text: reveal(data.text),
  meta: reveal(data.meta) ?? {},
  priority: data.priority,
  send_at: data.sendAt,
  expires_at: data.expiresAt,
});

const shown = ({ subject, address, name }: Recipient): ShownRecipient => ({
  subject,
  address: reveal(address),
  name: reveal(name),
});

const shownFallback = ({ to, subject, content, afterMs }: Fallback): ShownFallback => ({
  to: to === null ? null : { subject: to.subject, address: reveal(to.address) },
  subject: reveal(subject),
  content: reveal(content),
  afterMs,
});

/** A row with what follows from its other columns. */
const settle = (row: NotificationRow): NotificationRow => ({
  ...row,
  open: openCount(row.counts),
  status: notificationStatus(row),
});

/** An event of the notification's own stream. */
const decided = (e: EventFacts, changed: () => Partial<Body>): RowChange<NotificationRow, Body> =>
  change([notificationOf(e.stream)], (row) =>
    settle({ ...row, ...changed(), revision: e.revision, updated_at: later(row, e.meta.at) }),
  );

/** An event of one of its deliveries. What is done here commutes with what other deliveries' events do. */
function counted(
  e: Omit<EventFacts, "type"> & DeliveryEvent,
  changed: (row: NotificationRow) => Partial<Body> = () => ({}),
): RowChange<NotificationRow, Body> {
  const { notification, from, to } = e.data;
  return change([notification], (row) => {
    const counts = { ...row.counts };
    if (from !== null) counts[from] = (counts[from] ?? 0) - 1;
    counts[to] = (counts[to] ?? 0) + 1;
    if (from !== null && counts[from] === 0) delete counts[from];
    return settle({ ...row, ...changed(row), counts, updated_at: later(row, e.meta.at) });
  });
}

const later = (row: NotificationRow, at: Instant): Instant => Math.max(row.updated_at, at);

/** Several deliveries may fall back to one mail, before and after it is made. */
function mail(row: NotificationRow, id: DeliveryId, made: boolean): Pick<Body, "mails" | "mails_due"> {
  const mails = { ...row.mails, [id]: made || row.mails[id] === true };
  return { mails, mails_due: Object.values(mails).includes(false) };
}
