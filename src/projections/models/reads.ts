// Read markers and unread counts (a difference of ordinals, each an index probe), and a user's rooms with them.
import { type RawBuilder, sql } from "kysely";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import type { Role } from "../../contract/rooms.ts";
import { reveal } from "../../domain/event.ts";
import { markersAfter, type ReadsEvent } from "../../domain/reads.ts";
import { keyset, type Page, pageOf, readPage } from "../page.ts";
import { bigint, integer, projection, type RowOf, roomOf, text, upsert } from "../projection.ts";
import { first, type ReadAs } from "../read-as.ts";
import { deletedAfter, deletions } from "./deletions.ts";
import { mentions, mentionsAfter } from "./mentions.ts";
import { MESSAGE_TABLES, messages, type ShownMessageRow, shownMessage } from "./messages.ts";
import { mayHavePosted, members, NEWEST_MEMBER_FIRST, type RoomRow, rooms } from "./rooms.ts";

const columns = {
  room_id: text<RoomId>(),
  subject: text<Subject>(),
  client: text<ClientId>(),
  user_id: text({ nullable: true }),
  seq: integer(),
  /** 0, or the room's head when the marker was set back: own messages up to there do not move it. */
  base: integer(),
  delivered_seq: integer(),
  /** When the read marker was set; null when it never was. */
  at: bigint({ nullable: true }),
};
type MarkersRow = RowOf<typeof columns>;

export const reads = projection({
  name: "reads",
  version: 3,
  key: ["room_id", "subject"],
  columns,
  indexes: ["(client, subject, room_id)"],
  personal: ["user_id"],
  on: {
    ReadMarked: (e) => [
      upsert([roomOf(e.stream), e.data.subject], (row) =>
        row !== undefined && e.data.base === null && row.seq >= e.data.seq
          ? undefined
          : { ...folded(row, e), at: e.meta.at },
      ),
    ],
    DeliveredMarked: (e) => [
      upsert([roomOf(e.stream), e.data.subject], (row) => ({ ...folded(row, e), at: row?.at ?? null })),
    ],
  },
});

function folded(row: MarkersRow | undefined, event: ReadsEvent) {
  const before = row && { read: row.seq, base: row.base, delivered: row.delivered_seq };
  const { read, base, delivered } = markersAfter(before, event);
  return { user_id: reveal(event.data.user), seq: read, base, delivered_seq: delivered };
}

/** The read models that markers are made of, and those of unread counts, by the names that the queries below use. */
const MARKER_TABLES = { m: members, r: rooms, d: reads, t: messages };
const UNREAD_TABLES = { ...MARKER_TABLES, x: deletions, mn: mentions };

/**
 * How far the member `m` has read its room `r` and received it, over messages `t` and reads `d`, which `marked` gives. Joining
 * reads what came before, and so does what one posts oneself, unless the marker was set back since. (`offset 0`: what is
 * found is looked up once, not wherever it is used.)
 */
const markersOfMember = (marked: RawBuilder<unknown>) => sql<Markers>`(
  select greatest(known.implicit_seq, known.seq) as read_seq,
    greatest(known.implicit_seq, known.seq, known.delivered_seq, known.own_seq) as delivered_seq,
    known.implicit_seq, known.base
  from (
    select d.seq, d.delivered_seq, own.seq as own_seq, coalesce(d.base, 0) as base,
      greatest(m.joined_seq, case when own.seq > coalesce(d.base, 0) then own.seq end) as implicit_seq
    from ${marked}
    cross join lateral (select case when ${mayHavePosted(sql`m.subject`)} then greatest(
      (select t.seq from t where t.room_id = m.room_id and t.sender = m.subject order by t.seq desc limit 1),
      case when r.ended_seq > 0 then (select t.end_seq from t
        where t.room_id = m.room_id and t.sender = m.subject and t.end_seq is not null
        order by t.end_seq desc limit 1) end) end as seq
    ) as own
    offset 0
  ) known
  offset 0
)`;
/** Looked up for each member. */
const LOOKED_UP = sql`(select 1) as one left join d on d.room_id = m.room_id and d.subject = m.subject`;
/** Of reads `k`, which were joined to members by the query. */
const JOINED = sql`(select k.seq, k.base, k.delivered_seq) as d`;
type Markers = {
  readonly read_seq: number;
  readonly delivered_seq: number;
  /** What joining and one's own messages have read. */
  readonly implicit_seq: number;
  readonly base: number;
};

/**
 * How much of the room `r` its member `m` has not read. A message that grew counts from its end on. Deleted messages keep
 * their ordinal and are subtracted; of one's own only those after a marker that was set back are unread by it, and
 * subtracted too. So are those that others began before a joining that hides them. What the room's row rules out is not
 * looked up: in most rooms nothing is.
 */
