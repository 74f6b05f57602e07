// A room's state as JSON, for snapshots. Raise the decider's snapshot version with every change of shape.
import { z } from "zod";
import { SubjectSchema } from "../contract/ids.ts";
import { JsonObjectSchema } from "../contract/json.ts";
import { RoleSchema, RoomKindSchema } from "../contract/resources.ts";
import { PersistentMap } from "./persistent-map.ts";
import type { Room } from "./room-state.ts";

const ChangeSchema = z.object({ content: z.number(), change: z.number(), deleted: z.boolean() });
const SnapshotSchema = z.discriminatedUnion("status", [
  z.object({ status: z.literal("none") }),
  z.object({ status: z.literal("deleted") }),
  z.object({
    status: z.literal("live"),
    settings: z.object({
      name: z.string(),
      description: z.string().nullable(),
      kind: RoomKindSchema,
      meta: JsonObjectSchema,
    }),
    externalId: z.string().nullable(),
    active: z.boolean(),
    seq: z.number(),
    members: z.array(z.tuple([SubjectSchema, RoleSchema])),
    owners: z.number(),
    posted: z.number(),
    deleted: z.number(),
    ordinal: z.number(),
    changes: z.array(z.tuple([z.number(), ChangeSchema])),
    createdAt: z.number(),
    updatedAt: z.number(),
    settingsSeq: z.number(),
  }),
]);

export const toRoomSnapshot = (room: Room): unknown =>
  room.status === "live"
    ? { ...room, members: [...room.members.entries()], changes: [...room.changes.entries()] }
    : room;

export function fromRoomSnapshot(json: unknown): Room {
  const room = SnapshotSchema.parse(json);
  if (room.status !== "live") return room;
  return { ...room, members: PersistentMap.of(room.members), changes: PersistentMap.of(room.changes) };
}
