// A message as answers show it: from its row, or from the events that say what it is.
import { z } from "zod";
import { anyObject, time } from "../../contract/fields.ts";
import type { RoomId } from "../../contract/ids.ts";
import { type Instant, rfc3339, rfc3339OrNull } from "../../contract/time.ts";
import { reveal } from "../../domain/event.ts";
import type { RoomEvent } from "../../domain/room-events.ts";
import type { MessageRow } from "../../projections/models/messages.ts";

export const MessageBody = z
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
export type MessageBody = z.infer<typeof MessageBody>;

/** From a row of the read model. */
export const messageBody = (row: MessageRow): MessageBody => ({
  id: row.id,
  room_id: row.room_id,
  seq: row.seq,
  sender_id: row.user_id,
  sender_name: row.sender_name,
  type: row.type,
  content: row.deleted_at === null ? row.content : null,
  meta: row.deleted_at === null ? row.meta : {},
  reply_to: row.reply_to,
  created_at: rfc3339(row.created_at),
  edited_at: rfc3339OrNull(row.edited_at),
  deleted_at: rfc3339OrNull(row.deleted_at),
});

type DataOf<T extends RoomEvent["type"]> = Extract<RoomEvent, { type: T }>["data"];

/** What became of a message: its posting, its last edit, and since when it is deleted. */
export type MessageFacts = {
  readonly room: RoomId;
  readonly seq: number;
  readonly posting: DataOf<"MessagePosted">;
  readonly postedAt: Instant;
  readonly edit: { readonly data: DataOf<"MessageEdited">; readonly at: Instant } | null;
  readonly deletedAt: Instant | null;
};

/** From events. Of a deleted message nothing of its content is shown. */
export function messageBodyOf({ room, seq, posting, postedAt, edit, deletedAt }: MessageFacts): MessageBody {
  const content = edit?.data ?? posting;
  return {
    id: posting.id,
    room_id: room,
    seq,
    sender_id: reveal(posting.user),
    sender_name: reveal(posting.senderName),
    type: posting.type,
    content: deletedAt === null ? reveal(content.content) : null,
    meta: deletedAt === null ? (reveal(content.meta) ?? {}) : {},
    reply_to: posting.replyTo,
    created_at: rfc3339(postedAt),
    edited_at: rfc3339OrNull(edit?.at ?? null),
    deleted_at: rfc3339OrNull(deletedAt),
  };
}
