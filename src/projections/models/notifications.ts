// Notifications: what was requested, whom they are for, and how many of their deliveries are in which status.
import { type Expression, type SqlBool, sql } from "kysely";
import type { Channel, Priority } from "../../contract/deliveries.ts";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, DeliveryId, NotificationId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject, JsonValue } from "../../contract/json.ts";
import type { NotificationStatus } from "../../contract/notifications.ts";
import type { Instant } from "../../contract/time.ts";
import type { StatusEvent } from "../../domain/delivery-state.ts";
import { reveal } from "../../domain/event.ts";
import type {
  Attachment,
  Fallback,
  KnownNotification,
  NotificationContent,
  NotificationData,
  Recipient,
} from "../../domain/notification.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, readPage } from "../page.ts";
import {
  type Body,
  bigint,
  boolean,
  change,
  deliveryOf,
  type EventFacts,
  integer,
  json,
  notificationOf,
  projection,
  put,
  type RowChange,
  type RowOf,
  text,
  upsert,
} from "../projection.ts";
import { anyOf, first, type ReadAs } from "../read-as.ts";
import { type DeliveryCounts, madeCount, notificationStatus, openCount } from "./notification-status.ts";

/** How many recipients a notification's row shows. */
export const SHOWN_RECIPIENTS = 100;

/** `address` and `name` are null when erased. */
export type ShownRecipient = {
  subject: Subject;
  address: string | null;
  name: string | null;
  /** The user whom the request names beside a mail's address. */
  user: Subject | null;
};
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
  category: text({ nullable: true }),
  tag: text({ nullable: true }),
  attachments: json<Attachment[]>(),
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
  deleted: boolean(),
  /** Deliveries that were erased after the deletion, and whether there are others. */
  erased: integer(),
  erasing: boolean(),
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
type NotificationBody = Body<NotificationRow, "id">;

export const notifications = projection({
  name: "notifications",
  version: 6,
  key: ["id"],
  columns,
  indexes: [
    "(client, position)",
    "(client, status, position)",
    "(client, created_at)",
    "(client, room_id, position) where room_id is not null",
    "(client, category, position) where category is not null",
    "(client, tag, position) where tag is not null",
    "(send_at, id) where state = 'scheduled'",
    "(position) where state = 'released' and not routed",
    "(position) where stop_requested and open > 0",
    "(position) where mails_due",
    "(position) where erasing",
  ],
  personal: ["subject", "content", "text", "meta", "recipients", "fallback", "attachments"],
  on: {
    NotificationRequested: (e) => [
      put([notificationOf(e.stream)], {
        ...requestedColumns(e.data),
        ...{ state: "scheduled", status: "scheduled", stop_requested: false, routed: false, deleted: false },
        revision: e.revision,
        created_at: e.meta.at,
        updated_at: e.meta.at,
        position: e.position,
      }),
    ],
    NotificationEdited: (e) => [decided(e, () => contentOf(e.data))],
    NotificationReleased: (e) => [decided(e, () => ({ state: "released" }))],
    NotificationCancelled: (e) => [decided(e, () => ({ state: "cancelled" }))],
    NotificationStopRequested: (e) => [decided(e, () => ({ stop_requested: true }))],
    NotificationRouted: (e) => [decided(e, () => ({ routed: true }))],
    NotificationDeleted: (e) => [decided(e, blanked)],
    DeliveryRequested: (e) =>
      counted(e, (row) => (e.data.fallbackOf === null ? {} : mail(row, deliveryOf(e.stream), true))),
    DeliveryAttemptStarted: (e) => counted(e, () => ({ attempts_started: true })),
    DeliverySucceeded: (e) => counted(e),
    DeliveryAttemptFailed: (e) => counted(e),
    DeliveryRetryScheduled: (e) => counted(e),
    DeliveryExhausted: (e) => counted(e),
    DeliveryAcknowledged: (e) => counted(e, () => (e.data.to === "delivered" ? { attempts_started: true } : {})),
    DeliveryFallbackRequested: (e) => counted(e, (row) => mail(row, e.data.mail, false)),
    DeliveryCancelRequested: (e) => counted(e),
    DeliveryCancelled: (e) => counted(e),
    DeliveryExpired: (e) => counted(e),
    DeliverySuppressed: (e) => counted(e),
    DeliveryHeld: (e) => counted(e),
    DeliveryReleased: (e) => counted(e),
    DeliveryReported: (e) => counted(e),
    DeliveryErased: (e) => counted(e, (row) => ({ erased: row.erased + 1 })),
    // What starts again may have been given more time.
    DeliveryRedriven: (e) => counted(e, (row) => ({ expires_at: Math.max(row.expires_at, e.data.expiresAt) })),
  },
});

