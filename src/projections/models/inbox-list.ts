// Pages of an inbox, its counts, and what one item is: walks along an index, however many items there are.
import { type Expression, type RawBuilder, type SqlBool, sql } from "kysely";
import type { Priority } from "../../contract/deliveries.ts";
import type { Cursor } from "../../contract/fields.ts";
import type { DeliveryId, NotificationId, RoomId, Subject } from "../../contract/ids.ts";
import type { InboxStatus } from "../../contract/inbox.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { Instant } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, pageOf, readCursor } from "../page.ts";
import { anyOf, first, type ReadAs } from "../read-as.ts";
import { inbox, inboxMarks, markedAt, markedUpTo } from "./inbox.ts";
import { inboxBlocks, newItemsAfter } from "./inbox-blocks.ts";
import { notifications } from "./notifications.ts";

const TABLES = { i: inbox, k: inboxMarks, n: notifications, x: inboxBlocks };

type InboxCount = { readonly subject: Subject; readonly unread_count: number; readonly unseen_count: number };

/** What is unread and unseen in the inboxes of some users. */
export const countInboxes = (read: ReadAs, subjects: readonly Subject[]): Promise<readonly InboxCount[]> => {
  const own = sql<Subject>`s.subject`;
  const bound = (name: "read_to" | "seen_to") => sql<Position>`b.${sql.ref(name)}`;
  return read.rows(
    read
      .over(TABLES)
      .selectFrom(sql<{ subject: Subject }>`unnest(${subjects}::text[])`.as<"s">(sql`s(subject)`))
      // Each bound is looked up once.
      .crossJoin(
        sql<object>`lateral (select ${markedUpTo(own, "read")} as read_to, ${markedUpTo(own, "seen")} as seen_to offset 0)`.as(
          "b",
        ),
      )
      .select(own.as("subject"))
      .select(
        sql<number>`(${newItemsAfter(own, bound("read_to"))}
          + (select count(*) from i where i.subject = ${own} and i.item = 'unread' and i.position > b.read_to)
          + (select count(*) from i where i.subject = ${own} and i.item = 'unread' and i.position <= b.read_to
              and ${markedAt("read", "unread_after")} is null))::int`.as("unread_count"),
      )
      .select(sql<number>`${newItemsAfter(own, bound("seen_to"))}::int`.as("unseen_count")),
  );
};

type InboxList = {
  statuses: readonly InboxStatus[];
  categories?: readonly string[] | undefined;
  /** Only what was made before. */
  before?: Instant | undefined;
  limit: number;
  cursor?: Cursor | undefined;
};
export type InboxEntry = {
  readonly id: DeliveryId;
  readonly notification_id: NotificationId;
  readonly created_at: Instant;
  readonly position: Position;
  readonly seen_at: Instant | null;
  readonly read_at: Instant | null;
  readonly archived_at: Instant | null;
  readonly subject: string | null;
  readonly content: unknown;
  readonly meta: JsonObject;
  readonly priority: Priority;
  readonly category: string | null;
  readonly room_id: RoomId | null;
};

const READ_AT = sql<Instant | null>`least(i.read_at, ${markedAt("read", "unread_after")})`;
const ARCHIVED_AT = sql<Instant | null>`least(i.archived_at, ${markedAt("archived", "unarchived_after")})`;
const SEEN_AT = sql<Instant | null>`least(i.seen_at, ${markedAt("seen", null)})`;
const STATUS = sql<InboxStatus>`case when ${ARCHIVED_AT} is not null then 'archived'
  when ${READ_AT} is not null then 'read' else 'unread' end`;

/**
 * Which items have one of these statuses, each part along its index. By its own marks an item is in the index; those on the
 * whole inbox move all up to a bound, but for items that were marked unread, or taken out of the archive, after them: these
 * are few, and looked at one by one.
 */
function parts(statuses: readonly InboxStatus[]): readonly RawBuilder<SqlBool>[] {
  const own = (item: "new" | "read" | "archived") =>
    sql<SqlBool>`i.unarchived_after is null and i.item = ${sql.lit(item)}`;
  const ofStatus: Readonly<Record<InboxStatus, readonly RawBuilder<SqlBool>[]>> = {
    unread: [sql`${own("new")} and i.position > b.read_to`],
    read: [
      sql`${own("new")} and i.position > b.archived_to and i.position <= b.read_to`,
      sql`${own("read")} and i.position > b.archived_to`,
    ],
    archived: [
      sql`${own("new")} and i.position <= b.archived_to`,
      sql`${own("read")} and i.position <= b.archived_to`,
      own("archived"),
    ],
  };
  const changed = sql<SqlBool>`i.unarchived_after is not null and ${STATUS} = any(${statuses})`;
  return [...statuses.flatMap((status) => ofStatus[status]), changed];
}

/** Newest first. Throws InvalidCursor. */
export async function listInbox(read: ReadAs, subject: Subject, list: InboxList): Promise<Page<InboxEntry>> {
  const { statuses, categories, before, limit, cursor } = list;
  const [after] = readCursor(cursor, ["text"]) ?? [];
  const own = sql<Subject>`${subject}`;
  const conditions: Expression<SqlBool>[] = [];
  if (after !== undefined) conditions.push(sql`i.position < ${after}`);
  if (before !== undefined) conditions.push(sql`i.created_at < ${before}`);
  if (categories !== undefined)
    conditions.push(sql`exists (select from n where n.id = i.notification_id and ${anyOf("n.category", categories)})`);
  const also = conditions.length === 0 ? sql`true` : sql.join(conditions, sql` and `);
  const branches = parts(statuses).map(
    (part) => sql`(select i.* from i where i.subject = ${own} and ${part} and ${also}
      order by i.position desc limit ${limit + 1})`,
  );
  const rows = await read.rows(
    read
      .over(TABLES)
      .selectFrom(
        sql<object>`(select ${markedUpTo(own, "read")} as read_to, ${markedUpTo(own, "archived")} as archived_to offset 0)`.as(
          "b",
        ),
      )
      .crossJoin(
        sql<InboxEntry>`lateral (select i.* from (${sql.join(branches, sql` union all `)}) i
          order by i.position desc limit ${limit + 1})`.as("i"),
      )
      .innerJoin("n", "n.id", "i.notification_id")
      .select(["i.id", "i.notification_id", "i.created_at", "i.position"])
      .select([SEEN_AT.as("seen_at"), READ_AT.as("read_at"), ARCHIVED_AT.as("archived_at")])
      .select(["n.subject", "n.content", "n.meta", "n.priority", "n.category", "n.room_id"])
      .orderBy("i.position", "desc"),
  );
  return pageOf(rows as readonly InboxEntry[], limit, (last) => [last.position]);
}

/** What marks on the whole inbox made of an item; undefined when it is in no inbox of the client. */
export async function itemCovered(read: ReadAs, id: DeliveryId): Promise<InboxStatus | undefined> {
  const covered = sql<InboxStatus>`case when ${markedAt("archived", "unarchived_after")} is not null then 'archived'
    when ${markedAt("read", "unread_after")} is not null then 'read' else 'unread' end`;
  const query = read.over(TABLES).selectFrom("i").select(covered.as("covered")).where("i.id", "=", id);
  return first(await read.rows(query))?.covered;
}
