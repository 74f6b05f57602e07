// Notifications: finding them, cancelling, editing, starting deliveries again, and acknowledging them. Each change answers
// as of what it wrote.
import type { DeliveryResource } from "../contract/deliveries.ts";
import type { FieldFault } from "../contract/errors.ts";
import type { Cursor } from "../contract/fields.ts";
import {
  type DeliveryId,
  DeliveryIdSchema,
  type NotificationId,
  NotificationIdSchema,
  type RoomId,
  type Subject,
} from "../contract/ids.ts";
import type {
  NotificationPatch,
  NotificationQuery,
  NotificationResource,
  NotificationSummary,
} from "../contract/notifications.ts";
import type { Instant } from "../contract/time.ts";
import { DomainError, type IfMatch, refuse, requireMatch } from "../domain/decider.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import { DELIVERY_STREAMS, deliveryStream, REDRIVABLE } from "../domain/delivery-state.ts";
import {
  type KnownNotification,
  type Notification,
  type NotificationCommand,
  notificationDecider,
  notificationStream,
} from "../domain/notification.ts";
import { deliveryId } from "../event-store/derived-ids.ts";
import { decodeMetadata } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { writtenBy } from "../projections/models/audit.ts";
import { type DeliveryRow, deliveriesOf } from "../projections/models/deliveries.ts";
import {
  type NotificationRow,
  notificationById,
  listNotifications as queryNotifications,
} from "../projections/models/notifications.ts";
import type { Page } from "../projections/page.ts";
import type { ReadAs } from "../projections/read-side.ts";
import { subjectsNamed } from "./create-notification.ts";
import { onceMade } from "./deliveries.ts";
import { choiceGates } from "./delivery-gates.ts";
import {
  awaitReadModel,
  type Changed,
  deliveryAsOf,
  notificationResource,
  notificationSummary,
  plannedFor,
  positionOf,
  shownAfter,
  viewAsOf,
  viewNow,
  viewOfState,
} from "./notification-views.ts";
import type { Call, Services, Written } from "./services.ts";
import { streamOwner } from "./stream-owner.ts";

const COMMANDS_AT_ONCE = 32;
const PAGE = 1_000;

/** The notification and its deliveries as they were at one moment. Throws not_found. */
export async function getNotification(
  { services, caller }: Call,
  id: NotificationId,
): Promise<{ readonly notification: NotificationResource; readonly etag: number }> {
  const view = await services.readSide.snapshotAs(caller.client, async (read) => {
    const row = await notificationById(read, id);
    return row && (await viewNow(services, read, row));
  });
  if (view === undefined) throw new DomainError("not_found");
  return { notification: notificationResource(view), etag: view.row.revision };
}

/** Newest first. Throws InvalidCursor. */
export async function listNotifications(
  { services, caller, read }: Call,
  query: NotificationQuery,
): Promise<Page<NotificationSummary>> {
  const { status: statuses, type: channels, recipient, room_id, ids, category, tag, limit, cursor, from, to } = query;
  const people = recipient?.map((one) => subjectsNamed(services.keyring, caller.client, one));
  const filters = omitUndefined({
    ...{ cursor, from, to, statuses, channels },
    recipient: people === undefined ? undefined : [...new Set((await Promise.all(people)).flat())],
    // What is no id is nobody's.
    roomIds: room_id as RoomId[] | undefined,
    ids: ids as NotificationId[] | undefined,
    ...{ categories: category, tags: tag },
  });
  const { rows, next } = await queryNotifications(read, { limit, ...filters });
  return { rows: rows.map(notificationSummary), next };
}

/** The notification's id, if it is the client's. Throws not_found. */
async function ownNotification({ services, read }: Call, named: string): Promise<NotificationId> {
  const { data: id } = NotificationIdSchema.safeParse(named);
  if (
    id === undefined ||
    /* fence: tenant-notification */ (await streamOwner(services.store, notificationStream(id))) !== read.client
  ) {
    throw new DomainError("not_found");
  }
  return id;
}

/** The row, with all that is in the log now. */
async function rowNow({ services, read }: Call, id: NotificationId): Promise<NotificationRow> {
  await awaitReadModel(services);
  const row = await notificationById(read, id);
  if (row === undefined) throw new DomainError("not_found");
  return row;
}

/** Stops what is not sent yet. Throws not_found, precondition_failed, not_cancellable. */
export async function cancelNotification(call: Call, named: string, ifMatch: IfMatch): Promise<Changed> {
  const { services, read, at } = call;
  const id = await ownNotification(call, named);
  const openDeliveries = await hasOpenDeliveries(call, id);
  const { state, events, ...written } = await execute(call, id, { type: "Cancel", at, openDeliveries, ifMatch });
  if (state.status === "cancelled") return shownAfter(await viewOfState(services, read, id, state), written);
  const last = events.at(-1);
  if (last === undefined) return shownAfter(await viewNow(services, read, await rowNow(call, id)), written);
  const upTo = await positionOf(services, notificationStream(id), last.revision);
  return shownAfter(await viewAsOf(services, read, id, state, upTo), written);
}

