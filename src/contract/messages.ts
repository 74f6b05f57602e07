// Messages: what requests send and answers show.
import { z } from "zod";
import {
  anyObject,
  commaSeparated,
  input,
  meta,
  name,
  orNull,
  paging,
  patched,
  pattern,
  queryBoolean,
  queryInteger,
  text,
  time,
  userId,
} from "./fields.ts";
import { RoomParams } from "./rooms.ts";

export const MessageResource = z
  .object({
    id: z.string(),
    room_id: z.string(),
    seq: z.int().describe("The seq of its posting"),
    sender_id: z.string().nullable().describe("null when the person was erased"),
    sender_name: z.string().nullable(),
    type: z.string(),
    content: z.string().nullable().describe("null when it was deleted or the person erased"),
    meta: anyObject,
    reply_to: z.string().nullable(),
    created_at: time,
    edited_at: time.nullable(),
    deleted_at: time.nullable(),
  })
  .meta({ id: "Message" });
export type MessageResource = z.infer<typeof MessageResource>;

const MAX_SEQ = 2 ** 31 - 1;
const content = text(0, 10_000);
const messageType = pattern(/^[a-z][a-z0-9_.-]*$/, "of a-z 0-9 _ . - and begin with a letter", 1, 64);

export const MessageParams = RoomParams.extend({ message_id: z.string() });
export const NewMessage = input({
  sender_id: orNull(userId).describe("Needed with a client key; a user token's own otherwise"),
  sender_name: orNull(name).describe("With a client key alone; left out: the member's name, else the user's"),
  content: content.describe("May be empty with meta, except for `text` and `system`"),
  type: messageType.default("text").describe("text, image, file, system or your own"),
  meta: meta.default({}),
  reply_to: orNull(text(1, 128)),
});
export type NewMessage = z.output<typeof NewMessage>;
export const MessagePatch = input({ content: content.optional(), meta: patched(meta) });
export type MessagePatch = z.output<typeof MessagePatch>;
export const MessageQuery = input({
  ...paging,
  after_seq: queryInteger(0, MAX_SEQ).optional(),
  before_seq: queryInteger(0, MAX_SEQ).optional(),
  order: z.enum(["asc", "desc"]).optional().describe("Left out: asc when only after_seq is given, else desc"),
  sender_id: commaSeparated(userId).optional(),
  type: commaSeparated(messageType).optional(),
  include_deleted: queryBoolean.default(false),
});
export type MessageQuery = z.output<typeof MessageQuery>;
