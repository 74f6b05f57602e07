// A notification as it was at a position of the log: the same answer to a request, however often and late it is asked again.

import type { DeliveryId, NotificationId } from "../../contract/ids.ts";
import { type Channel, type DeliveryStatus, SHOWN_DELIVERIES } from "../../contract/resources.ts";
import { type Instant, SECOND_MS } from "../../contract/time.ts";
import { deliveryStream } from "../../domain/delivery.ts";
import type { DeliveryEvent } from "../../domain/delivery-events.ts";
import { DomainError } from "../../domain/errors.ts";
import { notificationStream } from "../../domain/notification.ts";
import { decode, type StoredEvent } from "../../event-store/envelope.ts";
import type { Position } from "../../event-store/event-store.ts";
import { mapBounded } from "../../platform/bounded.ts";
import { foldRows } from "../../projections/fold.ts";
import { deliveriesAt, redrivesUpTo } from "../../projections/models/audit.ts";
import { attempts, deliveries } from "../../projections/models/deliveries.ts";
import { type DeliveryCounts, notificationStatus, openCount } from "../../projections/models/notification-status.ts";
import { type NotificationRow, notifications } from "../../projections/models/notifications.ts";
import type { Projection, RowOf } from "../../projections/projection.ts";
import type { ReadAs } from "../../projections/read-side.ts";
import { eventsAt } from "../audit-events.ts";
import type { NotificationView } from "../bodies/notification.ts";
import { AppError } from "../errors.ts";
import type { Services } from "../services.ts";
import { plannedFor } from "./view.ts";

/** How long an answer waits for the read model, which knows the deliveries of a notification. */
const READ_WAIT_MS = 5 * SECOND_MS;
const READS_AT_ONCE = 16;
const PAGE = 1_000;

type Parts = Pick<Services, "store" | "keyring" | "commands" | "readSide">;

/** Waits until the read model has what is in the log now, or the position. Throws AppError (read_model_behind). */
export async function reach(
  { readSide, store }: Pick<Parts, "readSide" | "store">,
  position?: Position,
): Promise<void> {
  const wanted = position ?? (await store.tail());
  if (!(await readSide.waitFor(wanted, READ_WAIT_MS))) throw new AppError("read_model_behind");
}

/** The rows that events of the projection's streams fold to. */
function rowsOf<P extends Projection>(projection: P, events: readonly StoredEvent[]): readonly RowOf<P["columns"]>[] {
  // Folding gives exactly the projection's columns; it checks that itself.
  return foldRows(projection, events) as unknown as readonly RowOf<P["columns"]>[];
}

/** The row that events of a notification's own stream fold to. */
export const foldedNotification = (events: readonly StoredEvent[]): NotificationRow | undefined =>
  rowsOf(notifications, events)[0];

/** A stream's events up to a position. */
async function eventsUpTo({ store, keyring }: Parts, stream: string, upTo: Position): Promise<readonly StoredEvent[]> {
  const events: StoredEvent[] = [];
  for (let from = 0; ; from += PAGE) {
    const page = await store.readStream(stream, { from, limit: PAGE });
    const earlier = page.filter((event) => event.position <= upTo);
    events.push(...(await decode(keyring, earlier)));
    if (page.length < PAGE || earlier.length < page.length) return events;
  }
}

/** What a delivery's events up to the position were, by type: enough to say where it stood. */
type History = {
  readonly id: DeliveryId;
  readonly channel: Channel;
  /** The mail that it fell back to, also when that was later. */
  readonly mail: DeliveryId | null;
  readonly types: readonly DeliveryEvent["type"][];
  readonly last_at: Instant;
};

/** Until when the deliveries that were started again up to the position go on; none: null. */
async function renewedUntil(parts: Parts, read: ReadAs, id: NotificationId, upTo: Position): Promise<Instant | null> {
  const last = await redrivesUpTo(read, id, upTo);
  if (last.length === 0) return null;
  const events = await decode(parts.keyring, await eventsAt(parts, last));
  return Math.max(...events.map((event) => (event.type === "DeliveryRedriven" ? event.data.expiresAt : 0)));
}