const unreadOfMember = (marked: RawBuilder<unknown>) =>
  sql<Unread>`lateral (
  select marker.read_seq, marker.delivered_seq, case when r.counted_seq > marker.read_seq then greatest(0, r.ordinal
    - case when marker.read_seq > 0 then greatest(0, (select t.ordinal from t
        where t.room_id = m.room_id and t.seq <= marker.read_seq order by t.seq desc limit 1),
      case when r.ended_seq > 0 then (select t.end_ordinal from t
        where t.room_id = m.room_id and t.end_seq <= marker.read_seq order by t.end_seq desc limit 1) end) else 0 end
    - case when r.deleted_seq > marker.read_seq then ${deletedAfter(sql`m.room_id`, sql`marker.read_seq`)} else 0 end
    - case when marker.base > marker.read_seq then (select count(*)::int from t
        where t.room_id = m.room_id and t.sender = m.subject
          and (t.seq > marker.read_seq or t.end_seq > marker.read_seq)
          and t.state <> 'growing' and t.deleted_at is null and t.type <> 'system') else 0 end
    - /* fence: unread-unseen */ case when r.history = 'from_join' and r.ended_seq > marker.read_seq then (
        select count(*)::int from t
        where t.room_id = m.room_id and t.end_seq > marker.read_seq and t.seq < m.joined_seq
          and t.sender <> m.subject and t.deleted_at is null and t.type <> 'system') else 0 end /* end */
  ) else 0 end as unread_count,
    case when r.counted_seq > marker.read_seq then ${mentionsAfter(sql`marker.read_seq`)} else 0 end as mention_count
  from ${markersOfMember(marked)} marker
)`.as("unread");

const UNREAD = ["unread.read_seq", "unread.delivered_seq", "unread.unread_count", "unread.mention_count"] as const;
type Unread = Pick<Markers, "read_seq" | "delivered_seq"> & {
  readonly unread_count: number;
  readonly mention_count: number;
};

/** The markers of a member, without counting; undefined for anyone else and in a deleted room. */
export const markersOf = async (read: ReadAs, room: RoomId, subject: Subject): Promise<Markers | undefined> =>
  first(
    await read.rows(
      read
        .over(MARKER_TABLES)
        .selectFrom("m")
        .innerJoin("r", (join) => join.onRef("r.room_id", "=", "m.room_id").on((eb) => eb.not("r.deleted")))
        .crossJoin(sql<Markers>`lateral ${markersOfMember(LOOKED_UP)}`.as("markers"))
        .select(["markers.read_seq", "markers.delivered_seq", "markers.implicit_seq", "markers.base"])
        .where("m.room_id", "=", room)
        .where("m.subject", "=", subject),
    ),
  );

/** Members of rooms that are not deleted. */
const membersOfRooms = (read: ReadAs) =>
  read
    .over(UNREAD_TABLES)
    .selectFrom("m")
    .innerJoin("r", (join) => join.onRef("r.room_id", "=", "m.room_id").on((eb) => eb.not("r.deleted")));

/** Each with what is unread. */
const membersWithUnread = (read: ReadAs) => membersOfRooms(read).crossJoin(unreadOfMember(LOOKED_UP));

/** Of a member; undefined for anyone else and in a deleted room. */
export const unreadOf = async (read: ReadAs, room: RoomId, subject: Subject): Promise<Unread | undefined> =>
  first(
    await read.rows(
      membersWithUnread(read).select(UNREAD).where("m.room_id", "=", room).where("m.subject", "=", subject),
    ),
  );

/** A member's marker. `at` is when it was set; null when only joining or posting moved it. */
type ReadRow = Unread & {
  readonly room_id: RoomId;
  readonly subject: Subject;
  readonly user_id: string | null;
  readonly at: number | null;
  readonly position: string;
  readonly join_index: number;
};

