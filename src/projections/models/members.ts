// Members of rooms, as they are now.

import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { Role } from "../../contract/resources.ts";
import { reveal } from "../../domain/event.ts";
import type { MemberData } from "../../domain/room-events.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, pageOf, readCursor } from "../page.ts";
import {
  bigint,
  change,
  type EventFacts,
  integer,
  json,
  projection,
  put,
  type RowOf,
  remove,
  text,
} from "../projection.ts";
import { first, type OperatorRead, type ReadAs } from "../read-as.ts";
import { all, sql } from "../sql.ts";
import { roomOf } from "../stream-ids.ts";
import { rooms } from "./rooms.ts";
import { users } from "./users.ts";

const columns = {
  room_id: text<RoomId>(),
  subject: text<Subject>(),
  client: text<ClientId>(),
  /** Null when the person was erased. */
  user_id: text({ nullable: true }),
  /** The name in this room; null: the user's own. */
  name: text({ nullable: true }),
  role: text<Role>(),
  meta: json<JsonObject>(),
  joined_at: bigint(),
  /** What was said up to here counts as read: the seq of joining; 0 for members named at the room's creation. */
  joined_seq: integer(),
  position: text<Position>(),
  /** Among the members that joined with the same event. */
  place: integer(),
};
type MemberTableRow = RowOf<typeof columns>;

export const members = projection({
  name: "members",
  version: 1,
  key: ["room_id", "subject"],
  columns,
  indexes: ["(room_id, position, place)", "(client, subject, room_id)"],
  personal: ["user_id", "name", "meta"],
  on: {
    RoomCreated: (e) => e.data.members.flatMap((member, place) => joined(e, member, 0, place)),
    MemberJoined: (e) => joined(e, e.data, e.revision + 1, 0),
    MemberUpdated: (e) => [change([roomOf(e.stream), e.data.subject], (row) => ({ ...row, ...described(e.data) }))],
    MemberLeft: (e) => [remove([roomOf(e.stream), e.data.subject])],
  },
});
/** `name` is the one in the room, else the user's own, else null. */
export type MemberRow = MemberTableRow;

const described = (data: MemberData) => ({
  user_id: reveal(data.user),
  name: reveal(data.name),
  role: data.role,
  meta: reveal(data.meta) ?? {},
});

function joined(e: EventFacts, data: MemberData, joinedSeq: number, place: number) {
  if (e.meta.client === null) return [];
  return [
    put<MemberTableRow, Omit<MemberTableRow, "room_id" | "subject">>([roomOf(e.stream), data.subject], {
      client: e.meta.client,
      ...described(data),
      joined_at: e.meta.at,
      joined_seq: joinedSeq,
      position: e.position,
      place,
    }),
  ];
}

/** A member's columns with the user's own name where it has none in the room; `m` and `u` as in `named`. */
const shownMember = sql`m.room_id, m.subject, m.client, m.user_id, coalesce(m.name, u.name) as name, m.role, m.meta,
  m.joined_at, m.joined_seq, m.position, m.place`;
// Inner: the children of a deleted room are hidden.
const named = sql`${members} m
  join ${rooms} r on r.room_id = m.room_id and not r.deleted
  left join ${users} u on u.subject = m.subject`;

/** A member of a room that is not deleted. */
export const memberOf = async (read: ReadAs, room: RoomId, subject: Subject): Promise<MemberRow | undefined> =>
  first(
    await read.rows<MemberRow>(
      sql`select ${shownMember} from ${named} where m.room_id = ${room} and m.subject = ${subject}`,
    ),
  );

/** A member as it was described: `name` is only the one in the room; also of a deleted room. */
export const memberAsKept = async (read: ReadAs, room: RoomId, subject: Subject): Promise<MemberRow | undefined> =>
  first(await read.rows<MemberRow>(sql`select * from ${members} m where room_id = ${room} and subject = ${subject}`));

/** The name to show for someone in a room: the member's, else the user's, also of one who is no member. */
export async function memberName(read: ReadAs, room: RoomId, subject: Subject): Promise<string | null> {
  const rows = await read.rows<{ name: string | null }>(sql`
    select coalesce(
      (select m.name from ${members} m where m.room_id = ${room} and m.subject = ${subject}),
      (select u.name from ${users} u where u.subject = ${subject})
    ) as name`);
  return rows[0]?.name ?? null;
}

/** Newest first. Throws InvalidCursor. */
export async function listMembers(
  read: ReadAs,
  room: RoomId,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<MemberRow>> {
  const before = readCursor(cursor, ["text", "integer"]);
  const where = all(
    sql`m.room_id = ${room}`,
    before === undefined ? undefined : sql`(m.position, m.place) < (${before[0]}, ${before[1]})`,
  );
  const rows = await read.rows<MemberRow>(
    sql`select ${shownMember} from ${named} where ${where} order by m.position desc, m.place desc limit ${limit + 1}`,
  );
  return pageOf(rows, limit, (last) => [last.position, last.place]);
}

/** At most `limit` members after a subject, in the order of their subjects, as kept; also of a deleted room. */
export const membersPage = (
  read: ReadAs | OperatorRead,
  room: RoomId,
  after: Subject | null,
  limit: number,
): Promise<readonly MemberRow[]> =>
  read.rows(
    sql`select * from ${members} m where room_id = ${room} and subject > ${after ?? ""} order by subject limit ${limit}`,
  );