/** The status after each type of event; null: as before. What a success or an acknowledgement means depends. */
const STATUS_AFTER: Readonly<Record<DeliveryEvent["type"], DeliveryStatus | null>> = {
  DeliveryRequested: "pending",
  DeliveryAttemptStarted: "sending",
  DeliverySucceeded: "sent",
  DeliveryAttemptFailed: null,
  DeliveryRetryScheduled: "retrying",
  DeliveryExhausted: "exhausted",
  DeliveryAcknowledged: "delivered",
  DeliveryFallbackRequested: "fell_back",
  DeliveryCancelRequested: null,
  DeliveryCancelled: "cancelled",
  DeliveryExpired: "expired",
  DeliveryRedriven: "pending",
};

export function statusAfter(channel: Channel, types: readonly DeliveryEvent["type"][]): DeliveryStatus {
  return types.reduce<DeliveryStatus>((before, type) => {
    if (type === "DeliverySucceeded" && channel === "webhook") return "delivered";
    if (type === "DeliveryAcknowledged" && before === "fell_back") return before;
    return STATUS_AFTER[type] ?? before;
  }, "pending");
}

/** The notification's row with what its deliveries had come to. */
function counted(row: NotificationRow, histories: readonly History[], renewed: Instant | null): NotificationRow {
  const counts: DeliveryCounts = {};
  const mails: Record<string, boolean> = {};
  let attempted = false;
  let updatedAt = row.updated_at;
  const made = new Set<string>(histories.map((one) => one.id));
  for (const { channel, types, mail, last_at } of histories) {
    const status = statusAfter(channel, types);
    counts[status] = (counts[status] ?? 0) + 1;
    attempted ||= types.includes("DeliveryAttemptStarted") || (status === "delivered" && channel === "websocket");
    updatedAt = Math.max(updatedAt, last_at);
    if (mail !== null && types.includes("DeliveryFallbackRequested")) mails[mail] = made.has(mail);
  }
  const known = {
    ...row,
    counts: counts as NotificationRow["counts"],
    mails,
    mails_due: Object.values(mails).includes(false),
    open: openCount(counts),
    attempts_started: attempted,
    updated_at: updatedAt,
    expires_at: Math.max(row.expires_at, renewed ?? 0),
  };
  return { ...known, status: notificationStatus(known) };
}

/** The notification and its first deliveries at a position. Throws not_found, AppError (read_model_behind). */
export async function viewAsOf(
  parts: Parts,
  read: ReadAs,
  id: NotificationId,
  upTo: Position,
): Promise<NotificationView> {
  const own = foldedNotification(await eventsUpTo(parts, notificationStream(id), upTo));
  if (own === undefined) throw new DomainError("not_found");
  await reach(parts, upTo);
  const histories = await deliveriesAt(read, id, upTo);
  const row = counted(own, histories, await renewedUntil(parts, read, id, upTo));
  const shown = histories.slice(0, SHOWN_DELIVERIES);
  const events = await mapBounded(shown, READS_AT_ONCE, (one) => eventsUpTo(parts, deliveryStream(one.id), upTo));
  const all = events.flat();
  const planned = await plannedFor(parts, read, row);
  return { row, made: rowsOf(deliveries, all), attempts: rowsOf(attempts, all), planned };
}

/** Where exactly an event stands. An outcome's own position may be that of a later one. */
export async function positionOf({ store }: Pick<Parts, "store">, stream: string, revision: number): Promise<Position> {
  const [event] = await store.readStream(stream, { from: revision, limit: 1 });
  if (event === undefined) throw new Error(`${stream} has no event ${revision}`);
  return event.position;
}

/** One delivery as it was just after `revision` of its stream; now without it. Undefined when there is none. */
export async function deliveryAsOf(parts: Parts, id: DeliveryId, revision?: number) {
  const stream = deliveryStream(id);
  const upTo = revision === undefined ? await parts.store.tail() : await positionOf(parts, stream, revision);
  const events = await eventsUpTo(parts, stream, upTo);
  const [row] = rowsOf(deliveries, events);
  return row === undefined ? undefined : { row, attempts: rowsOf(attempts, events) };
}