/** What follows from the request alone, before anything became of its deliveries. */
const requestedColumns = (data: NotificationData) => ({
  channel: data.channel,
  audience: data.audience,
  attachments: reveal(data.attachments) ?? [],
  ...contentOf(data),
  room_id: data.roomId,
  ...{ category: data.category, tag: data.tag },
  recipients: data.recipients.slice(0, SHOWN_RECIPIENTS).map(shown),
  recipients_total: data.audience?.count ?? data.recipients.length,
  fallback: data.fallback === null ? null : shownFallback(data.fallback),
  ...{ counts: {}, mails: {}, mails_due: false, open: 0, attempts_started: false },
  ...{ erased: 0, erasing: false },
});

/** What is left of a notification that was deleted, as `KnownNotification` has it. */
const blanked = (row: NotificationRow) => ({
  ...{ deleted: true, subject: null, content: null, text: null, meta: {}, attachments: [] },
  recipients: row.recipients.map((one) => ({ ...one, address: null, name: null })),
  fallback: row.fallback && {
    ...row.fallback,
    to: row.fallback.to && { ...row.fallback.to, address: null },
    ...{ subject: null, content: null },
  },
});

/** A row as the notification's own stream has it, without its deliveries. */
export function rowOfState(id: NotificationId, state: KnownNotification): Omit<NotificationRow, "position"> {
  const { stopRequested: stop_requested, routed, deleted, revision, createdAt, updatedAt } = state;
  const row = { ...requestedColumns(state.data), state: state.status, stop_requested, routed, deleted };
  return {
    id,
    client: state.data.client,
    ...row,
    status: notificationStatus(row),
    revision,
    created_at: createdAt,
    updated_at: updatedAt,
  };
}

const contentOf = (data: NotificationContent) => ({
  subject: reveal(data.subject),
  content: reveal<JsonValue>(data.content),
  text: reveal(data.text),
  meta: reveal(data.meta) ?? {},
  priority: data.priority,
  send_at: data.sendAt,
  expires_at: data.expiresAt,
});

const shown = ({ subject, address, name, user }: Recipient): ShownRecipient => ({
  user,
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
  erasing: row.deleted && row.erased < madeCount(row.counts),
  status: notificationStatus(row),
});

/** An event of the notification's own stream. */
const decided = (
  e: EventFacts,
  changed: (row: NotificationRow) => Partial<NotificationBody>,
): RowChange<NotificationRow, NotificationBody> =>
  change([notificationOf(e.stream)], (row) =>
    settle({ ...row, ...changed(row), revision: e.revision, updated_at: later(row, e.meta.at) }),
  );

/** An event of one of its deliveries. What is done here commutes with what other deliveries' events do. */
function counted(
  e: Omit<EventFacts, "type"> & StatusEvent,
  changed: (row: NotificationRow) => Partial<NotificationBody> = () => ({}),
): RowChange<NotificationRow, NotificationBody>[] {
  const { notification, from, to } = e.data;
  // Deliveries of endpoints count nowhere.
  if (notification === null) return [];
  const count = change<NotificationRow, NotificationBody>([notification], (row) => {
    const counts = { ...row.counts };
    if (from !== null) counts[from] = (counts[from] ?? 0) - 1;
    counts[to] = (counts[to] ?? 0) + 1;
    if (from !== null && counts[from] === 0) delete counts[from];
    return settle({ ...row, ...changed(row), counts, updated_at: later(row, e.meta.at) });
  });
  return [count];
}

const later = (row: NotificationRow, at: Instant): Instant => Math.max(row.updated_at, at);

/** Several deliveries may fall back to one mail, before and after it is made. */
function mail(row: NotificationRow, id: DeliveryId, made: boolean): Pick<NotificationBody, "mails" | "mails_due"> {
  const mails = { ...row.mails, [id]: made || row.mails[id] === true };
  return { mails, mails_due: Object.values(mails).includes(false) };
}

