// Starting deliveries again that ended without success.

import type { FieldFault } from "../../contract/errors.ts";
import type { Cursor } from "../../contract/fields.ts";
import { type DeliveryId, DeliveryIdSchema } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import { deliveryDecider, deliveryStream, REDRIVABLE } from "../../domain/delivery.ts";
import { DomainError, InvalidInput } from "../../domain/errors.ts";
import { deliveryId } from "../../event-store/derived-ids.ts";
import { decodeMetadata } from "../../event-store/envelope.ts";
import type { Position } from "../../event-store/event-store.ts";
import { mapBounded } from "../../platform/bounded.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { writtenBy } from "../../projections/models/audit.ts";
import { type DeliveryRow, deliveriesOf } from "../../projections/models/deliveries.ts";
import type { NotificationRow } from "../../projections/models/notifications.ts";
import { positionOf, viewAsOf } from "./as-of.ts";
import { type Change, type Changed, ownNotification, rowNow } from "./change.ts";
import { plannedFor } from "./view.ts";

const COMMANDS_AT_ONCE = 32;
const PAGE = 1_000;

/**
 * Starts again what is exhausted, bounced or expired, of all deliveries or those named. A repetition under the same key
 * finishes what a crash cut short, and leaves alone what ended later. Throws not_found, nothing_to_retry, InvalidInput.
 */
export async function retry(change: Change, named: string, wanted: readonly string[] | null): Promise<Changed> {
  const { services, read, context, at } = change;
  const id = await ownNotification(change, named);
  const row = await rowNow(change, id);
  const before = await doneBefore(change);
  const ended = await endedDeliveries(change, row, wanted);
  const again = before.since === null ? ended : ended.filter((one) => one.updated_at <= (before.since ?? 0));
  const targets = [...new Set([...before.deliveries, ...again.map((one) => one.id)])];
  const outcomes = await mapBounded(targets, COMMANDS_AT_ONCE, async (delivery) => {
    const stream = deliveryStream(delivery);
    const outcome = await services.commands.execute(deliveryDecider, stream, { type: "Redrive", at }, context);
    failpoint("redriven/next-redriven");
    const last = outcome.events.at(-1);
    const upTo = last === undefined ? null : await positionOf(services, stream, last.revision);
    return { upTo, position: outcome.position, replayed: outcome.replayed };
  });
  const upTo = latest(outcomes.map((outcome) => outcome.upTo));
  if (upTo === null) throw new DomainError("nothing_to_retry");
  return {
    view: await viewAsOf(services, read, id, upTo),
    position: latest(outcomes.map((outcome) => outcome.position)) ?? upTo,
    replayed: outcomes.every((outcome) => outcome.replayed || outcome.upTo === null),
  };
}

const latest = (positions: readonly (Position | null)[]): Position | null =>
  positions.reduce((one, other) => (one === null || (other !== null && other > one) ? other : one), null);

type Before = { readonly deliveries: readonly DeliveryId[]; readonly since: Instant | null };

/** What the same request did before. Throws idempotency_key_reused when it had another body. */
async function doneBefore({ services, read, context }: Change): Promise<Before> {
  if (context.fingerprint === undefined) return { deliveries: [], since: null };
  const rows = await writtenBy(read, context.commandId);
  if (rows.some((row) => row.fingerprint !== context.fingerprint)) {
    throw new DomainError("idempotency_key_reused", "the key was used with another body");
  }
  const times = await mapBounded(rows, COMMANDS_AT_ONCE, async ({ stream, first }) => {
    const [event] = await services.store.readStream(stream, { from: first, limit: 1 });
    return event === undefined ? Number.POSITIVE_INFINITY : decodeMetadata(event).at;
  });
  const prefix = deliveryStream("dlv_").length - "dlv_".length;
  const deliveries = rows.map(({ stream }) => DeliveryIdSchema.parse(stream.slice(prefix)));
  return { deliveries, since: rows.length === 0 ? null : Math.min(...times) };
}

/** The deliveries that can be started again. Throws InvalidInput for ids that the notification does not have. */
async function endedDeliveries(
  { services, read }: Change,
  row: NotificationRow,
  wanted: readonly string[] | null,
): Promise<readonly DeliveryRow[]> {
  const ids = wanted === null ? undefined : wanted.flatMap((one) => DeliveryIdSchema.safeParse(one).data ?? []);
  const found: DeliveryRow[] = [];
  let cursor: Cursor | null = [];
  while (cursor !== null) {
    const page = cursor.length === 0 ? {} : { cursor };
    const statuses = wanted === null ? { statuses: REDRIVABLE } : {};
    const { rows, next } = await deliveriesOf(read, row.id, {
      limit: PAGE,
      ...page,
      ...statuses,
      ...(ids === undefined ? {} : { ids }),
    });
    found.push(...rows);
    cursor = next;
  }
  if (wanted !== null) {
    const planned = await plannedFor(services, read, row);
    const known = new Set<string>([
      ...found.map((one) => one.id),
      ...planned.map(({ subject }) => deliveryId(row.id, subject, row.channel)),
    ]);
    const faults = wanted.flatMap((one, index) => (known.has(one) ? [] : [unknownDelivery(index)]));
    if (faults.length > 0) throw new InvalidInput(faults);
  }
  return found.filter((one) => REDRIVABLE.includes(one.status) && one.address !== null);
}

const unknownDelivery = (index: number): FieldFault => ({
  path: `delivery_ids.${index}`,
  code: "not_allowed",
  message: "is no delivery of this notification",
});
