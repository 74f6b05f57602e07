// Rooms and their members: settings, head, counts, and lists of them.
import { sql } from "kysely";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { Role, RoomKind } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import { reveal } from "../../domain/event.ts";
import type { MemberData, RoomSettings } from "../../domain/room-state.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Keyset, keyset, type Page, readPage } from "../page.ts";
import {
  type Body,
  bigint,
  boolean,
  change,
  type EventFacts,
  integer,
  json,
  projection,
  put,
  type RowOf,
  remove,
  roomOf,
  text,
} from "../projection.ts";
import { anyOf, type ReadAs } from "../read-as.ts";
import { users } from "./users.ts";

const columns = {
  room_id: text<RoomId>(),
  client: text<ClientId>(),
  external_id: text({ nullable: true }),
  name: text({ nullable: true }),
  /** The name in lower case: sorted and searched by. */
  name_key: text(),
  description: text({ nullable: true }),
  kind: text<RoomKind>(),
  join_role: text<RoomSettings["joinRole"]>(),
  meta: json<JsonObject>(),
  active: boolean(),
  deleted: boolean(),
  /** The head: seq of the last event. */
  seq: integer(),
  /** The ordinal of the last message. */
  ordinal: integer(),
  member_count: integer(),
  /** Posted and not deleted now. */
  message_count: integer(),
  created_at: bigint(),
  updated_at: bigint(),
  /** The seq of the last change to name, description, kind, meta or state: the ETag. */
  settings_seq: integer(),
  position: text<Position>(),
  /** The position of the last event. */
  activity_position: text<Position>(),
};
export type RoomRow = RowOf<typeof columns>;
type RoomBody = Body<RoomRow, "room_id">;

export const rooms = projection({
  name: "rooms",
  version: 2,
  key: ["room_id"],
  columns,
  indexes: [
    "(client, position) where not deleted",
    "(client, name_key, room_id) where not deleted",
    "(client, external_id) where external_id is not null and not deleted",
    "(client, position) where kind = 'public' and not deleted",
    "(client, name_key, room_id) where kind = 'public' and not deleted",
  ],
  personal: [],
  on: {
    RoomCreated: (e) => [
      put([roomOf(e.stream)], {
        external_id: e.data.externalId,
        ...settingsOf(e.data),
        ...{ active: true, deleted: false },
        ...{ seq: e.revision + 1, settings_seq: e.revision + 1 },
        ...{ ordinal: 0, member_count: e.data.members.length, message_count: 0 },
        ...{ created_at: e.meta.at, updated_at: e.meta.at },
        ...{ position: e.position, activity_position: e.position },
      }),
    ],
    RoomUpdated: (e) => [settled(e, () => settingsOf(e.data))],
    RoomDeactivated: (e) => [settled(e, () => ({ active: false }))],
    RoomActivated: (e) => [settled(e, () => ({ active: true }))],
    RoomDeleted: (e) => [settled(e, () => ({ deleted: true }))],
    MemberJoined: (e) => [moved(e, (row) => ({ member_count: row.member_count + 1 }))],
    MemberUpdated: (e) => [moved(e, () => ({}))],
    MemberLeft: (e) => [moved(e, (row) => ({ member_count: row.member_count - 1 }))],
    MessagePosted: (e) => [moved(e, (row) => ({ ordinal: e.data.ordinal, message_count: row.message_count + 1 }))],
    MessageEdited: (e) => [moved(e, () => ({}))],
    MessageDeleted: (e) => [moved(e, (row) => ({ message_count: row.message_count - 1 }))],
    MessageRestored: (e) => [moved(e, (row) => ({ message_count: row.message_count + 1 }))],
  },
});

const settingsOf = ({ name, description, kind, joinRole, meta }: RoomSettings) => ({
  ...{ name, description, kind, join_role: joinRole, meta },
  name_key: nameKey(name ?? ""),
});

/** What names are sorted and searched by. */
const nameKey = (name: string): string => name.toLowerCase();

/** Any event moves the head. */
const moved = (e: EventFacts, changed: (row: RoomRow) => Partial<RoomBody>) =>
  change<RoomRow, RoomBody>([roomOf(e.stream)], (row) => ({
    ...row,
    ...changed(row),
    seq: e.revision + 1,
    activity_position: e.position,
  }));

const settled = (e: EventFacts, changed: () => Partial<RoomBody>) =>
  moved(e, () => ({ ...changed(), settings_seq: e.revision + 1, updated_at: e.meta.at }));

const memberColumns = {
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
  join_index: integer(),
};
type MemberTableRow = RowOf<typeof memberColumns>;

