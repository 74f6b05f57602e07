// Pages of an inbox, its counts, and what one item is: walks along an index, however many items there are.

import { type Expression, type RawBuilder, type SqlBool, sql } from "kysely";
import type { Priority } from "../../contract/deliveries.ts";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, DeliveryId, NotificationId, RoomId, Subject } from "../../contract/ids.ts";
import type { InboxStatus } from "../../contract/inbox.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { Instant } from "../../contract/time.ts";
import { type Position, parsePosition } from "../../event-store/event-store.ts";
import { type Page, pageOf, readCursor } from "../page.ts";
import { type Body, bigint, integer, projection, type RowMove, type RowOf, text, upsert } from "../projection.ts";
import { anyOf, first, type ReadAs } from "../read-as.ts";
import { type InboxRow, inbox, inboxMarks, markedAt, markedUpTo } from "./inbox.ts";
import { notifications } from "./notifications.ts";

// How many unmarked items an inbox has, by blocks of log positions: counting them costs the same however many there are.

/**
 * Positions of a small and of a large block. Positions are numbers of events in one log and bytes in another: a log of 10^9 events
 * has 15 large blocks, one of 100 GB 1,500. At most 4,096 small ones are looked at, and the items of one.
 */
const SMALL = 2 ** 14;
const LARGE = 2 ** 26;

const columns = {
  client: text<ClientId>(),
  subject: text<Subject>(),
  width: integer(),
  /** An item is in block position / width. */
  block: bigint(),
  count: integer(),
};
type BlockRow = RowOf<typeof columns>;

/** Items that have no mark of their own: `new` ones. What marks on the whole inbox made of them is known when it is read. */
export const inboxBlocks = projection({
  name: "inbox_blocks",
  version: 1,
  key: ["client", "subject", "width", "block"],
  columns,
  indexes: [],
  personal: [],
  on: {},
  derived: {
    from: inbox,
    changes: (moves: readonly RowMove<InboxRow>[]) => {
      const counts = new Map<string, { readonly key: readonly (string | number)[]; by: number }>();
      const add = (row: InboxRow | undefined, by: number) => {
        if (row?.item !== "new") return;
        const position = Number(parsePosition(row.position)?.value ?? 0n);
        for (const width of [SMALL, LARGE]) {
          const key = [row.client, row.subject, width, Math.floor(position / width)];
          const name = JSON.stringify(key);
          const known = counts.get(name);
          if (known === undefined) counts.set(name, { key, by });
          else known.by += by;
        }
      };
      for (const { before, after } of moves) {
        add(before, -1);
        add(after, 1);
      }
      const changed = [...counts.values()].filter(({ by }) => by !== 0);
      return changed.map(({ key, by }) =>
        upsert<BlockRow, Body<BlockRow, "client" | "subject" | "width" | "block">>(key, (row) => {
          const count = (row?.count ?? 0) + by;
          return count === 0 ? null : { count };
        }),
      );
    },
  },
});

/** Hexadecimal digits of a position's number, which follow the log's id. */
const DIGITS = 16;

/**
 * How many `new` items of a subject are after a position, over items `i` and blocks `x`: large blocks, small ones of the
 * position's large block, and the items of its small block. The position may be empty: all of them.
 */
const newItemsAfter = (subject: RawBuilder<Subject>, after: RawBuilder<Position>): RawBuilder<number> => {
  const number = sql<number>`coalesce(('x' || right(nullif(${after}, ''), ${sql.lit(DIGITS)}))::bit(64)::bigint, -1)`;
  const end = sql`left(${after}, -${sql.lit(DIGITS)}) || lpad(to_hex((p.n / ${sql.lit(SMALL)} + 1) * ${sql.lit(SMALL)}), ${sql.lit(DIGITS)}, '0')`;
  return sql<number>`(select
    (select coalesce(sum(x.count), 0) from x where x.subject = ${subject} and x.width = ${sql.lit(LARGE)}
      and x.block > case when p.n < 0 then -1 else p.n / ${sql.lit(LARGE)} end)
    + (select coalesce(sum(x.count), 0) from x where x.subject = ${subject} and x.width = ${sql.lit(SMALL)}
      and p.n >= 0 and x.block > p.n / ${sql.lit(SMALL)} and x.block < (p.n / ${sql.lit(LARGE)} + 1) * ${sql.lit(LARGE / SMALL)})
    + (select count(*) from i where i.subject = ${subject} and i.item = 'new' and p.n >= 0
      and i.position > ${after} and i.position < ${end})
    from (select ${number} as n offset 0) p)`;
};

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
