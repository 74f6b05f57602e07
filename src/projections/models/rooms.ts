// Rooms and their members: settings, head, counts, and lists of them.
import { type RawBuilder, sql } from "kysely";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { Role, RoomKind } from "../../contract/rooms.ts";
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
import { roomsWith, searchKey } from "./room-search.ts";
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
  max_members: integer({ nullable: true }),
  posting: text<RoomSettings["posting"]>(),
  history: text<RoomSettings["history"]>(),
  meta: json<JsonObject>(),
  active: boolean(),
  deleted: boolean(),
  /** The head: seq of the last event. */
  seq: integer(),
  /** The ordinal of the last message. */
  ordinal: integer(),
  /** The seq from which on nothing is unread: of the last message, or of its end, where it is one that counts. */
  counted_seq: integer(),
  /** The seq of the last end of a message that grew; 0: none did. */
  ended_seq: integer(),
  /** No message after this seq was ever deleted; those that grew are where they ended. */
  deleted_seq: integer(),
  /** A bit for each who posted. */
  posters: bigint(),
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
  version: 8,
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
        ...{ ordinal: 0, counted_seq: 0, ended_seq: 0, deleted_seq: 0, posters: 0 },
        ...{ member_count: e.data.members.length, message_count: 0 },
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
    MemberMuted: (e) => [moved(e, () => ({}))],
    MemberBanned: (e) => [moved(e, () => ({}))],
    MemberUnbanned: (e) => [moved(e, () => ({}))],
    MessagePosted: (e) => [
      moved(e, (row) => ({
        ...counted(row, e),
        message_count: row.message_count + 1,
        posters: withPoster(row.posters, e.data.sender),
      })),
    ],
    MessageCompleted: (e) => [moved(e, (row) => ({ ...counted(row, e), ended_seq: e.revision + 1 }))],
    MessageCancelled: (e) => [moved(e, (row) => ({ ...counted(row, e), ended_seq: e.revision + 1 }))],
    MessageEdited: (e) => [moved(e, () => ({}))],
    MessageDeleted: (e) => [
      moved(e, (row) => ({
        message_count: row.message_count - 1,
        deleted_seq: Math.max(row.deleted_seq, e.data.endSeq ?? e.data.messageSeq),
      })),
    ],
    MessageRestored: (e) => [moved(e, (row) => ({ message_count: row.message_count + 1 }))],
    ReactionAdded: (e) => [moved(e, () => ({}))],
    ReactionRemoved: (e) => [moved(e, () => ({}))],
  },
});

/** Bits that a number holds exactly. */
const POSTER_BITS = 53;
/** Those of a subject that are drawn first give its bit: where few posted, it rules out most who did not. */
const withPoster = (posters: number, subject: Subject): number => {
  const bit = ((subject.codePointAt(4) ?? 0) * 32 + (subject.codePointAt(5) ?? 0)) % POSTER_BITS;
  return Number(BigInt(posters) | (1n << BigInt(bit)));
};
/** Whether a subject may have posted in a room `r`; who did always may. */
export const mayHavePosted = (subject: RawBuilder<Subject>): RawBuilder<boolean> =>
  sql<boolean>`(r.posters >> ((ascii(substr(${subject}, 5)) * 32 + ascii(substr(${subject}, 6))) % ${sql.lit(POSTER_BITS)}) & 1 = 1)`;

const settingsOf = ({ joinRole, maxMembers, name, description, kind, posting, history, meta }: RoomSettings) => ({
  ...{ name, description, kind, join_role: joinRole, max_members: maxMembers, posting, history, meta },
  name_key: searchKey(name ?? ""),
});

/** Any event moves the head. */
const moved = (e: EventFacts, changed: (row: RoomRow) => Partial<RoomBody>) =>
  change<RoomRow, RoomBody>([roomOf(e.stream)], (row) => ({
    ...row,
    ...changed(row),
    seq: e.revision + 1,
    activity_position: e.position,
  }));

/** System messages, and those that begin to grow, repeat the last ordinal. */
const counted = (row: RoomRow, e: EventFacts & { readonly data: { readonly ordinal: number } }) => ({
  ordinal: e.data.ordinal,
  counted_seq: e.data.ordinal > row.ordinal ? e.revision + 1 : row.counted_seq,
});

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
  muted_until: bigint({ nullable: true }),
  /** What was said up to here counts as read: the seq of joining; 0 for members named at the room's creation. */
  joined_seq: integer(),
  position: text<Position>(),
  /** Among the members that joined with the same event. */
  join_index: integer(),
};
type MemberTableRow = RowOf<typeof memberColumns>;

