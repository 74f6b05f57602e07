// Finding notifications.

import type { Cursor } from "../../contract/fields.ts";
import type { NotificationId, RoomId, Subject } from "../../contract/ids.ts";
import type { Channel, NotificationStatus } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, pageOf, readCursor } from "../page.ts";
import { first, type ReadAs } from "../read-as.ts";
import { all, sql } from "../sql.ts";
import { type NotificationRow, notifications } from "./notifications.ts";
import { recipients } from "./recipients.ts";

export const notificationById = async (read: ReadAs, id: NotificationId): Promise<NotificationRow | undefined> =>
  first(await read.rows<NotificationRow>(sql`select * from ${notifications} n where id = ${id}`));

export type NotificationList = {
  statuses?: readonly NotificationStatus[];
  channels?: readonly Channel[];
  /** Whose deliveries: the subjects of user ids or addresses, any of them. */
  recipient?: Subject | readonly Subject[];
  roomIds?: readonly RoomId[];
  ids?: readonly NotificationId[];
  /** `from` inclusive and `to` exclusive bound the creation. */
  from?: Instant;
  to?: Instant;
  limit: number;
  cursor?: Cursor;
};

/** Newest first. Throws InvalidCursor. */
export async function listNotifications(read: ReadAs, list: NotificationList): Promise<Page<NotificationRow>> {
  const { statuses, channels, roomIds, ids, from, to, limit } = list;
  const people = typeof list.recipient === "string" ? [list.recipient] : list.recipient;
  const [before] = readCursor(list.cursor, ["text"]) ?? [];
  const place = people === undefined ? sql`n.position` : sql`p.position`;
  const source =
    people === undefined
      ? sql`${notifications} n`
      : sql`${recipients} p join ${notifications} n on n.id = p.notification_id`;
  const where = all(
    before === undefined ? undefined : sql`${place} < ${before}`,
    people === undefined ? undefined : oneOf(sql`p.subject`, people),
    // Once for all of them, at the place of the first.
    people === undefined || people.length === 1
      ? undefined
      : sql`not exists (
          select from ${recipients} q
          where q.notification_id = p.notification_id and ${oneOf(sql`q.subject`, people)}
            and (q.position, q.subject) < (p.position, p.subject))`,
    statuses === undefined ? undefined : oneOf(sql`n.status`, statuses),
    channels === undefined ? undefined : oneOf(sql`n.channel`, channels),
    roomIds === undefined ? undefined : oneOf(sql`n.room_id`, roomIds),
    ids === undefined ? undefined : oneOf(sql`n.id`, ids),
    from === undefined ? undefined : sql`n.created_at >= ${from}`,
    to === undefined ? undefined : sql`n.created_at < ${to}`,
  );
  const rows = await read.rows<NotificationRow & { place: Position }>(
    sql`select n.*, ${place} as place from ${source} where ${where} order by ${place} desc limit ${limit + 1}`,
  );
  return pageOf(rows, limit, (last) => [last.place]);
}

/** One value is compared by `=`, so that an index that begins with the column gives the order too. */
const oneOf = (column: ReturnType<typeof sql>, values: readonly string[]) =>
  values.length === 1 ? sql`${column} = ${values[0] ?? ""}` : sql`${column} = any(${values})`;