/**
 * Stops what is not sent yet, and erases content, meta and addresses: the key of the content is destroyed where it is the
 * notification's own. What is sealed for its recipients stays sealed for them, and is shown nowhere. Again, it only makes
 * sure of the key. Throws not_found, precondition_failed.
 */
export async function deleteNotification(
  call: Call,
  named: string,
  ifMatch: IfMatch,
): Promise<{ readonly position: Position }> {
  const id = await ownNotification(call, named);
  const openDeliveries = await hasOpenDeliveries(call, id);
  const { position } = await execute(call, id, { type: "Delete", at: call.at, openDeliveries, ifMatch });
  // fence: deleted-content-key
  await call.services.keyring.destroy(id);
  return { position };
}

/** Whether any delivery may be open, or be made yet. */
async function hasOpenDeliveries(call: Call, id: NotificationId): Promise<boolean> {
  const { state } = await call.services.commands.load(notificationDecider, notificationStream(id));
  // Until all are routed, deliveries may be made before a command is decided.
  if (state.status !== "released" || !state.routed) return true;
  const row = await rowNow(call, id);
  return row.open > 0 || row.mails_due;
}

/** Changes what is still scheduled. Throws not_found, precondition_failed, not_editable, InvalidInput. */
export async function editNotification(
  call: Call,
  named: string,
  patch: NotificationPatch,
  ifMatch: IfMatch,
): Promise<Changed> {
  const id = await ownNotification(call, named);
  const { state, ...written } = await execute(call, id, { type: "Edit", at: call.at, patch, ifMatch });
  // It was scheduled until then: it has no deliveries.
  return shownAfter(await viewOfState(call.services, call.read, id, state), written);
}

/** Gives a command to the notification's own stream. */
async function execute({ services, context }: Call, id: NotificationId, command: NotificationCommand) {
  const outcome = await services.commands.execute(notificationDecider, notificationStream(id), command, context);
  return { ...outcome, state: requireRequested(outcome.state) };
}

function requireRequested(state: Notification): KnownNotification {
  if (state.status === "none") throw new DomainError("not_found");
  return state;
}

/** The notification's state at a position. Throws not_found. */
async function stateAt({ commands, store }: Services, id: NotificationId, upTo: Position): Promise<KnownNotification> {
  const stream = notificationStream(id);
  const { state, position } = await commands.load(notificationDecider, stream);
  if (position === null || position <= upTo) return requireRequested(state);
  const later = await store.readStream(stream, { direction: "backward", limit: PAGE });
  const last = later.find((event) => event.position <= upTo);
  return requireRequested(await commands.loadAt(notificationDecider, stream, last?.revision ?? 0));
}

/**
 * Starts again what is exhausted, bounced or expired, of all deliveries or those named. A repetition under the same key
 * finishes what a crash cut short, and leaves alone what ended later. Throws not_found, precondition_failed,
 * nothing_to_retry, InvalidInput.
 */
export async function retryNotification(
  call: Call,
  named: string,
  wanted: readonly string[] | null,
  ifMatch: IfMatch,
): Promise<Changed> {
  const { services, read, context, at } = call;
  const id = await ownNotification(call, named);
  const row = await rowNow(call, id);
  const before = await doneBefore(call);
  const ended = await endedDeliveries(call, row, wanted);
  requireMatch(ifMatch, row.revision);
  const again = before.since === null ? ended : ended.filter((one) => one.updated_at <= (before.since ?? 0));
  const targets = [...new Set([...before.deliveries, ...again.map((one) => one.id)])];
  // A mail's next attempt asks what its recipient chose; on a WebSocket it goes out at once.
  const sockets = again.filter((one) => one.channel === "websocket");
  const people = sockets.map(({ subject, address }) => ({ subject, address, user: null }));
  const gates = await choiceGates(read, { ...row, channel: "websocket" }, people, at);
  const gateOf = new Map(sockets.map((one) => [one.id, gates.get(one.subject) ?? null]));
  const outcomes = await mapBounded(targets, COMMANDS_AT_ONCE, async (delivery) => {
    const stream = deliveryStream(delivery);
    const command = { type: "Redrive", at, gate: gateOf.get(delivery) ?? null } as const;
    const outcome = await services.commands.execute(deliveryDecider, stream, command, context);
    failpoint("redriven/next-redriven");
    const last = outcome.events.at(-1);
    const upTo = last === undefined ? null : await positionOf(services, stream, last.revision);
    return { upTo, position: outcome.position, replayed: outcome.replayed };
  });
  const upTo = latest(outcomes.map((outcome) => outcome.upTo));
  if (upTo === null) throw new DomainError("nothing_to_retry");
  return shownAfter(await viewAsOf(services, read, id, await stateAt(services, id, upTo), upTo), {
    position: latest(outcomes.map((outcome) => outcome.position)) ?? upTo,
    replayed: outcomes.every((outcome) => outcome.replayed || outcome.upTo === null),
  });
}

