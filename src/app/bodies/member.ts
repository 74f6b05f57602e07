// A member of a room, and how far it has read, as answers show them.
import { z } from "zod";
import { anyObject, time } from "../../contract/fields.ts";
import { type Instant, rfc3339 } from "../../contract/time.ts";
import { reveal } from "../../domain/event.ts";
import type { MemberData } from "../../domain/room-events.ts";
import type { MemberRow } from "../../projections/models/members.ts";

export const MemberBody = z
  .object({
    user_id: z.string().nullable().describe("null when the person was erased"),
    name: z.string().nullable().describe("The name in this room, else the user's own"),
    role: z.enum(["reader", "member", "admin", "owner"]),
    meta: anyObject,
    joined_at: time,
  })
  .meta({ id: "Member" });
export type MemberBody = z.infer<typeof MemberBody>;

/** From a row of the read model. */
export const memberBody = (row: MemberRow): MemberBody => ({
  user_id: row.user_id,
  name: row.name,
  role: row.role,
  meta: row.meta,
  joined_at: rfc3339(row.joined_at),
});

/** From the data of an event. `ownName` is the user's, shown when the member has none in the room. */
export const memberBodyOf = (data: MemberData, joinedAt: Instant, ownName: string | null): MemberBody => ({
  user_id: reveal(data.user),
  name: reveal(data.name) ?? ownName,
  role: data.role,
  meta: reveal(data.meta) ?? {},
  joined_at: rfc3339(joinedAt),
});

export const ReadBody = z
  .object({
    room_id: z.string(),
    user_id: z.string().nullable(),
    read_seq: z.int(),
    unread_count: z.int(),
  })
  .meta({ id: "ReadMarker" });
export type ReadBody = z.infer<typeof ReadBody>;

type ReadFacts = {
  readonly room_id: string;
  readonly user_id: string | null;
  readonly read_seq: number;
  readonly unread_count: number;
};

/** How far a member has read. */
export const readBody = ({ room_id, user_id, read_seq, unread_count }: ReadFacts): ReadBody => ({
  room_id,
  user_id,
  read_seq,
  unread_count,
});
