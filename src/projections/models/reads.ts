// Read markers, and what is unread: a difference of ordinals, each an index probe.

import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import { reveal } from "../../domain/event.ts";
import { type Page, pageOf, readCursor } from "../page.ts";
import { bigint, integer, projection, type RowOf, text, upsert } from "../projection.ts";
import { first, type ReadAs } from "../read-as.ts";
import { all, sql } from "../sql.ts";
import { roomOf } from "../stream-ids.ts";
import { members } from "./members.ts";
import { messages } from "./messages.ts";
import { rooms } from "./rooms.ts";

const columns = {
  room_id: text<RoomId>(),
  subject: text<Subject>(),
  client: text<ClientId>(),
  user_id: text({ nullable: true }),
  seq: integer(),
  at: bigint(),
};
type StoredRead = RowOf<typeof columns>;

export const reads = projection({
  name: "reads",
  version: 1,
  key: ["room_id", "subject"],
  columns,
  indexes: [],
  personal: ["user_id"],
  on: {
    ReadMarked: (e) => {
      const { client, at } = e.meta;
      if (client === null) return [];
      return [
        upsert([roomOf(e.stream), e.data.subject], (row) =>
          row !== undefined && row.seq >= e.data.seq
            ? undefined
            : { client, user_id: reveal(e.data.user), seq: e.data.seq, at },
        ),
      ];
    },
  },
});

/**
 * How far the member `m` has read the room `r`, and how much of it is unread, as `unread.read_seq` and
 * `unread.unread_count`; for `from … cross join`. What one posted oneself is read, and so is what came before joining:
 * nothing of one's own is ever unread. Deleted messages keep their ordinal and are taken off again. (`offset 0`: the
 * marker is looked up once, not wherever it is used.)
 */
export const unreadOfMember = sql`lateral (
  select marker.read_seq, greatest(0, r.ordinal
    - coalesce((select t.ordinal from ${messages} t
        where t.room_id = m.room_id and t.seq <= marker.read_seq order by t.seq desc limit 1), 0)
    - (select count(*)::int from ${messages} t
        where t.room_id = m.room_id and t.seq > marker.read_seq and t.deleted_at is not null and t.type <> 'system')
  ) as unread_count
  from (select greatest(m.joined_seq,
    (select d.seq from ${reads} d where d.room_id = m.room_id and d.subject = m.subject),
    (select t.seq from ${messages} t
      where t.room_id = m.room_id and t.sender = m.subject order by t.seq desc limit 1)) as read_seq
    offset 0) marker
) unread`;

type Unread = { readonly read_seq: number; readonly unread_count: number };

/** Of a member; undefined for anyone else and in a deleted room. */
export const unreadOf = async (read: ReadAs, room: RoomId, subject: Subject): Promise<Unread | undefined> =>
  first(
    await read.rows<Unread>(sql`
      select unread.read_seq, unread.unread_count from ${members} m
      join ${rooms} r on r.room_id = m.room_id and not r.deleted cross join ${unreadOfMember}
      where m.room_id = ${room} and m.subject = ${subject}`),
  );

/** A member's marker. `at` is when it was set; null when only joining or posting moved it. */
type ReadRow = Unread & {
  readonly room_id: RoomId;
  readonly subject: Subject;
  readonly user_id: string | null;
  readonly at: number | null;
  readonly position: string;
  readonly place: number;
};

/** The markers of a room's members, newest member first. Throws InvalidCursor. */
export async function listReads(
  read: ReadAs,
  room: RoomId,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<ReadRow>> {
  const before = readCursor(cursor, ["text", "integer"]);
  const where = all(
    sql`m.room_id = ${room}`,
    before === undefined ? undefined : sql`(m.position, m.place) < (${before[0]}, ${before[1]})`,
  );
  const rows = await read.rows<ReadRow & Pick<StoredRead, "at">>(sql`
    select m.room_id, m.subject, m.user_id, unread.read_seq, unread.unread_count, m.position, m.place,
      (select d.at from ${reads} d where d.room_id = m.room_id and d.subject = m.subject) as at
    from ${members} m join ${rooms} r on r.room_id = m.room_id and not r.deleted cross join ${unreadOfMember}
    where ${where} order by m.position desc, m.place desc limit ${limit + 1}`);
  return pageOf(rows, limit, (last) => [last.position, last.place]);
}
