// Deliveries: one recipient on one channel, its status, and when it is due next.
import type { Channel, DeliveryError, DeliveryStatus, Priority } from "../../contract/deliveries.ts";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, DeliveryId, EndpointId, EventId, NotificationId, Subject } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import {
  type DataOf,
  type DeliveryRequest,
  type EventRef,
  FINAL_REPORTS,
  hasEnded,
  reportedStatus,
} from "../../domain/delivery-state.ts";
import { reveal } from "../../domain/event.ts";
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
  projection,
  put,
  type RowChange,
  type RowOf,
  text,
} from "../projection.ts";
import { anyOf, first, type ReadAs } from "../read-as.ts";

const columns = {
  id: text<DeliveryId>(),
  client: text<ClientId>(),
  /** Null: it is an endpoint's. */
  notification_id: text<NotificationId>({ nullable: true }),
  /** The webhook endpoint, the public event that it gets, and what it waits for in its lane. */
  endpoint_id: text<EndpointId>({ nullable: true }),
  event_id: text<EventId>({ nullable: true }),
  event_type: text({ nullable: true }),
  generation: integer({ nullable: true }),
  batch_start: json<EventRef>({ nullable: true }),
  lane: text({ nullable: true }),
  previous: text<DeliveryId>({ nullable: true }),
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
  /** Until when it is held; null: it is not. */
  held_until: bigint({ nullable: true }),
  lease_until: bigint({ nullable: true }),
  sent_at: bigint({ nullable: true }),
  delivered_at: bigint({ nullable: true }),
  read_at: bigint({ nullable: true }),
  opened_at: bigint({ nullable: true }),
  provider: text({ nullable: true }),
  provider_message_id: text({ nullable: true }),
  error: json<DeliveryError>({ nullable: true }),
  /** The mail that it fell back to. */
  mail: text<DeliveryId>({ nullable: true }),
  mail_recipient: text<Subject>({ nullable: true }),
  mail_address: text({ nullable: true }),
  mail_name: text({ nullable: true }),
  /** Whether it is pushed to the user on connect, until it expires. */
  to_push: boolean(),
  /** Its notification was deleted. */
  erased: boolean(),
  expires_at: bigint(),
  fallback_at: bigint({ nullable: true }),
  created_at: bigint(),
  /** When it was made or last started again. */
  requested_at: bigint(),
  updated_at: bigint(),
  position: text<Position>(),
};
export type DeliveryRow = RowOf<typeof columns>;
type DeliveryBody = Body<DeliveryRow, "id">;
type ReportData = DataOf<"DeliveryReported">;

