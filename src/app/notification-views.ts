// Notifications as answers show them: from the read model, or as they were just after a change.

import { type Channel, type DeliveryStatus, DeliveryStatusSchema } from "../contract/deliveries.ts";
import type { DeliveryId, NotificationId, RoomId, Subject } from "../contract/ids.ts";
import { type NotificationResource, type NotificationSummary, SHOWN_DELIVERIES } from "../contract/notifications.ts";
import type { NotificationEventData } from "../contract/public-events.ts";
import { type Instant, rfc3339, rfc3339OrNull, SECOND_MS } from "../contract/time.ts";
import { DomainError } from "../domain/decider.ts";
import type { Gate } from "../domain/delivery.ts";
import { type DeliveryEvent, deliveryStream, statusAfter } from "../domain/delivery-state.ts";
import { reveal } from "../domain/event.ts";
import type { KnownNotification } from "../domain/notification.ts";
import { roomDecider, roomStream } from "../domain/room.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { deliveryId } from "../event-store/derived-ids.ts";
import { decode, decodeRaw, type StoredEvent } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { foldRows } from "../projections/fold.ts";
import { type AttemptRow, attempts, attemptsOf, erasedAttempt } from "../projections/models/attempts.ts";
import { deliveriesAt, redrivesUpTo } from "../projections/models/audit.ts";
import {
  type DeliveryRow,
  deliveries,
  deliveriesOf,
  deliveryFault,
  erasedDelivery,
} from "../projections/models/deliveries.ts";
import {
  type DeliveryCounts,
  madeCount,
  notificationStatus,
  openCount,
} from "../projections/models/notification-status.ts";
import {
  type NotificationRow,
  rowOfState,
  SHOWN_RECIPIENTS,
  type ShownRecipient,
} from "../projections/models/notifications.ts";
import { userIdsOf } from "../projections/models/users.ts";
import type { Projection, RowOf } from "../projections/projection.ts";
import type { ReadAs } from "../projections/read-side.ts";
import { eventsAt } from "./audit.ts";
import { choiceGates, keyedGate } from "./delivery-gates.ts";
import { AppError } from "./errors.ts";
import { deliveryResource } from "./resources.ts";
import type { Services, Written } from "./services.ts";

/** How long an answer waits for the read model, which knows the deliveries of a notification. */
const READ_WAIT_MS = 5 * SECOND_MS;
const READS_AT_ONCE = 16;
const PAGE = 1_000;

/** A row wherever it comes from. */
type ShownRow = Omit<NotificationRow, "position">;

/** What an answer about one notification is made of. */
type NotificationView = {
  readonly row: ShownRow;
  /** The first that were made. */
  readonly made: readonly DeliveryRow[];
  /** Their attempts, each delivery's in order. */
  readonly attempts: readonly AttemptRow[];
  /** The first whom it is for; those without a delivery are shown as to be made. None when all were made. */
  readonly planned: readonly ShownRecipient[];
  /** What stands against them, by subject, as far as it is known before they are made. */
  readonly gates: ReadonlyMap<Subject, Gate>;
  /** Whether a suppression is shown: nothing is made, and so nothing else will say it. */
  readonly dryRun?: boolean;
};

/** A change that was made, and the notification as it was just after that. */
export type Changed = Written & { readonly notification: NotificationResource; readonly etag: number };

export const shownAfter = (view: NotificationView, { position, replayed }: Written): Changed => ({
  notification: notificationResource(view),
  etag: view.row.revision,
  position,
  replayed,
});

// As resources.

const common = (row: ShownRow) => ({
  id: row.id,
  type: row.channel,
  status: row.status,
  room_id: row.room_id,
  subject: row.subject,
  content: row.content,
  meta: row.meta,
  priority: row.priority,
  category: row.category,
  tag: row.tag,
  attachments: row.attachments.map(({ filename, contentType: content_type, size, contentId: content_id }) => {
    return { filename, content_type, size, content_id };
  }),
  email_fallback: fallbackOf(row.fallback),
  send_at: rfc3339OrNull(row.send_at),
  expires_at: rfc3339(row.expires_at),
  created_at: rfc3339(row.created_at),
  updated_at: rfc3339(row.updated_at),
});

