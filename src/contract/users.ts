// Users and their tokens: what requests send and answers show.
import { z } from "zod";
import {
  anyObject,
  created,
  input,
  listBody,
  mailAddress,
  meta,
  name,
  orNull,
  paging,
  patched,
  seconds,
  time,
  timezone,
  userId,
} from "./fields.ts";
import { MessageResource } from "./messages.ts";
import { RoleSchema, RoomResource } from "./rooms.ts";
import { DAY_MS, SECOND_MS } from "./time.ts";

/** Whether a user is connected now. */
export const PresenceResource = z
  .object({
    user_id: z.string().nullable(),
    online: z.boolean(),
    since: time.nullable().describe("Since when it is or is not online; null when that is not known"),
    last_seen_at: time.nullable().describe("null when it was not seen since the node started"),
    devices: z.int().describe("Sockets that are open now"),
  })
  .meta({ id: "Presence" });
export type PresenceResource = z.infer<typeof PresenceResource>;

export const UserResource = z
  .object({
    id: z.string().nullable().describe("The client's own id; null when the person was erased"),
    name: z.string().nullable(),
    email: z.string().nullable(),
    timezone: z.string().nullable(),
    meta: anyObject,
    created_at: time,
    updated_at: time,
  })
  .meta({ id: "User" });
export type UserResource = z.infer<typeof UserResource>;

export const UserRoomResource = z
  .object({
    room: RoomResource,
    role: RoleSchema,
    seq: z.int().describe("The seq of the room's last event"),
    read_seq: z.int(),
    delivered_seq: z.int().describe("How far a device of the user has it; never below `read_seq`"),
    unread_count: z.int(),
    mention_count: z.int().describe("Those among them that mention the user"),
    last_message: MessageResource.nullable(),
  })
  .meta({ id: "UserRoom" });
export type UserRoomResource = z.infer<typeof UserRoomResource>;

export const UserRoomList = listBody(UserRoomResource).extend({ unread_total: z.int().describe("Over all rooms") });

export const TokenResource = z.object({ token: z.string().describe("A JWT"), expires_at: time }).meta({ id: "Token" });
export type TokenResource = z.infer<typeof TokenResource>;

/** How long a token may hold. */
export const MAX_TOKEN_MS = DAY_MS;
const MIN_TTL_SECONDS = 60;
const TTL_SECONDS = 3_600;

export const UserParams = z.object({ user_id: userId });
export const UserProfile = input({
  name: orNull(name),
  email: orNull(mailAddress),
  timezone: orNull(timezone),
  meta: meta.default({}),
});
export type UserProfile = z.output<typeof UserProfile>;
export const UserPatch = input({
  name: patched(name),
  email: patched(mailAddress),
  timezone: patched(timezone),
  meta: patched(meta),
});
export type UserPatch = z.output<typeof UserPatch>;
export const UserQuery = input({ ...paging, ...created });
export type UserQuery = z.output<typeof UserQuery>;
export const NewToken = input({
  ttl_seconds: seconds(MIN_TTL_SECONDS, MAX_TOKEN_MS / SECOND_MS).default(TTL_SECONDS),
  revoke_previous: z.boolean().default(false),
});
export type NewToken = z.output<typeof NewToken>;
