// Deliveries whatever they are of: finding them, their events, and starting again what has failed for good, one or many.

import { setTimeout as sleep } from "node:timers/promises";
import type { AuditEventResource } from "../contract/audit.ts";
import {
  type AcceptedRedrive,
  type AnalyticsQuery,
  type AnalyticsReport,
  type DeliveryQuery,
  type DeliveryResource,
  type NewRedrive,
  RedrivableSchema,
  type RedriveResource,
} from "../contract/deliveries.ts";
import type { PageQuery } from "../contract/fields.ts";
import { type DeliveryId, DeliveryIdSchema, type RedriveId } from "../contract/ids.ts";
import { rfc3339, rfc3339OrNull } from "../contract/time.ts";
import { DomainError } from "../domain/decider.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import { deliveryStream } from "../domain/delivery-state.ts";
import { type RedriveCommand, type RedriveFilter, redriveDecider, redriveStream } from "../domain/redrive.ts";
import { deriveTail } from "../event-store/derived-ids.ts";
import { attemptsOf, erasedAttempt } from "../projections/models/attempts.ts";
import { type DeliveryRow, erasedDelivery } from "../projections/models/deliveries.ts";
import { deliveryFigures } from "../projections/models/delivery-figures.ts";
import {
  countRedrivable,
  deliveryById,
  listDeliveries as queryDeliveries,
} from "../projections/models/delivery-list.ts";
import { deletedAmong } from "../projections/models/notifications.ts";
import { redriveById } from "../projections/models/redrives.ts";
import type { Page } from "../projections/page.ts";
import type { ReadAs } from "../projections/read-side.ts";
import { streamTimeline } from "./audit.ts";
import { subjectsNamed } from "./create-notification.ts";
import { redriveGate } from "./delivery-gates.ts";
import { awaitReadModel, deliveryAsOf } from "./notification-views.ts";
import { deliveryResource } from "./resources.ts";
import type { Call, Written } from "./services.ts";
import { streamOwner } from "./stream-owner.ts";

/** Newest first. Throws InvalidCursor. */
export async function listDeliveries(
  { services, caller, read }: Call,
  query: DeliveryQuery,
): Promise<Page<DeliveryResource>> {
  const { limit, cursor, from, to, status: statuses, channel: channels, provider: providers } = query;
  const subjects = query.recipient?.map((one) => subjectsNamed(services.keyring, caller.client, one));
  const recipients = subjects && [...new Set((await Promise.all(subjects)).flat())];
  const filter = { statuses, channels, providers, recipients, endpoints: query.endpoint_id, from, to };
  const { rows, next } = await queryDeliveries(read, { limit, cursor, ...filter });
  return { rows: await withAttempts(read, rows), next };
}

async function withAttempts(read: ReadAs, rows: readonly DeliveryRow[]): Promise<readonly DeliveryResource[]> {
  const attempted = rows.filter((row) => row.attempt_count > 0).map((row) => row.id);
  const attempts = attempted.length === 0 ? [] : await attemptsOf(read, attempted);
  const ofDelivery = Map.groupBy(attempts, (attempt) => attempt.delivery_id);
  const deleted = await deletedAmong(read, [...new Set(rows.flatMap((row) => row.notification_id ?? []))]);
  return rows.map((row) => {
    const own = ofDelivery.get(row.id) ?? [];
    // Of a deleted notification also before the delivery's own erasure is recorded.
    return row.notification_id !== null && deleted.has(row.notification_id)
      ? deliveryResource(erasedDelivery(row), own.map(erasedAttempt))
      : deliveryResource(row, own);
  });
}

/** The pauses in which a look-up waits for a delivery that has its id already and is not made yet. */
const MAKING_PAUSES_MS = [50, 200, 750];

/**
 * What `find` gives, again for a while as long as it is not found: a delivery is made a moment after its notification was
 * accepted, or released. Another's is waited for like one that does not exist: the time tells nothing. Throws not_found.
 */
export async function onceMade<T>(find: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await find();
    } catch (error) {
      const missing = error instanceof DomainError && error.code === "not_found";
      if (!missing || attempt >= MAKING_PAUSES_MS.length) throw error;
    }
    await sleep(MAKING_PAUSES_MS[attempt]);
  }
}

async function rowOf(read: ReadAs, id: DeliveryId): Promise<DeliveryRow> {
  const row = await deliveryById(read, id);
  if (row === undefined) throw new DomainError("not_found");
  return row;
}