export const members = projection({
  name: "members",
  version: 2,
  key: ["room_id", "subject"],
  columns: memberColumns,
  indexes: ["(room_id, position, join_index)", "(client, subject, room_id)"],
  personal: ["user_id", "name", "meta"],
  on: {
    RoomCreated: (e) => e.data.members.flatMap((member, index) => joined(e, member, 0, index)),
    MemberJoined: (e) => joined(e, e.data, e.revision + 1, 0),
    MemberUpdated: (e) => [change([roomOf(e.stream), e.data.subject], (row) => ({ ...row, ...described(e.data) }))],
    MemberLeft: (e) => [remove([roomOf(e.stream), e.data.subject])],
  },
});
/** `name` is the one in the room, else the user's own, else null. */
type MemberRow = MemberTableRow;

const described = (data: MemberData) => ({
  user_id: reveal(data.user),
  name: reveal(data.name),
  role: data.role,
  meta: reveal(data.meta) ?? {},
});

function joined(e: EventFacts, data: MemberData, joinedSeq: number, index: number) {
  return [
    put<MemberTableRow, Body<MemberTableRow, "room_id" | "subject">>([roomOf(e.stream), data.subject], {
      ...described(data),
      joined_at: e.meta.at,
      joined_seq: joinedSeq,
      position: e.position,
      join_index: index,
    }),
  ];
}

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

const ORDER = {
  "-created_at": { by: { "r.position": "text" }, order: "desc" },
  created_at: { by: { "r.position": "text" }, order: "asc" },
  name: { by: { "r.name_key": "text", "r.room_id": "text" }, order: "asc" },
} as const;

/** Rooms that are not deleted, in the given order; `name` ignores case. Throws InvalidCursor. */
export async function listRooms(read: ReadAs, list: RoomList): Promise<Page<RoomRow>> {
  const db = read.over({ r: rooms, m: members });
  const all = db.selectFrom("r").selectAll();
  const of = (subjects: readonly Subject[]) => db.selectFrom("m").where(anyOf("subject", subjects)).select("room_id");
  const page: Keyset = { ...ORDER[list.sort], limit: list.limit, cursor: list.cursor };
  const cursorOf = (last: RoomRow): Cursor => (list.sort === "name" ? [last.name_key, last.room_id] : [last.position]);
  const filtered = (query: typeof all): typeof all => {
    const { search, active, externalIds, from, to } = list;
    let found = query.where((eb) => eb.not("deleted"));
    if (search !== undefined && search !== "") {
      const needle = nameKey(search);
      found = found.where(
        sql<boolean>`(strpos(r.name_key, ${needle}) > 0 or strpos(lower(r.description), ${needle}) > 0)`,
      );
    }
    if (active !== undefined) found = found.where("active", "=", active);
    if (externalIds !== undefined) found = found.where(anyOf("external_id", externalIds));
    if (from !== undefined) found = found.where("created_at", ">=", from);
    if (to !== undefined) found = found.where("created_at", "<", to);
    return list.members === undefined ? found : found.where("room_id", "in", of(list.members));
  };
  const { visibleTo } = list;
  if (visibleTo === undefined) return readPage(read, filtered(all), page, cursorOf);
  // Own rooms and public ones apart: each part is read in order from an index of its own.
  const own = keyset(filtered(all.where("room_id", "in", of([visibleTo]))), page);
  const others = keyset(filtered(all.where("kind", "=", "public").where("room_id", "not in", of([visibleTo]))), page);
  const both = db
    .selectFrom(own.as("r"))
    .selectAll()
    .unionAll(({ parens }) => parens(db.selectFrom(others.as("r")).selectAll()));
  return readPage(read, db.selectFrom(both.as("r")).selectAll(), page, cursorOf);
}

export const NEWEST_MEMBER_FIRST = { "m.position": "text", "m.join_index": "integer" } as const;

/** Newest first; `name` is the one in the room, else the user's own. Throws InvalidCursor. */
export async function listMembers(
  read: ReadAs,
  room: RoomId,
  { limit, cursor }: { limit: number; cursor?: Cursor },
): Promise<Page<MemberRow>> {
  const query = read
    .over({ m: members, r: rooms, u: users })
    .selectFrom("m")
    // Inner: the children of a deleted room are hidden.
    .innerJoin("r", (join) => join.onRef("r.room_id", "=", "m.room_id").on((eb) => eb.not("r.deleted")))
    .leftJoin("u", "u.subject", "m.subject")
    .selectAll("m")
    .select((eb) => eb.fn.coalesce("m.name", "u.name").as("name"))
    .where("m.room_id", "=", room);
  const page = { by: NEWEST_MEMBER_FIRST, order: "desc", limit, cursor } as const;
  return readPage(read, query, page, (last) => [last.position, last.join_index]);
}
