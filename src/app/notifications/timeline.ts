// The timeline of a notification: every event of it and of its deliveries.

import type { Cursor } from "../../contract/fields.ts";
import type { NotificationId } from "../../contract/ids.ts";
import { deliveryStream } from "../../domain/delivery.ts";
import { notificationStream } from "../../domain/notification.ts";
import { type AuditRow, audit } from "../../projections/models/audit.ts";
import { deliveries } from "../../projections/models/deliveries.ts";
import { type Page, pageOf, readCursor } from "../../projections/page.ts";
import type { ReadAs } from "../../projections/read-side.ts";
import { sql } from "../../projections/sql.ts";

/** What the names of deliveries' streams begin with. */
export const DELIVERY_PREFIX = deliveryStream("dlv_").slice(0, -"dlv_".length);

/** Where its events stand, in the order of the log; the mails of its fallbacks included. Throws InvalidCursor. */
export async function timelinePage(
  read: ReadAs,
  id: NotificationId,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<AuditRow>> {
  const [after = ""] = readCursor(cursor, ["text"]) ?? [];
  const rows = await read.rows<AuditRow>(sql`
    select * from ${audit} a
    where a.position > ${after} and a.stream = any(
      select ${notificationStream(id)}
      union all select ${DELIVERY_PREFIX} || d.id from ${deliveries} d where d.notification_id = ${id})
    order by a.position limit ${limit + 1}`);
  return pageOf(rows, limit, (last) => [last.position]);
}