/** Throws not_found. */
export async function getDelivery({ read }: Call, id: DeliveryId): Promise<{ readonly delivery: DeliveryResource }> {
  const row = await onceMade(() => rowOf(read, id));
  const [delivery] = await withAttempts(read, [row]);
  if (delivery === undefined) throw new DomainError("not_found");
  return { delivery };
}

/** Every event of a delivery, oldest first. Throws not_found, InvalidCursor. */
export async function deliveryTimeline(
  call: Call,
  id: DeliveryId,
  query: PageQuery,
): Promise<Page<AuditEventResource>> {
  await onceMade(() => rowOf(call.read, id));
  return streamTimeline(call, deliveryStream(id), query);
}

/** Starts a delivery again that has failed for good. Throws not_found, nothing_to_retry. */
export async function redriveDelivery(
  call: Call,
  named: string,
): Promise<Written & { readonly delivery: DeliveryResource }> {
  const { services, read, at, context } = call;
  const { data: id } = DeliveryIdSchema.safeParse(named);
  if (
    id === undefined ||
    /* fence: tenant-delivery */ (await streamOwner(services.store, deliveryStream(id))) !== read.client
  ) {
    throw new DomainError("not_found");
  }
  const gate = await redriveGate(services.commands, read, id, at);
  const command = { type: "Redrive", at, gate } as const;
  const done = await services.commands.execute(deliveryDecider, deliveryStream(id), command, context);
  const last = done.events.at(-1);
  if (last === undefined) throw new DomainError("nothing_to_retry", "the delivery has not failed for good");
  const delivery = await deliveryAsOf(services, id, last.revision);
  return { delivery, position: done.position, replayed: done.replayed };
}

// Many at once.

const listed = <T>(value: T | readonly T[] | null): T[] | null =>
  value === null ? null : [...new Set(Array.isArray(value) ? value : [value as T])];

const filterOf = (wanted: NewRedrive): RedriveFilter => ({
  statuses: listed(wanted.status) ?? [...RedrivableSchema.options],
  channels: listed(wanted.channel),
  providers: listed(wanted.provider),
  endpoints: listed(wanted.endpoint_id),
  errorCodes: listed(wanted.error_code),
  fromAt: wanted.from,
  toAt: wanted.to,
});

/**
 * Requests a redrive of all deliveries that match; a job starts them again. Its id follows from the command's. Throws
 * read_model_behind.
 */
export async function requestRedrive(
  call: Call,
  wanted: NewRedrive,
): Promise<Written & { readonly redrive: AcceptedRedrive }> {
  const { services, context } = call;
  const id: RedriveId = `rdr_${deriveTail("redrive", context.commandId)}`;
  const command = await commandFor(call, id, wanted);
  const options = { newStream: true };
  const done = await services.commands.execute(redriveDecider, redriveStream(id), command, context, options);
  if (done.state.status === "none") throw new Error(`redrive ${id} was requested without an event`);
  return { redrive: { job_id: id, matched: done.state.matched }, position: done.position, replayed: done.replayed };
}

/** What was requested before is not counted again. */
async function commandFor(call: Call, id: RedriveId, wanted: NewRedrive): Promise<RedriveCommand> {
  const { services, read, context, at } = call;
  if (context.fingerprint !== undefined) {
    const { state } = await services.commands.load(redriveDecider, redriveStream(id));
    if (state.status !== "none") return { type: "Request", at, ...state };
  }
  const filter = filterOf(wanted);
  const upTo = await services.store.tail();
  await awaitReadModel(services, upTo);
  const matched = await countRedrivable(read, filter, { upTo, limit: wanted.limit });
  return { type: "Request", at, filter, matched };
}

/** Throws not_found. */
export async function getRedrive({ read }: Call, id: RedriveId): Promise<{ readonly redrive: RedriveResource }> {
  const row = await redriveById(read, id);
  if (row === undefined) throw new DomainError("not_found");
  const { status, matched, done, created_at, finished_at } = row;
  return {
    redrive: {
      ...{ id, status, matched, done },
      created_at: rfc3339(created_at),
      finished_at: rfc3339OrNull(finished_at),
    },
  };
}

/** The figures by group, and of all together. */
export async function notificationAnalytics({ read }: Call, query: AnalyticsQuery): Promise<AnalyticsReport> {
  const { from, to, type: types, room_id: roomIds, category: categories, tag: tags, group_by: group } = query;
  const { groups, totals } = await deliveryFigures(read, { from, to, types, roomIds, categories, tags, group });
  return { data: groups.map(({ name, figures }) => ({ [group]: name, ...figures })), totals };
}