/** The markers of a room's members, newest member first. Throws InvalidCursor. */
export async function listReads(
  read: ReadAs,
  room: RoomId,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<ReadRow>> {
  const query = membersWithUnread(read)
    .select(["m.room_id", "m.subject", "m.user_id", "m.position", "m.join_index"])
    .select(UNREAD)
    .select(sql<number | null>`(select d.at from d where d.room_id = m.room_id and d.subject = m.subject)`.as("at"))
    .where("m.room_id", "=", room);
  const page = { by: NEWEST_MEMBER_FIRST, order: "desc", limit, cursor } as const;
  return readPage(read, query, page, (last) => [last.position, last.join_index]);
}

export type UserRoom = Unread & {
  readonly room: RoomRow;
  readonly role: Role;
  /** The last one that is not deleted now and that the user sees. */
  readonly last_message: ShownMessageRow | null;
};

/** What a membership, its room and its markers say of what is unread, without looking into the room. */
const OWN = [
  ...(["m.room_id", "m.subject", "m.joined_seq", "r.activity_position", "r.counted_seq", "r.ordinal"] as const),
  ...(["r.ended_seq", "r.deleted_seq", "r.posters", "r.history", "k.seq", "k.base", "k.delivered_seq"] as const),
];

/** What is unread in all of `own`. Nearly all that the rows rule out is left out before anything is looked up in a room. */
const UNREAD_TOTAL = sql<number>`(
  select coalesce(sum(unread.unread_count), 0)::int from own as r
  cross join lateral (select r.room_id, r.subject, r.joined_seq) as m
  cross join lateral (select r.seq, r.base, r.delivered_seq) as k
  cross join ${unreadOfMember(JOINED)}
  where r.counted_seq > greatest(r.joined_seq, r.seq)
)`;

/**
 * A user's rooms, newest activity first, and what is unread in all of them together: a room that moves while one pages may
 * come twice or not at all, the others come once. For each page the user's memberships are looked through once, by what an
 * index of theirs and the rooms' rows hold; all else is read for the page alone. Throws InvalidCursor.
 */
export async function roomsOfUser(
  read: ReadAs,
  subject: Subject,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<UserRoom> & { readonly unreadTotal: number }> {
  const own = membersOfRooms(read)
    .leftJoin("d as k", (join) => join.onRef("k.room_id", "=", "m.room_id").onRef("k.subject", "=", "m.subject"))
    .select(OWN)
    .where("m.subject", "=", subject);
  const db = read.over(UNREAD_TABLES).with(
    (cte) => cte("own").materialized(),
    () => own,
  );
  const page = { by: { "own.activity_position": "text" }, order: "desc", limit, cursor } as const;
  const query = db
    .selectFrom((eb) => keyset(eb.selectFrom("own").select("own.room_id"), page).as("listed"))
    .innerJoin("m", (join) => join.onRef("m.room_id", "=", "listed.room_id").on("m.subject", "=", subject))
    .innerJoin("r", "r.room_id", "listed.room_id")
    .crossJoin(unreadOfMember(LOOKED_UP))
    .selectAll("r")
    .select(["m.role", "m.joined_seq", ...UNREAD, UNREAD_TOTAL.as("unread_total")])
    .orderBy("r.activity_position", "desc");
  const entries = await read.rows(query, `rooms of a user${cursor === undefined ? "" : ", a later page"}`);
  if (entries.length === 0) {
    // Nothing is left after the cursor, or there is nothing at all.
    const { unreadTotal } = cursor === undefined ? { unreadTotal: 0 } : await roomsOfUser(read, subject, { limit: 1 });
    return { rows: [], next: null, unreadTotal };
  }
  const found = pageOf(entries, limit, (last) => [last.activity_position]);
  const last = await lastMessages(
    read,
    found.rows.map((entry) => entry.room_id),
  );
  const rows = found.rows.map(
    ({ role, joined_seq, read_seq, delivered_seq, unread_count, mention_count, unread_total, ...room }) => {
      const message = last.get(room.room_id) ?? null;
      // fence: last-unseen
      const unseen = room.history === "from_join" && message !== null && message.seq < joined_seq;
      const unread = { read_seq, delivered_seq, unread_count, mention_count };
      return { room, role, ...unread, last_message: unseen ? null : message };
    },
  );
  return { rows, next: found.next, unreadTotal: entries[0]?.unread_total ?? 0 };
}

async function lastMessages(read: ReadAs, ids: readonly RoomId[]): Promise<ReadonlyMap<RoomId, ShownMessageRow>> {
  if (ids.length === 0) return new Map();
  const db = read.over(MESSAGE_TABLES);
  const rows = await read.rows(
    db
      .selectFrom(sql<{ room_id: RoomId }>`unnest(${ids}::text[])`.as<"wanted">(sql`wanted(room_id)`))
      .innerJoinLateral(
        (eb) =>
          eb
            .selectFrom("m")
            .select(shownMessage)
            .whereRef("m.room_id", "=", "wanted.room_id")
            .where("m.deleted_at", "is", null)
            .orderBy("m.seq", "desc")
            .limit(1)
            .as("last"),
        (join) => join.onTrue(),
      )
      .selectAll("last"),
    "last messages",
  );
  return new Map(rows.map((row) => [row.room_id, row]));
}

/** The last message before a seq that is not deleted now and that who joined with the seq sees. */
export const lastMessageBefore = async (
  read: ReadAs,
  room: RoomId,
  seq: number,
): Promise<ShownMessageRow | undefined> =>
  first(
    await read.rows(
      read
        .over({ ...MESSAGE_TABLES, r: rooms })
        .selectFrom("m")
        .select(shownMessage)
        .where("m.room_id", "=", room)
        .where("m.deleted_at", "is", null)
        .where("m.seq", "<", seq)
        // fence: follow-last-unseen
        .where(sql<boolean>`exists (select from r where r.room_id = m.room_id and r.history = 'all')`)
        .orderBy("m.seq", "desc")
        .limit(1),
    ),
  );