export const deliveries = projection({
  name: "deliveries",
  version: 8,
  key: ["id"],
  columns,
  indexes: [
    "(notification_id, position)",
    "(client, position)",
    "(client, status, position)",
    "(client, subject, position)",
    "(client, created_at)",
    "(client, endpoint_id, position) where endpoint_id is not null",
    "(endpoint_id, position) where endpoint_id is not null and next_action_at is not null",
    "(next_action_at, id) where next_action_at is not null",
    "(client, subject, position) where to_push",
    "(notification_id) where status = 'fell_back'",
    "(client, provider_message_id) where provider_message_id is not null",
  ],
  personal: ["address", "name", "error", "mail_address", "mail_name"],
  on: {
    DeliveryRequested: (e) => [put([deliveryOf(e.stream)], requested(e.data, e))],
    DeliveryAttemptStarted: (e) => [
      moved(e, (row) => ({
        ...{ n: e.data.n, provider: e.data.provider, lease_until: e.data.leaseUntil },
        attempt_count: row.attempt_count + 1,
        ...{ next_attempt_at: null, held_until: null },
        next_action_at: e.data.leaseUntil,
      })),
    ],
    DeliveryLeaseExtended: (e) => [
      moved(e, () => ({ lease_until: e.data.leaseUntil, next_action_at: e.data.leaseUntil })),
    ],
    ProviderFailedOver: (e) => [
      change<DeliveryRow, DeliveryBody>([deliveryOf(e.stream)], (row) => ({
        ...row,
        ...{ provider: e.data.to, lease_until: e.data.leaseUntil, next_action_at: e.data.leaseUntil },
        updated_at: e.meta.at,
      })),
    ],
    DeliverySucceeded: (e) => [
      moved(e, (row) => ({
        ...ENDED,
        provider: e.data.provider,
        provider_message_id: e.data.providerMessageId,
        sent_at: e.meta.at,
        delivered_at: row.delivered_at ?? (e.data.to === "delivered" ? e.meta.at : null),
        // What the provider reported before says why it ends otherwise.
        error: FINAL_REPORTS.has(e.data.to) ? row.error : null,
      })),
    ],
    DeliveryAttemptFailed: (e) => [
      moved(e, () => ({ provider: e.data.provider, error: reveal(e.data.error), lease_until: null })),
    ],
    DeliveryRetryScheduled: (e) => [
      moved(e, () => ({ n: e.data.n, next_attempt_at: e.data.at, next_action_at: e.data.at })),
    ],
    DeliveryExhausted: (e) => [moved(e, (row) => ({ ...ENDED, error: row.error ?? deliveryFault(e.data.reason) }))],
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
        to_push: true,
        mail: e.data.mail,
        mail_recipient: e.data.mailRecipient,
        mail_address: reveal(e.data.address),
        mail_name: reveal(e.data.name),
      })),
    ],
    DeliveryCancelRequested: (e) => [moved(e, () => ({ cancel_requested: true }))],
    DeliveryCancelled: (e) => [moved(e, () => ENDED)],
    DeliveryExpired: (e) => [moved(e, () => ENDED)],
    DeliveryReported: (e) => [moved(e, (row) => reported(row, e.data))],
    DeliveryRedriven: (e) => [
      moved(e, (row) => ({
        ...due(row.channel, e.meta.at, e.data),
        // Numbers count on: the next attempt is another one when this one was made.
        n: row.attempt_count > 0 ? row.attempt_count + 1 : row.n,
        error: null,
        ...{ cancel_requested: false, held_until: null },
        expires_at: e.data.expiresAt,
        fallback_at: e.data.fallbackAt,
        requested_at: e.meta.at,
      })),
    ],
    DeliveryErased: (e) => [moved(e, erasedDelivery)],
    DeliverySuppressed: (e) => [moved(e, () => ({ ...ENDED, error: deliveryFault(e.data.reason) }))],
    DeliveryHeld: (e) => [moved(e, (row) => held(row, e.data))],
    DeliveryReleased: (e) => [
      moved(e, (row) => ({
        ...due(row.channel, e.meta.at, e.data),
        held_until: null,
      })),
    ],
  },
});

/** Nothing more happens by itself. */
const ENDED = {
  ...{ next_action_at: null, next_attempt_at: null, lease_until: null, held_until: null },
  to_push: false,
} as const;

function requested(data: DeliveryRequest, e: EventFacts): DeliveryBody {
  return {
    notification_id: data.notification,
    ...sourceColumns(data.source),
    subject: data.recipient,
    ...{ channel: data.channel, priority: data.priority, bulk: data.bulk, status: data.to },
    address: reveal(data.address),
    name: reveal(data.name),
    fallback_of: data.fallbackOf,
    ...{ n: 1, attempt_count: 0, cancel_requested: false, lease_until: null, held_until: null },
    ...{ sent_at: null, delivered_at: null, read_at: null, opened_at: null },
    ...{ provider: null, provider_message_id: null, error: null },
    ...{ mail: null, mail_recipient: null, mail_address: null, mail_name: null, erased: false },
    ...due(data.channel, e.meta.at, data),
    expires_at: data.expiresAt,
    fallback_at: data.fallbackAt,
    ...{ created_at: e.meta.at, requested_at: e.meta.at, updated_at: e.meta.at },
    position: e.position,
  };
}

const NO_ENDPOINT = {
  ...{
    endpoint_id: null,
    event_id: null,
    event_type: null,
    generation: null,
    batch_start: null,
    lane: null,
    previous: null,
  },
};
function sourceColumns(source: DeliveryRequest["source"]) {
  if ("notification" in source) return NO_ENDPOINT;
  const { endpoint, event, type, generation, batchStart, lane, previous } = source;
  const about = { endpoint_id: endpoint, event_id: event, event_type: type, batch_start: batchStart };
  return { ...about, generation, lane, previous };
}

/** What is due first for one that has just begun: there are no attempts on a WebSocket. */
function due(
  channel: Channel,
  at: Instant,
  { expiresAt, fallbackAt }: Pick<DeliveryRequest, "expiresAt" | "fallbackAt">,
) {
  if (channel !== "websocket") return { next_attempt_at: at, next_action_at: at, to_push: false };
  return { next_attempt_at: null, next_action_at: Math.min(expiresAt, fallbackAt ?? expiresAt), to_push: true };
}