const recipientColumns = {
  notification_id: text<NotificationId>(),
  subject: text<Subject>(),
  client: text<ClientId>(),
  /** Of the event that first named the person: where the notification stands in the person's list. */
  position: text<Position>(),
};
type RecipientRow = RowOf<typeof recipientColumns>;

export const recipients = projection({
  name: "recipients",
  version: 1,
  key: ["notification_id", "subject"],
  columns: recipientColumns,
  indexes: ["(client, subject, position, notification_id)"],
  personal: [],
  on: {
    NotificationRequested: (e) => {
      const subjects = new Set(e.data.recipients.map((one) => one.subject));
      return [...subjects].map((subject) => named(notificationOf(e.stream), subject, e.position));
    },
    // The members of a room, and the addresses of fallbacks.
    DeliveryRequested: ({ data, position }) =>
      data.notification === null ? [] : [named(data.notification, data.recipient, position)],
  },
});

const named = (notification: NotificationId, subject: Subject, position: Position) =>
  upsert<RecipientRow, Body<RecipientRow, "notification_id" | "subject">>([notification, subject], (row) =>
    row === undefined ? { position } : undefined,
  );

export const notificationById = async (read: ReadAs, id: NotificationId): Promise<NotificationRow | undefined> =>
  first(await read.rows(read.over({ n: notifications }).selectFrom("n").selectAll().where("id", "=", id)));

/** Which of these were deleted. */
export async function deletedAmong(read: ReadAs, ids: readonly NotificationId[]): Promise<ReadonlySet<NotificationId>> {
  if (ids.length === 0) return new Set();
  const query = read
    .over({ n: notifications })
    .selectFrom("n")
    .select("n.id")
    .where(anyOf("n.id", ids))
    .where(sql<boolean>`n.deleted`);
  return new Set((await read.rows(query)).map(({ id }) => id));
}

export type NotificationList = {
  statuses?: readonly NotificationStatus[];
  channels?: readonly Channel[];
  /** Whose deliveries: the subjects of user ids or addresses, any of them. */
  recipient?: Subject | readonly Subject[];
  roomIds?: readonly RoomId[];
  ids?: readonly NotificationId[];
  categories?: readonly string[];
  tags?: readonly string[];
  /** `from` inclusive and `to` exclusive bound the creation. */
  from?: Instant;
  to?: Instant;
  limit: number;
  cursor?: Cursor;
};

/** Newest first. Throws InvalidCursor. */
export async function listNotifications(read: ReadAs, list: NotificationList): Promise<Page<NotificationRow>> {
  const { statuses, channels, roomIds, ids, categories, tags, from, to, limit, cursor } = list;
  const people = typeof list.recipient === "string" ? [list.recipient] : list.recipient;
  const page = { order: "desc", limit, cursor } as const;
  const db = read.over({ n: notifications, p: recipients });
  const conditions: Expression<SqlBool>[] = [];
  if (statuses !== undefined) conditions.push(anyOf("n.status", statuses));
  if (channels !== undefined) conditions.push(anyOf("n.channel", channels));
  if (roomIds !== undefined) conditions.push(anyOf("n.room_id", roomIds));
  if (ids !== undefined) conditions.push(anyOf("n.id", ids));
  if (categories !== undefined) conditions.push(anyOf("n.category", categories));
  if (tags !== undefined) conditions.push(anyOf("n.tag", tags));
  if (from !== undefined) conditions.push(sql`n.created_at >= ${from}`);
  if (to !== undefined) conditions.push(sql`n.created_at < ${to}`);
  if (people === undefined) {
    const query = db
      .selectFrom("n")
      .selectAll()
      .where((eb) => eb.and(conditions));
    return readPage(read, query, { ...page, by: { "n.position": "text" } }, (last) => [last.position]);
  }
  conditions.push(anyOf("p.subject", people));
  if (people.length > 1) {
    // Of several people each notification comes once, at its first position.
    conditions.push(sql`not exists (
      select from p q where q.notification_id = p.notification_id and ${anyOf("q.subject", people)}
        and (q.position, q.subject) < (p.position, p.subject))`);
  }
  const query = db
    .selectFrom("p")
    .innerJoin("n", "n.id", "p.notification_id")
    .selectAll("n")
    .select("p.position as listed_at")
    .where((eb) => eb.and(conditions));
  return readPage(read, query, { ...page, by: { "p.position": "text" } }, (last) => [last.listed_at]);
}