const fallbackOf = (fallback: NotificationRow["fallback"]): NotificationResource["email_fallback"] =>
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
function unmade(row: ShownRow): { readonly count: number; readonly status: "pending" | "cancelled" } {
  const stopped = row.state === "cancelled" || row.stop_requested;
  const status = stopped ? "cancelled" : "pending";
  if (row.routed && !stopped) return { count: 0, status };
  const mails = Object.values(row.mails).filter((made) => made).length;
  return { count: Math.max(0, row.recipients_total - (madeCount(row.counts) - mails)), status };
}

/** As public events show it: without its deliveries. */
export const notificationEventData = (row: ShownRow): NotificationEventData => ({
  ...common(row),
  deliveries_total: row.recipients_total,
});

export function notificationSummary(row: NotificationRow): NotificationSummary {
  const { count, status } = unmade(row);
  const counts: DeliveryCounts = { ...row.counts };
  if (count > 0) counts[status] = (counts[status] ?? 0) + count;
  return { ...common(row), delivery_counts: counts, deliveries_total: madeCount(counts) };
}

export function notificationResource({
  row,
  made,
  attempts,
  planned,
  gates,
  dryRun,
}: NotificationView): NotificationResource {
  const { count, status } = unmade(row);
  const order = new Map(planned.map(({ subject }, index) => [subject, index]));
  // A room's members go by subject, as they are expanded; others as they were named.
  const rankOf = (subject: Subject) => (row.audience === null ? order.get(subject) : subject) ?? null;
  const known = new Set(made.map((one) => one.id));
  const announced = planned.flatMap(({ subject, address }) => {
    const id = deliveryId(row.id, subject, row.channel);
    if (known.has(id)) return [];
    const gate = status === "pending" ? (gates.get(subject) ?? null) : null;
    const delivery = { id, notification_id: row.id, channel: row.channel, address, status, ...withheld(gate, dryRun) };
    return [{ resource: deliveryResource(delivery, []), rank: rankOf(subject) }];
  });
  const ofDelivery = Map.groupBy(attempts, (attempt) => attempt.delivery_id);
  // Of a deleted notification also before each delivery's own erasure is recorded.
  const shown = row.deleted ? made.map(erasedDelivery) : made;
  const there = shown.map((one) => ({
    resource: deliveryResource(one, (ofDelivery.get(one.id) ?? []).map(row.deleted ? erasedAttempt : (own) => own)),
    // Mails of fallbacks have no rank of their own: they come last, as they were made.
    rank: one.fallback_of === null ? rankOf(one.subject) : null,
  }));
  const sorted = [...there, ...announced.slice(0, count)].toSorted((a, b) => compareRanks(a.rank, b.rank));
  return {
    ...common(row),
    deliveries: sorted.slice(0, SHOWN_DELIVERIES).map(({ resource }) => resource),
    deliveries_total: madeCount(row.counts) + count,
  };
}

/** What is known to stand against a delivery that is not made yet. */
function withheld(gate: Gate, dryRun = false): Partial<Pick<DeliveryRow, "status" | "held_until" | "error">> {
  if (gate === null) return {};
  if ("holdUntil" in gate) return { held_until: gate.holdUntil };
  return dryRun ? { status: "suppressed", error: deliveryFault(gate.suppress) } : {};
}

function compareRanks(a: string | number | null, b: string | number | null): number {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return a < b ? -1 : 1;
}

// As it is now.

/** A notification as the read model has it. */
export async function viewNow(services: Services, read: ReadAs, row: NotificationRow): Promise<NotificationView> {
  const { rows: made } = await deliveriesOf(read, row.id, { limit: SHOWN_DELIVERIES });
  const ids = made.map((one) => one.id);
  const attempts = ids.length === 0 ? [] : await attemptsOf(read, ids);
  return { row, made, attempts, ...(await announced(services, read, row)) };
}

