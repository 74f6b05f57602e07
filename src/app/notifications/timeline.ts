// The timeline of a notification: every event of it and of its deliveries.

import type { Cursor } from "../../contract/fields.ts";
import type { NotificationId } from "../../contract/ids.ts";
import { type AuditRow, timelineOf } from "../../projections/models/audit.ts";
import { type Page, pageOf, readCursor } from "../../projections/page.ts";
import type { ReadAs } from "../../projections/read-side.ts";

/** Where its events stand, in the order of the log; the mails of its fallbacks included. Throws InvalidCursor. */
export async function timelinePage(
  read: ReadAs,
  id: NotificationId,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<AuditRow>> {
  const [after = ""] = readCursor(cursor, ["text"]) ?? [];
  const rows = await timelineOf(read, id, { after, limit: limit + 1 });
  return pageOf(rows, limit, (last) => [last.position]);
}
