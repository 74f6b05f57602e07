// A room as answers show it: from its row, or from its state.
import { z } from "zod";
import { anyObject, time } from "../../contract/fields.ts";
import type { RoomId } from "../../contract/ids.ts";
import { rfc3339 } from "../../contract/time.ts";
import type { LiveRoom } from "../../domain/room-state.ts";
import type { RoomRow } from "../../projections/models/rooms.ts";

export const RoomBody = z
  .object({
    id: z.string(),
    external_id: z.string().nullable(),
    name: z.string(),
    description: z.string().nullable(),
    kind: z.enum(["private", "public", "direct"]),
    meta: anyObject,
    active: z.boolean(),
    seq: z.int().describe("The seq of the room's last event"),
    member_count: z.int(),
    message_count: z.int().describe("Messages that are not deleted"),
    created_at: time,
    updated_at: time,
  })
  .meta({ id: "Room" });
export type RoomBody = z.infer<typeof RoomBody>;

/** From a row of the read model. */
export const roomBody = (row: RoomRow): RoomBody => ({
  id: row.room_id,
  external_id: row.external_id,
  name: row.name,
  description: row.description,
  kind: row.kind,
  meta: row.meta,
  active: row.active,
  seq: row.seq,
  member_count: row.member_count,
  message_count: row.message_count,
  created_at: rfc3339(row.created_at),
  updated_at: rfc3339(row.updated_at),
});

/** From a state: the room as it was just after the event that the state ends with. */
export const roomBodyOf = (id: RoomId, room: LiveRoom): RoomBody => ({
  id,
  external_id: room.externalId,
  name: room.settings.name,
  description: room.settings.description,
  kind: room.settings.kind,
  meta: room.settings.meta,
  active: room.active,
  seq: room.seq,
  member_count: room.members.size,
  message_count: room.posted - room.deleted,
  created_at: rfc3339(room.createdAt),
  updated_at: rfc3339(room.updatedAt),
});