/** The first whom a notification is for, in the order of its deliveries; of a room only as long as some are not made. */
export async function plannedFor(services: Services, read: ReadAs, row: ShownRow): Promise<readonly ShownRecipient[]> {
  if (row.audience === null) return row.recipients;
  return unmade(row).count === 0 ? [] : membersAt(services, read, row.audience.roomId, row.audience.atSeq);
}

/** The first whom a notification is for, and what their own choices say, as long as some deliveries are not made. */
async function announced(services: Services, read: ReadAs, row: ShownRow) {
  const planned = await plannedFor(services, read, row);
  if (unmade(row).count === 0) return { planned, gates: new Map() };
  const people = planned.map(({ subject, address, user }) => ({ subject, address, user: user ?? null }));
  const at = Math.max(services.now(), row.send_at ?? 0);
  return { planned, gates: await choiceGates(read, row, people, at) };
}

/** A view of what a dry run comes to: also what throttles and collapse keys would say now. */
export async function withKeyedGates(
  { commands }: Services,
  view: NotificationView,
  { data }: KnownNotification,
  at: Instant,
): Promise<NotificationView> {
  const gates = new Map(view.gates);
  for (const { subject } of view.planned) {
    const known = gates.get(subject) ?? null;
    if (known !== null && "suppress" in known) continue;
    const delivery = deliveryId(view.row.id, subject, data.channel);
    const { client, collapse, throttle } = data;
    const keyed = { client, delivery, recipient: subject, releasedAt: at, at, collapse, throttle };
    const gate = await keyedGate(commands, keyed, null);
    if (gate !== null) gates.set(subject, gate);
  }
  return { ...view, gates, dryRun: true };
}

/** The first members that a room had at a seq, as the router expands them. */
async function membersAt({ commands }: Services, read: ReadAs, room: RoomId, seq: number) {
  const state = await commands.loadAt(roomDecider, roomStream(room), seq - 1);
  const members = state.status === "live" ? [...state.members.keys()] : [];
  const subjects = members.toSorted().slice(0, SHOWN_RECIPIENTS);
  const known = await userIdsOf(read, subjects);
  return mapBounded(subjects, READS_AT_ONCE, async (subject) => {
    const address = known.get(subject) ?? (await userIdInLog(commands, subject));
    return { subject, address, name: null, user: null };
  });
}

/** The id of a user whom the read model has not seen yet; null when it was erased. */
async function userIdInLog(commands: Services["commands"], subject: Subject): Promise<string | null> {
  const { state } = await commands.load(userDecider, userStream(subject));
  return state.status === "registered" ? reveal(state.user) : null;
}

// As it was at a position.

/** Waits until the read model has what is in the log now, or the position. Throws read_model_behind. */
export async function awaitReadModel({ readSide, store }: Services, position?: Position): Promise<void> {
  const wanted = position ?? (await store.tail());
  if (!(await readSide.waitFor(wanted, READ_WAIT_MS))) throw new AppError("read_model_behind");
}

/** The rows that events of the projection's streams fold to. */
function rowsOf<P extends Projection>(projection: P, events: readonly StoredEvent[]): readonly RowOf<P["columns"]>[] {
  // Folding gives exactly the projection's columns; it checks that itself.
  return foldRows(projection, events) as unknown as readonly RowOf<P["columns"]>[];
}

/** A stream's events up to a position. */
async function eventsUpTo({ store, keyring }: Services, stream: string, upTo: Position) {
  const events: StoredEvent[] = [];
  for (let from = 0; ; from += PAGE) {
    const page = await store.readStream(stream, { from, limit: PAGE });
    const earlier = page.filter((event) => event.position <= upTo);
    events.push(...(await decode(keyring, earlier)));
    if (page.length < PAGE || earlier.length < page.length) return events;
  }
}

/** What a delivery's events up to the position were, by type: enough to tell its status, but for what was reported. */
type History = {
  readonly channel: Channel;
  readonly id: DeliveryId;
  /** The mail that it fell back to, also when that was later. */
  readonly mail: DeliveryId | null;
  readonly types: readonly DeliveryEvent["type"][];
  readonly last_at: Instant;
  /** Of the last of them. */
  readonly revision: number;
};

