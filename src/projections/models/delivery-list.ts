// Finding deliveries: those of a notification, and those that a connected user is still to be offered.

import type { Cursor } from "../../contract/fields.ts";
import type { DeliveryId, NotificationId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject, JsonValue } from "../../contract/json.ts";
import type { DeliveryStatus, Priority } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, pageOf, readCursor } from "../page.ts";
import { first, type ReadAs } from "../read-as.ts";
import { all, sql } from "../sql.ts";
import { type DeliveryRow, deliveries } from "./deliveries.ts";
import { notifications } from "./notifications.ts";

export const deliveryById = async (read: ReadAs, id: DeliveryId): Promise<DeliveryRow | undefined> =>
  first(await read.rows<DeliveryRow>(sql`select * from ${deliveries} d where id = ${id}`));

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
  const [after] = readCursor(cursor, ["text"]) ?? [];
  const where = all(
    sql`notification_id = ${notification}`,
    after === undefined ? undefined : sql`position > ${after}`,
    ids === undefined ? undefined : sql`id = any(${ids})`,
    statuses === undefined ? undefined : sql`status = any(${statuses})`,
  );
  const rows = await read.rows<DeliveryRow>(
    sql`select * from ${deliveries} d where ${where} order by position limit ${limit + 1}`,
  );
  return pageOf(rows, limit, (last) => [last.position]);
}

/** What a notification's frame is made of. */
export type OfferedDelivery = {
  readonly id: DeliveryId;
  readonly notification_id: NotificationId;
  readonly status: "pending" | "fell_back";
  readonly subject: string | null;
  readonly content: JsonValue;
  readonly meta: JsonObject;
  readonly priority: Priority;
  readonly room_id: RoomId | null;
  readonly requested_at: Instant;
  readonly expires_at: Instant;
  readonly position: Position;
};

/**
 * WebSocket deliveries of a user that are not acknowledged and do not expire before `now`, those that fell back
 * included, oldest first. Throws InvalidCursor.
 */
export async function openWebsocketDeliveries(
  read: ReadAs,
  subject: Subject,
  { now, limit, cursor }: { now: Instant; limit: number; cursor?: Cursor },
): Promise<Page<OfferedDelivery>> {
  const [after] = readCursor(cursor, ["text"]) ?? [];
  const where = all(
    sql`d.offered and d.subject = ${subject} and d.expires_at > ${now}`,
    after === undefined ? undefined : sql`d.position > ${after}`,
  );
  const rows = await read.rows<OfferedDelivery>(sql`
    select d.id, d.notification_id, d.status, n.subject, n.content, n.meta, n.priority, n.room_id, d.requested_at,
      d.expires_at, d.position
    from ${deliveries} d join ${notifications} n on n.id = d.notification_id
    where ${where} order by d.position limit ${limit + 1}`);
  return pageOf(rows, limit, (last) => [last.position]);
}

/** How many WebSocket deliveries of a user are pending. */
export async function countOpen(read: ReadAs, subject: Subject): Promise<number> {
  const rows = await read.rows<{ count: number }>(sql`
    select count(*)::int as count from ${deliveries} d
    where d.offered and d.subject = ${subject} and d.status = 'pending'`);
  return rows[0]?.count ?? 0;
}
