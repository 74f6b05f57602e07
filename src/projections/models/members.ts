// Members of rooms, as they are now.

import { sql } from "kysely";
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
import { first, type ReadAs } from "../read-as.ts";
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

/** A member as it was described: `name` is only the one in the room; also of a deleted room. */
export const memberAsKept = async (read: ReadAs, room: RoomId, subject: Subject): Promise<MemberRow | undefined> =>
  first(
    await read.rows(
      read.over({ m: members }).selectFrom("m").selectAll().where("room_id", "=", room).where("subject", "=", subject),
    ),
  );

/** The name to show for someone in a room: the member's, else the user's, also of one who is no member. */
export async function memberName(read: ReadAs, room: RoomId, subject: Subject): Promise<string | null> {
  const db = read.over({ m: members, u: users });
  const inRoom = db.selectFrom("m").select("name").where("room_id", "=", room).where("subject", "=", subject);
  const own = db.selectFrom("u").select("name").where("subject", "=", subject);
  const rows = await read.rows(db.selectNoFrom((eb) => eb.fn.coalesce(inRoom, own).as("name")));
  return rows[0]?.name ?? null;
}

/** Newest first; `name` is the one in the room, else the user's own. Throws InvalidCursor. */
export async function listMembers(
  read: ReadAs,
  room: RoomId,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<MemberRow>> {
  const before = readCursor(cursor, ["text", "integer"]);
  let query = read
    .over({ m: members, r: rooms, u: users })
    .selectFrom("m")
    // Inner: the children of a deleted room are hidden.
    .innerJoin("r", (join) => join.onRef("r.room_id", "=", "m.room_id").on((eb) => eb.not("r.deleted")))
    .leftJoin("u", "u.subject", "m.subject")
    .selectAll("m")
    .select((eb) => eb.fn.coalesce("m.name", "u.name").as("name"))
    .where("m.room_id", "=", room)
    .orderBy("m.position", "desc")
    .orderBy("m.place", "desc")
    .limit(limit + 1);
  if (before !== undefined) query = query.where(sql<boolean>`(m.position, m.place) < (${before[0]}, ${before[1]})`);
  return pageOf(await read.rows(query), limit, (last) => [last.position, last.place]);
}
