// The inbox: a user's WebSocket notifications with what their own marks made of them, and the marks on all of it.
import { type RawBuilder, sql } from "kysely";
import type { ClientId, DeliveryId, NotificationId, Subject } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import type { InboxMark } from "../../domain/inbox.ts";
import type { Position } from "../../event-store/event-store.ts";
import {
  type Body,
  bigint,
  boolean,
  change,
  deliveryOf,
  type EventFacts,
  integer,
  projection,
  put,
  type RowOf,
  remove,
  subjectOf,
  text,
} from "../projection.ts";
import type { OperatorRead } from "../read-as.ts";

const columns = {
  id: text<DeliveryId>(),
  client: text<ClientId>(),
  subject: text<Subject>(),
  notification_id: text<NotificationId>(),
  /** By its own marks alone: `new` when it has none, `unread` when it was marked so again. */
  item: text<"new" | "unread" | "read" | "archived">(),
  /** The last mark that made it unread, and that took it out of the archive: marks on the whole inbox before do not count. */
  unread_after: text<Position>({ nullable: true }),
  unarchived_after: text<Position>({ nullable: true }),
  seen_at: bigint({ nullable: true }),
  read_at: bigint({ nullable: true }),
  archived_at: bigint({ nullable: true }),
  created_at: bigint(),
  position: text<Position>(),
};
export type InboxRow = RowOf<typeof columns>;

export const inbox = projection({
  name: "inbox",
  version: 1,
  key: ["id"],
  columns,
  indexes: [
    "(client, subject, item, position)",
    "(client, subject, created_at, position)",
    "(client, subject, position) where unarchived_after is not null",
  ],
  personal: [],
  on: {
    DeliveryRequested: (e) => {
      const { channel, recipient: subject, notification } = e.data;
      if (channel !== "websocket" || notification === null) return [];
      const unmarked = { unread_after: null, unarchived_after: null, seen_at: null, read_at: null, archived_at: null };
      const about = { subject, notification_id: notification, created_at: e.meta.at, position: e.position };
      return [put([deliveryOf(e.stream)], { ...about, item: "new", ...unmarked })];
    },
    DeliveryMarked: (e) => [change<InboxRow, Body<InboxRow, "id">>([deliveryOf(e.stream)], (row) => marked(row, e))],
    DeliveryErased: (e) => [remove([deliveryOf(e.stream)])],
    // What is not sent is in no inbox.
    DeliveryCancelled: (e) => [remove([deliveryOf(e.stream)])],
    DeliverySuppressed: (e) => [remove([deliveryOf(e.stream)])],
  },
});

type Marked = EventFacts & { readonly data: { readonly as: "read" | "unread" | "archived" | "unarchived" } };

function marked(row: InboxRow, { data, meta: { at }, position }: Marked): InboxRow {
  const read = { seen_at: row.seen_at ?? at, read_at: row.read_at ?? at };
  switch (data.as) {
    case "read":
      return { ...row, ...read, item: row.item === "archived" ? row.item : "read" };
    case "archived":
      return { ...row, ...read, item: "archived", archived_at: row.archived_at ?? at };
    case "unarchived":
      return { ...row, ...read, item: "read", archived_at: null, unarchived_after: position };
    case "unread": {
      const after = { unread_after: position, unarchived_after: position };
      return { ...row, item: "unread", read_at: null, archived_at: null, ...after };
    }
  }
}

/** What a mark includes: those of a lower level. */
const LEVEL: Readonly<Record<InboxMark, number>> = { seen: 1, read: 2, archived: 3 };

const markColumns = {
  subject: text<Subject>(),
  revision: integer(),
  client: text<ClientId>(),
  level: integer(),
  /** Null: of every item before it. */
  before_at: bigint({ nullable: true }),
  at: bigint(),
  /** Whether the deliveries that it read are acknowledged. */
  acknowledged: boolean(),
  position: text<Position>(),
};
type MarkRow = RowOf<typeof markColumns>;

export const inboxMarks = projection({
  name: "inbox_marks",
  version: 1,
  key: ["subject", "revision"],
  columns: markColumns,
  indexes: [
    "(client, subject, level, position)",
    "(client, subject, level, before_at) where before_at is not null",
    "(position) where not acknowledged",
  ],
  personal: [],
  on: {
    InboxMarked: (e) => [
      put([subjectOf(e.stream), e.revision], {
        ...{ level: LEVEL[e.data.as], before_at: e.data.beforeAt, at: e.meta.at, position: e.position },
        acknowledged: e.data.as === "seen",
      }),
    ],
    InboxAcknowledged: (e) => [
      change<MarkRow, Body<MarkRow, "subject" | "revision">>([subjectOf(e.stream), e.data.mark], (row) => ({
        ...row,
        acknowledged: true,
      })),
    ],
  },
});

/** Marks whose deliveries are not known to be acknowledged, oldest first. */
export const unacknowledgedMarks = (
  operator: OperatorRead,
  limit: number,
  after: Position | null = null,
): Promise<readonly MarkRow[]> =>
  operator.rows(
    operator
      .over({ k: inboxMarks })
      .selectFrom("k")
      .selectAll()
      .where((eb) => eb.not("acknowledged"))
      .where("position", ">", after ?? ("" as Position))
      .orderBy("position")
      .limit(limit),
  );

// What marks on the whole inbox make of its items: facts of two streams, joined when read. Pieces of queries over items `i`
// and marks `k`.

const levelsFrom = (mark: InboxMark): readonly number[] => Object.values(LEVEL).filter((level) => level >= LEVEL[mark]);
const each = (mark: InboxMark, one: (level: number) => RawBuilder<unknown>) => sql.join(levelsFrom(mark).map(one));

/** The position up to which a subject's items are marked at least so, unless they were marked otherwise themselves since. */
export const markedUpTo = (subject: RawBuilder<Subject>, mark: InboxMark): RawBuilder<Position> =>
  sql`greatest('', ${each(
    mark,
    (level) => sql`(select k.position from k where k.subject = ${subject} and k.level = ${sql.lit(level)}
    and k.before_at is null order by k.position desc limit 1)`,
  )}, (select i.position from i where i.subject = ${subject} and i.created_at < (select greatest(${each(
    mark,
    (level) => sql`(select k.before_at from k where k.subject = ${subject} and k.level = ${sql.lit(level)}
    and k.before_at is not null order by k.before_at desc limit 1)`,
  )})) order by i.created_at desc, i.position desc limit 1))`;

/** When the item `i` was first marked so by a mark on the whole inbox after a position; null: it was not. */
export const markedAt = (
  mark: InboxMark,
  after: "unread_after" | "unarchived_after" | null,
): RawBuilder<Instant | null> => {
  const from = after === null ? sql`i.position` : sql`greatest(i.position, ${sql.ref(`i.${after}`)})`;
  return sql`least(${each(
    mark,
    (
      level,
    ) => sql`(select k.at from k where k.subject = i.subject and k.level = ${sql.lit(level)} and k.position > ${from}
      and (k.before_at is null or i.created_at < k.before_at) order by k.position limit 1)`,
  )})`;
};
