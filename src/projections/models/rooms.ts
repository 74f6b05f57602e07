// Rooms: settings, head and counts.

import type { ClientId, RoomId } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { RoomKind } from "../../contract/resources.ts";
import type { RoomSettings } from "../../domain/room-events.ts";
import type { Position } from "../../event-store/event-store.ts";
import {
  bigint,
  boolean,
  change,
  type EventFacts,
  integer,
  json,
  projection,
  put,
  type RowOf,
  text,
} from "../projection.ts";
import { first, type ReadAs } from "../read-as.ts";
import { sql } from "../sql.ts";
import { roomOf } from "../stream-ids.ts";

const columns = {
  room_id: text<RoomId>(),
  client: text<ClientId>(),
  external_id: text({ nullable: true }),
  name: text(),
  /** The name in lower case: sorted and searched by. */
  name_key: text(),
  description: text({ nullable: true }),
  kind: text<RoomKind>(),
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
type Body = Omit<RoomRow, "room_id">;

export const rooms = projection({
  name: "rooms",
  version: 1,
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
    RoomCreated: (e) => {
      if (e.meta.client === null) return [];
      return [
        put([roomOf(e.stream)], {
          client: e.meta.client,
          external_id: e.data.externalId,
          ...settingsOf(e.data),
          active: true,
          deleted: false,
          seq: e.revision + 1,
          ordinal: 0,
          member_count: e.data.members.length,
          message_count: 0,
          created_at: e.meta.at,
          updated_at: e.meta.at,
          settings_seq: e.revision + 1,
          position: e.position,
          activity_position: e.position,
        }),
      ];
    },
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

const settingsOf = ({ name, description, kind, meta }: RoomSettings) => ({
  ...{ name, description, kind, meta },
  name_key: nameKey(name),
});

/** What names are sorted and searched by. */
export const nameKey = (name: string): string => name.toLowerCase();

/** Any event moves the head. */
const moved = (e: EventFacts, changed: (row: RoomRow) => Partial<Body>) =>
  change<RoomRow, Body>([roomOf(e.stream)], (row) => ({
    ...row,
    ...changed(row),
    seq: e.revision + 1,
    activity_position: e.position,
  }));

const settled = (e: EventFacts, changed: () => Partial<Body>) =>
  moved(e, () => ({ ...changed(), settings_seq: e.revision + 1, updated_at: e.meta.at }));

/** A room, unless it was deleted. */
export const roomById = async (read: ReadAs, id: RoomId): Promise<RoomRow | undefined> =>
  first(await read.rows<RoomRow>(sql`select * from ${rooms} r where room_id = ${id} and not deleted`));

export const roomByExternalId = async (read: ReadAs, externalId: string): Promise<RoomRow | undefined> =>
  first(
    await read.rows<RoomRow>(
      sql`select * from ${rooms} r where external_id = ${externalId} and not deleted order by position desc limit 1`,
    ),
  );