/** The statuses of deliveries of which reports came: each event says its own. */
async function reportedStatuses({ store }: Services, histories: readonly History[]) {
  const reported = histories.filter(({ types }) => types.includes("DeliveryReported"));
  const statuses = await mapBounded(reported, READS_AT_ONCE, async ({ id, revision }) => {
    const [last] = await store.readStream(deliveryStream(id), { from: revision, limit: 1 });
    return [id, DeliveryStatusSchema.parse(last === undefined ? undefined : decodeRaw(last).to)] as const;
  });
  return new Map(statuses);
}

/** Until when the deliveries that were started again up to the position go on; none: null. */
async function renewedUntil(services: Services, read: ReadAs, id: NotificationId, upTo: Position) {
  const last = await redrivesUpTo(read, id, upTo);
  if (last.length === 0) return null;
  const events = await decode(services.keyring, await eventsAt(services, last));
  return Math.max(...events.map((event) => (event.type === "DeliveryRedriven" ? event.data.expiresAt : 0)));
}

/** The notification's row with what its deliveries had come to. */
function counted(
  row: ShownRow,
  histories: readonly History[],
  { renewed, reported }: { renewed: Instant | null; reported: ReadonlyMap<DeliveryId, DeliveryStatus> },
): ShownRow {
  const counts: DeliveryCounts = {};
  const mails: Record<string, boolean> = {};
  let attempted = false;
  let updatedAt = row.updated_at;
  const made = new Set<string>(histories.map((one) => one.id));
  for (const { id, channel, types, mail, last_at } of histories) {
    const status =
      reported.get(id) ?? types.reduce<DeliveryStatus>((before, type) => statusAfter(before, type, channel), "pending");
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

/** A notification of which no delivery was made, as its state says. */
export async function viewOfState(
  services: Services,
  read: ReadAs,
  id: NotificationId,
  state: KnownNotification,
): Promise<NotificationView> {
  const row = rowOfState(id, state);
  return { row, made: [], attempts: [], ...(await announced(services, read, row)) };
}

/** The notification in this state, with its first deliveries at a position. Throws read_model_behind. */
export async function viewAsOf(
  services: Services,
  read: ReadAs,
  id: NotificationId,
  state: KnownNotification,
  upTo: Position,
): Promise<NotificationView> {
  await awaitReadModel(services, upTo);
  const histories = await deliveriesAt(read, id, upTo);
  const renewed = await renewedUntil(services, read, id, upTo);
  const row = counted(rowOfState(id, state), histories, {
    renewed,
    reported: await reportedStatuses(services, histories),
  });
  const shown = histories.slice(0, SHOWN_DELIVERIES);
  const events = await mapBounded(shown, READS_AT_ONCE, (one) => eventsUpTo(services, deliveryStream(one.id), upTo));
  const all = events.flat();
  return {
    row,
    made: rowsOf(deliveries, all),
    attempts: rowsOf(attempts, all),
    ...(await announced(services, read, row)),
  };
}

/** The position of one event. An outcome's own position may be that of a later one. */
export async function positionOf(
  { store }: Pick<Services, "store">,
  stream: string,
  revision: number,
): Promise<Position> {
  const [event] = await store.readStream(stream, { from: revision, limit: 1 });
  if (event === undefined) throw new Error(`${stream} has no event ${revision}`);
  return event.position;
}

/** One delivery as it was just after `revision` of its stream; now without it. Throws not_found. */
export async function deliveryAsOf(services: Services, id: DeliveryId, revision?: number) {
  const stream = deliveryStream(id);
  const upTo = revision === undefined ? await services.store.tail() : await positionOf(services, stream, revision);
  const events = await eventsUpTo(services, stream, upTo);
  const [row] = rowsOf(deliveries, events);
  if (row === undefined) throw new DomainError("not_found");
  return deliveryResource(row, rowsOf(attempts, events));
}
