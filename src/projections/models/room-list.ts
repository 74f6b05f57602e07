// Lists of rooms: all of a client, or what one user may see.

import type { Cursor } from "../../contract/fields.ts";
import type { Subject } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import { type Page, pageOf, readCursor } from "../page.ts";
import type { ReadAs } from "../read-as.ts";
import { all, type Sql, sql } from "../sql.ts";
import { members } from "./members.ts";
import { nameKey, type RoomRow, rooms } from "./rooms.ts";

type RoomList = {
  /** Rooms whose name or description holds this, in any case. */
  search?: string;
  /** Rooms that at least one of these is in. */
  members?: readonly Subject[];
  active?: boolean;
  externalIds?: readonly string[];
  /** Only what this user may see: its own rooms and public ones. */
  visibleTo?: Subject;
  sort: "-created_at" | "created_at" | "name";
  /** `from` inclusive and `to` exclusive bound the creation. */
  from?: Instant;
  to?: Instant;
  limit: number;
  cursor?: Cursor;
};

/** Rooms that are not deleted, in the order asked for; `name` in any case. Throws InvalidCursor. */
export async function listRooms(read: ReadAs, list: RoomList): Promise<Page<RoomRow>> {
  const where = all(...conditions(list));
  const order = { "-created_at": sql`r.position desc`, created_at: sql`r.position`, name: sql`r.name_key, r.room_id` }[
    list.sort
  ];
  const most = list.limit + 1;
  const rows = await read.rows<RoomRow>(
    list.visibleTo === undefined
      ? sql`select r.* from ${source(list.members)} where ${where} order by ${order} limit ${most}`
      : sql`select * from (
          (select r.* from ${source([list.visibleTo])} where ${where} order by ${order} limit ${most})
          union all
          (select r.* from ${rooms} r where r.kind = 'public' and ${where} and not ${isIn([list.visibleTo])}
            order by ${order} limit ${most})
        ) r order by ${order} limit ${most}`,
  );
  return pageOf(rows, list.limit, (last) => (list.sort === "name" ? [last.name_key, last.room_id] : [last.position]));
}

/** All rooms, or those of one member, found by its membership. */
const source = ([one, ...others]: readonly Subject[] = []): Sql =>
  one === undefined || others.length > 0
    ? sql`${rooms} r`
    : sql`${members} m join ${rooms} r on r.room_id = m.room_id and m.subject = ${one}`;

const isIn = (subjects: readonly Subject[]): Sql =>
  sql`exists (select from ${members} x where x.room_id = r.room_id and x.subject = any(${subjects}))`;

function conditions(list: RoomList): readonly (Sql | undefined)[] {
  const { search, active, externalIds, from, to, members: people, visibleTo } = list;
  const needle = search === undefined || search === "" ? undefined : nameKey(search);
  return [
    sql`not r.deleted`,
    behind(list),
    needle === undefined
      ? undefined
      : sql`(strpos(r.name_key, ${needle}) > 0 or strpos(lower(r.description), ${needle}) > 0)`,
    active === undefined ? undefined : sql`r.active = ${active}`,
    externalIds === undefined ? undefined : sql`r.external_id = any(${externalIds})`,
    from === undefined ? undefined : sql`r.created_at >= ${from}`,
    to === undefined ? undefined : sql`r.created_at < ${to}`,
    people === undefined || (people.length === 1 && visibleTo === undefined) ? undefined : isIn(people),
  ];
}

function behind({ sort, cursor }: RoomList): Sql | undefined {
  if (sort === "name") {
    const after = readCursor(cursor, ["text", "text"]);
    return after === undefined ? undefined : sql`(r.name_key, r.room_id) > (${after[0]}, ${after[1]})`;
  }
  const [position] = readCursor(cursor, ["text"]) ?? [];
  if (position === undefined) return undefined;
  return sort === "created_at" ? sql`r.position > ${position}` : sql`r.position < ${position}`;
}
