// Rooms, their members and read markers: what requests send and answers show.
import { z } from "zod";
import {
  actor,
  anyObject,
  commaSeparated,
  created,
  description,
  input,
  instant,
  meta,
  name,
  orNull,
  paging,
  patched,
  queryBoolean,
  refuse,
  text,
  time,
  userId,
} from "./fields.ts";

export const RoleSchema = z.enum(["reader", "member", "admin", "owner"]);
export type Role = z.infer<typeof RoleSchema>;
/** What joining by oneself may give. */
export const JoinRoleSchema = z.enum(["member", "reader"]);
export const RoomKindSchema = z.enum(["private", "public", "direct"]);
export type RoomKind = z.infer<typeof RoomKindSchema>;

/** Who may post: every member who is no reader, or admins and owners alone. */
export const PostingSchema = z.enum(["everyone", "admins"]);
/** What members see of what was there before they joined: everything, or nothing. */
export const HistorySchema = z.enum(["all", "from_join"]);
const MAX_ROOM_MEMBERS = 50_000;

export const RoomResource = z
  .object({
    id: z.string(),
    external_id: z.string().nullable(),
    name: z.string().nullable().describe("null in a direct room that was given none"),
    description: z.string().nullable(),
    kind: RoomKindSchema,
    join_role: JoinRoleSchema.describe("The role of a user who joins a public room by itself"),
    max_members: z.int().nullable().describe(`null: ${MAX_ROOM_MEMBERS}`),
    posting: PostingSchema.describe("`admins`: posts of others are refused"),
    history: HistorySchema.describe("`from_join`: a member sees nothing from before its last joining"),
    meta: anyObject,
    active: z.boolean(),
    seq: z.int().describe("The seq of the room's last event"),
    member_count: z.int(),
    message_count: z.int().describe("Messages that are not deleted"),
    created_at: time,
    updated_at: time,
  })
  .meta({ id: "Room" });
export type RoomResource = z.infer<typeof RoomResource>;

export const MemberResource = z
  .object({
    user_id: z.string().nullable().describe("null when the person was erased"),
    name: z.string().nullable().describe("The name in this room, else the user's own"),
    role: RoleSchema,
    meta: anyObject,
    joined_at: time,
    muted_until: time.nullable().describe("Until then the member cannot post"),
  })
  .meta({ id: "Member" });
export type MemberResource = z.infer<typeof MemberResource>;

export const BanResource = z
  .object({
    user_id: z.string().nullable().describe("null when the person was erased"),
    until: time.nullable().describe("null: until it is lifted"),
    reason: z.string().nullable(),
    banned_at: time,
    banned_by: actor,
  })
  .meta({ id: "Ban" });
export type BanResource = z.infer<typeof BanResource>;

export const ReadMarkerResource = z
  .object({
    room_id: z.string(),
    user_id: z.string().nullable(),
    read_seq: z.int(),
    delivered_seq: z.int().describe("How far a device of the user has it; never below `read_seq`"),
    unread_count: z.int(),
    mention_count: z.int().describe("Those among them that mention the user"),
  })
  .meta({ id: "ReadMarker" });
export type ReadMarkerResource = z.infer<typeof ReadMarkerResource>;

/** Members that can be named at creation, the creator included. */
export const MAX_FIRST_MEMBERS = 500;
const externalId = text(1, 255);

const maxMembers = z.int().min(1).max(MAX_ROOM_MEMBERS);

export const RoomParams = z.object({ room_id: z.string().meta({ description: "The id, or `ext:<external_id>`" }) });
export const NewRoom = input({
  name: orNull(name).describe("Needed unless the kind is `direct`"),
  description: orNull(description),
  kind: RoomKindSchema.default("private"),
  external_id: orNull(externalId).describe("With a client key alone"),
  join_role: JoinRoleSchema.default("member"),
  max_members: orNull(maxMembers),
  posting: PostingSchema.default("everyone"),
  history: HistorySchema.default("all"),
  meta: meta.default({}),
  members: z
    .array(input({ user_id: userId, role: RoleSchema.default("member"), name: orNull(name) }))
    .max(MAX_FIRST_MEMBERS)
    .default([]),
});
export type NewRoom = z.output<typeof NewRoom>;
export const RoomPatch = input({
  name: name.optional(),
  description: patched(description),
  kind: RoomKindSchema.optional(),
  join_role: JoinRoleSchema.optional(),
  max_members: patched(maxMembers),
  posting: PostingSchema.optional(),
  history: HistorySchema.optional(),
  meta: patched(meta),
});
export type RoomPatch = z.output<typeof RoomPatch>;
export const RoomQuery = input({
  ...paging,
  ...created,
  search: text(1, 200).optional().meta({ description: "Part of the name or description, in any case" }),
  member: commaSeparated(userId).optional(),
  active: queryBoolean.optional(),
  external_id: commaSeparated(externalId).optional(),
  sort: z.enum(["-created_at", "created_at", "name"]).default("-created_at"),
});
export type RoomQuery = z.output<typeof RoomQuery>;

export const MemberParams = RoomParams.extend({ user_id: userId });
export const MemberInput = input({ role: orNull(RoleSchema), name: orNull(name), meta: meta.default({}) });
export type MemberInput = z.output<typeof MemberInput>;

const marker = z.int().min(0).optional();
export const ReadMarkerInput = input({
  seq: marker,
  delivered_seq: marker.describe("What a device of the user has received"),
  mark_unread: z.boolean().default(false).describe("Sets the marker to `seq`, also back; never before joining"),
}).superRefine(({ seq, delivered_seq, mark_unread }, context) => {
  if (seq === undefined && (delivered_seq === undefined || mark_unread))
    refuse(context, "required", "is required", ["seq"]);
});
export type ReadMarkerInput = z.output<typeof ReadMarkerInput>;
/** A merge patch. */
export const MemberPatch = input({
  role: RoleSchema.optional(),
  name: patched(name),
  meta: patched(meta),
  muted_until: patched(instant).describe("By admins: until then the member cannot post"),
});
export type MemberPatch = z.output<typeof MemberPatch>;
export const NewBan = input({
  until: orNull(instant).describe("Left out: until it is lifted"),
  reason: orNull(text(1, 500)),
});
export type NewBan = z.output<typeof NewBan>;