const latest = (positions: readonly (Position | null)[]): Position | null =>
  positions.reduce((one, other) => (one === null || (other !== null && other > one) ? other : one), null);

type Before = { readonly deliveries: readonly DeliveryId[]; readonly since: Instant | null };

/** What the same request did before. Throws idempotency_key_reused when it had another body. */
async function doneBefore({ services, read, context }: Call): Promise<Before> {
  if (context.fingerprint === undefined) return { deliveries: [], since: null };
  const rows = await writtenBy(read, context.commandId);
  if (rows.some((row) => row.fingerprint !== context.fingerprint)) {
    throw new DomainError("idempotency_key_reused", "the key was used with another body");
  }
  const times = await mapBounded(rows, COMMANDS_AT_ONCE, async ({ stream, first }) => {
    const [event] = await services.store.readStream(stream, { from: first, limit: 1 });
    return event === undefined ? Number.POSITIVE_INFINITY : decodeMetadata(event).at;
  });
  const deliveries = rows.map(({ stream }) => DeliveryIdSchema.parse(stream.slice(DELIVERY_STREAMS.length)));
  return { deliveries, since: rows.length === 0 ? null : Math.min(...times) };
}

/** The deliveries that can be started again. Throws InvalidInput for ids that the notification does not have. */
async function endedDeliveries(
  { services, read }: Call,
  row: NotificationRow,
  wanted: readonly string[] | null,
): Promise<readonly DeliveryRow[]> {
  const ids = wanted?.flatMap((one) => DeliveryIdSchema.safeParse(one).data ?? []);
  const statuses = wanted === null ? REDRIVABLE : undefined;
  const found: DeliveryRow[] = [];
  for (let cursor: Cursor | null | undefined; cursor !== null; ) {
    const { rows, next } = await deliveriesOf(read, row.id, {
      limit: PAGE,
      ...omitUndefined({ cursor, statuses, ids }),
    });
    found.push(...rows);
    cursor = next;
  }
  if (wanted !== null) await requireKnown(services, read, row, found, wanted);
  return found.filter((one) => REDRIVABLE.includes(one.status) && one.address !== null);
}

async function requireKnown(
  services: Call["services"],
  read: ReadAs,
  row: NotificationRow,
  found: readonly DeliveryRow[],
  wanted: readonly string[],
): Promise<void> {
  const planned = await plannedFor(services, read, row);
  const known = new Set<string>([
    ...found.map((one) => one.id),
    ...planned.map(({ subject }) => deliveryId(row.id, subject, row.channel)),
  ]);
  const faults = wanted.flatMap((one, index): FieldFault[] => {
    if (known.has(one)) return [];
    const message = "is no delivery of this notification";
    return [{ path: `delivery_ids.${index}`, code: "not_allowed", message }];
  });
  refuse(faults);
}

/**
 * Acknowledges a delivery to a subject, again for a while as long as it is not found. Throws not_found, and what commands
 * throw.
 */
export const acknowledge = (
  { services, at, context }: Pick<Call, "services" | "at" | "context">,
  id: DeliveryId,
  subject: Subject,
) => {
  // The subject holds the client too: of another client's delivery this finds nothing.
  const command = { type: "Acknowledge", at, subject } as const;
  return onceMade(() => services.commands.execute(deliveryDecider, deliveryStream(id), command, context));
};

/** As `acknowledge`, with the delivery as it was just after that. */
export async function acknowledgeDelivery(
  call: Call,
  id: DeliveryId,
  subject: Subject,
): Promise<Written & { readonly delivery: DeliveryResource }> {
  const { events, position, replayed } = await acknowledge(call, id, subject);
  return { delivery: await deliveryAsOf(call.services, id, events.at(-1)?.revision), position, replayed };
}

/** The notification that a delivery is of, whoever's it is: for the development mailbox. */
export async function notificationOfDelivery(
  { commands }: Pick<Services, "commands">,
  id: string,
): Promise<string | null> {
  const parsed = DeliveryIdSchema.safeParse(id);
  if (!parsed.success) return null;
  const { state } = await commands.load(deliveryDecider, deliveryStream(parsed.data));
  return state.status === "none" ? null : state.request.notification;
}