export const members = projection({
  name: "members",
  version: 4,
  key: ["room_id", "subject"],
  columns: memberColumns,
  indexes: ["(room_id, position, join_index)", "(client, subject, room_id) include (joined_seq)"],
  personal: ["user_id", "name", "meta"],
  on: {
    RoomCreated: (e) => e.data.members.flatMap((member, index) => joined(e, member, 0, index)),
    MemberJoined: (e) => joined(e, e.data, e.revision + 1, 0),
    MemberUpdated: (e) => [change([roomOf(e.stream), e.data.subject], (row) => ({ ...row, ...described(e.data) }))],
    MemberMuted: (e) => [change([roomOf(e.stream), e.data.subject], (row) => ({ ...row, muted_until: e.data.until }))],
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
      muted_until: null,
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

/** Rooms that a search finds are read and sorted, up to so many; of more, the list's own order is followed. */
const MAX_FOUND = 2_000;

/** Rooms that are not deleted, in the given order; `name` ignores case. Throws InvalidCursor. */
export async function listRooms(read: ReadAs, list: RoomList): Promise<Page<RoomRow>> {
  const { search = "", active, externalIds, members: subjects, visibleTo, from, to } = list;
  const found = search === "" ? undefined : await roomsWith(read, search, MAX_FOUND);
  const page: Keyset = { ...ORDER[list.sort], limit: list.limit, cursor: list.cursor };
  const cursorOf = (last: RoomRow): Cursor => (list.sort === "name" ? [last.name_key, last.room_id] : [last.position]);
  const db = read.over({ r: rooms, m: members });
  const everything = db.selectFrom("r").selectAll("r");
  /** Each by its id, whatever the planner makes of their number. */
  const byId = (ids: RawBuilder<{ room_id: RoomId }>): typeof everything =>
    db
      .selectFrom(ids.as<"o">(sql`o`))
      .innerJoinLateral(
        (eb) => eb.selectFrom("r").selectAll("r").whereRef("r.room_id", "=", "o.room_id").offset(0).as("r"),
        (join) => join.onTrue(),
      )
      .selectAll("r");
  const of = (people: readonly Subject[]) =>
    byId(sql`(select distinct room_id from m where ${anyOf("subject", people)} offset 0)`);
  const hasMember = (people: readonly Subject[]) =>
    sql<boolean>`exists (select from m where m.room_id = r.room_id and ${anyOf("m.subject", people)})`;
  const filtered = (query: typeof everything): typeof everything => {
    let narrowed = query.where((eb) => eb.not("r.deleted"));
    if (search !== "" && found === undefined) {
      const part = searchKey(search);
      narrowed = narrowed.where(
        sql<boolean>`(strpos(r.name_key, ${part}) > 0 or strpos(lower(r.description), ${part}) > 0)`,
      );
    }
    if (subjects !== undefined && visibleTo !== undefined) {
      narrowed = narrowed.where(sql<boolean>`(r.kind = 'public' or ${hasMember([visibleTo])})`);
    }
    if (subjects !== undefined && found !== undefined) narrowed = narrowed.where(hasMember(subjects));
    if (active !== undefined) narrowed = narrowed.where("r.active", "=", active);
    if (externalIds !== undefined) narrowed = narrowed.where(anyOf("r.external_id", externalIds));
    if (from !== undefined) narrowed = narrowed.where("r.created_at", ">=", from);
    return to === undefined ? narrowed : narrowed.where("r.created_at", "<", to);
  };
  const searched = found === undefined ? undefined : byId(sql`(select unnest(${found}::text[]) as room_id offset 0)`);
  if (visibleTo === undefined || subjects !== undefined) {
    const start = searched ?? (subjects === undefined ? everything : of(subjects));
    return readPage(read, filtered(start), page, cursorOf);
  }
  // Public rooms and its other own ones apart: the first in order from an index, the second few enough to be sorted.
  const shared = keyset(filtered(searched ?? everything).where("r.kind", "=", "public"), page);
  const own = keyset(
    filtered(searched?.where(hasMember([visibleTo])) ?? of([visibleTo])).where("r.kind", "<>", "public"),
    page,
  );
  const both = db
    .selectFrom(own.as("r"))
    .selectAll()
    .unionAll(({ parens }) => parens(db.selectFrom(shared.as("r")).selectAll()));
  return readPage(read, db.selectFrom(both.as("r")).selectAll("r"), page, cursorOf);
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