/** One that waits: nothing is sent or shown until then, unless it expires before. */
function held(
  row: DeliveryRow,
  { channel, until, fallbackAt }: { channel: Channel; until: Instant; fallbackAt: Instant | null },
): Partial<DeliveryBody> {
  return {
    ...{ held_until: until, fallback_at: fallbackAt, to_push: false },
    next_attempt_at: channel === "websocket" ? null : until,
    next_action_at: Math.min(until, row.expires_at),
  };
}

const FAULTS: Readonly<Record<string, string>> = {
  no_address: "there is no address to send to",
  attempts_exhausted: "no attempt succeeded",
  preference: "the recipient does not want this category on this channel",
  throttled: "the recipient got as many with this throttle's key as it lets through",
  suppressed: "the address is on the list of suppressions",
  unsubscribed: "the recipient unsubscribed from mails like this",
  collapsed: "a newer notification with the same collapse_key replaced it",
};
export const deliveryFault = (code: string): DeliveryError => ({ code, message: FAULTS[code] ?? "it was given up" });

/** What is left of a delivery whose notification was deleted. */
export const erasedDelivery = (row: DeliveryRow): DeliveryRow => ({
  ...row,
  ...{ address: null, name: null, mail_address: null, mail_name: null, erased: true },
  error: withoutMessage(row.error),
});

/** Servers write addresses into their answers. */
export const withoutMessage = (error: DeliveryError | null): DeliveryError | null => error && deliveryFault(error.code);

const REPORTED_FAULTS = {
  bounced: "the mail was returned",
  complained: "the recipient reported the mail as unwanted",
} as const;

/** What a report changes besides the status. Of copies it is in the timeline alone. */
function reported(row: DeliveryRow, data: ReportData): Partial<DeliveryBody> {
  if (data.index !== 0) return {};
  const { kind, to, happenedAt } = data;
  const ended = row.status !== to && hasEnded(to) ? ENDED : {};
  if (kind === "opened") return { opened_at: Math.min(row.opened_at ?? happenedAt, happenedAt) };
  if (kind === "delivered") {
    const cleared = to === "delivered" ? { error: null } : {};
    return { ...ended, ...cleared, delivered_at: row.delivered_at ?? happenedAt };
  }
  if (kind !== "bounced" && kind !== "complained") return {};
  // What was final before stays as it was reported first, and a soft bounce is the error of a mail that is sent alone.
  const isSoft = reportedStatus(data) === null;
  if (isSoft ? row.status !== "sent" : row.status === to && hasEnded(to)) return {};
  const message = row.erased ? null : reveal(data.message);
  const error = { code: data.code ?? kind, message: message ?? REPORTED_FAULTS[kind] };
  return { ...ended, error };
}

/** Any event after the first; the status is always the one that it ends in. */
const moved = (
  e: EventFacts & { data: { to: DeliveryStatus } },
  changed: (row: DeliveryRow) => Partial<DeliveryBody>,
): RowChange<DeliveryRow, DeliveryBody> =>
  change([deliveryOf(e.stream)], (row) => ({ ...row, ...changed(row), status: e.data.to, updated_at: e.meta.at }));

type DeliveryList = {
  ids?: readonly DeliveryId[];
  statuses?: readonly DeliveryStatus[];
  limit: number;
  cursor?: Cursor;
};

/** Oldest first. Throws InvalidCursor. */
export async function deliveriesOf(
  read: ReadAs,
  notification: NotificationId,
  { ids, statuses, limit, cursor }: DeliveryList,
): Promise<Page<DeliveryRow>> {
  let query = read.over({ d: deliveries }).selectFrom("d").selectAll().where("notification_id", "=", notification);
  if (ids !== undefined) query = query.where(anyOf("id", ids));
  if (statuses !== undefined) query = query.where(anyOf("status", statuses));
  return readPage(read, query, { by: { position: "text" }, order: "asc", limit, cursor }, (last) => [last.position]);
}

/** The mail that a provider gave this id when it took it. */
export async function deliveryByMessageId(read: ReadAs, id: string): Promise<DeliveryId | undefined> {
  const query = read
    .over({ d: deliveries })
    .selectFrom("d")
    .select("id")
    .where("provider_message_id", "=", id)
    .limit(1);
  return first(await read.rows(query))?.id;
}
