// A user's rooms, as its inbox shows them: the last message, how far it was read, and what is unread.

import type { Cursor } from "../../contract/fields.ts";
import type { RoomId, Subject } from "../../contract/ids.ts";
import type { Role } from "../../contract/resources.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, pageOf, readCursor } from "../page.ts";
import type { ReadAs } from "../read-as.ts";
import { all, sql } from "../sql.ts";
import { members } from "./members.ts";
import { type MessageRow, messages, shownMessage } from "./messages.ts";
import { unreadOfMember } from "./reads.ts";
import { type RoomRow, rooms } from "./rooms.ts";

export type UserRoom = {
  readonly room: RoomRow;
  readonly role: Role;
  readonly read_seq: number;
  readonly unread_count: number;
  /** The last one that is not deleted now. */
  readonly last_message: MessageRow | null;
};

type Entry = RoomRow & { readonly role: Role; readonly read_seq: number; readonly unread_count: number };

/**
 * Newest activity first: a room that moves while one pages may come twice or not at all, the others come once. The
 * user's memberships are sorted for each page; what is costly is looked up for the page alone. Throws InvalidCursor.
 */
export async function roomsOfUser(
  read: ReadAs,
  subject: Subject,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<UserRoom>> {
  const [before] = readCursor(cursor, ["text"]) ?? [];
  const where = all(
    sql`m.subject = ${subject} and not r.deleted`,
    before === undefined ? undefined : sql`r.activity_position < ${before}`,
  );
  const entries = await read.rows<Entry>(sql`
    select r.*, m.role, unread.read_seq, unread.unread_count
    from (
      select m.room_id, m.subject, m.role, m.joined_seq from ${members} m join ${rooms} r on r.room_id = m.room_id
      where ${where} order by r.activity_position desc limit ${limit + 1}
    ) m
    join ${rooms} r on r.room_id = m.room_id
    cross join ${unreadOfMember}
    order by r.activity_position desc`);
  const page = pageOf<Entry>(entries, limit, (last) => [last.activity_position satisfies Position]);
  const last = await lastMessages(
    read,
    page.rows.map((entry) => entry.room_id),
  );
  const rows = page.rows.map(({ role, read_seq, unread_count, ...room }) => ({
    ...{ room, role, read_seq, unread_count },
    last_message: last.get(room.room_id) ?? null,
  }));
  return { rows, next: page.next };
}

async function lastMessages(read: ReadAs, ids: readonly RoomId[]): Promise<ReadonlyMap<RoomId, MessageRow>> {
  if (ids.length === 0) return new Map();
  const rows = await read.rows<MessageRow>(sql`
    select m.* from unnest(${ids}::text[]) as asked(room_id)
    cross join lateral (
      select ${shownMessage} from ${messages} m
      where m.room_id = asked.room_id and m.deleted_at is null order by m.seq desc limit 1
    ) m`);
  return new Map(rows.map((row) => [row.room_id, row]));
}

/** What is unread in all rooms of a user together. */
export async function unreadTotal(read: ReadAs, subject: Subject): Promise<number> {
  const rows = await read.rows<{ total: number }>(sql`
    select coalesce(sum(unread.unread_count), 0)::int as total
    from ${members} m join ${rooms} r on r.room_id = m.room_id and not r.deleted cross join ${unreadOfMember}
    where m.subject = ${subject}`);
  return rows[0]?.total ?? 0;
}
