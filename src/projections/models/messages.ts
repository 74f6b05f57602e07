// Messages. A deleted one keeps its content in the row, for restoring, and no query hands it out.

import { type ExpressionBuilder, sql } from "kysely";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, MessageId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { MessageResource, ReactionSummary, ThreadSummary } from "../../contract/messages.ts";
import type { PublicActor } from "../../contract/public-events.ts";
import type { Actor } from "../../domain/decider.ts";
import { reveal } from "../../domain/event.ts";
import type { RoomEvent } from "../../domain/room-state.ts";
import { type Page, readPage } from "../page.ts";
import {
  bigint,
  change,
  type EventFacts,
  integer,
  json,
  projection,
  put,
  type RowOf,
  roomOf,
  text,
} from "../projection.ts";
import { anyOf, type ReadAs } from "../read-as.ts";
import { mentioning, mentions, shownMentions } from "./mentions.ts";
import { reactionCounts, reactions, shownReactions } from "./reactions.ts";
import { rooms } from "./rooms.ts";
import { shownThread, threadParticipants, threads } from "./threads.ts";
import { users } from "./users.ts";

const columns = {
  room_id: text<RoomId>(),
  /** The seq of the posting. */
  seq: integer(),
  client: text<ClientId>(),
  id: text<MessageId>(),
  sender: text<Subject>(),
  /** The sender's id; null when the person was erased. */
  user_id: text({ nullable: true }),
  sender_name: text({ nullable: true }),
  type: text(),
  /** Null when the person was erased. */
  content: text({ nullable: true }),
  meta: json<JsonObject>(),
  reply_to: text<MessageId>({ nullable: true }),
  /** The message in whose thread it is, and the seq of that one's posting. */
  thread_of: text<MessageId>({ nullable: true }),
  thread_seq: integer({ nullable: true }),
  created_at: bigint(),
  edited_at: bigint({ nullable: true }),
  /** Who edited it last, a user by subject. */
  editor_type: text<Actor["type"]>({ nullable: true }),
  editor: text({ nullable: true }),
  deleted_at: bigint({ nullable: true }),
  /** The seq of the event that holds the content. */
  content_seq: integer(),
  /** The seq of the posting, edit, deletion or restoring that was last: the ETag. */
  change_seq: integer(),
  /** Which of the room's messages it is; system ones repeat the last number. */
  ordinal: integer(),
  /** Whether it grows, and how that ended. */
  state: text<MessageResource["state"]>(),
  /** Of one that grew: the seq of its end and its ordinal there, from where on it counts as unread. */
  end_seq: integer({ nullable: true }),
  end_ordinal: integer({ nullable: true }),
};
/** As it may be shown: of a deleted message `content` is null and `meta` is empty. */
type MessageRow = RowOf<typeof columns>;
/** With what others did with it. */
export type ShownMessageRow = MessageRow & {
  readonly edited_by: PublicActor | null;
  readonly mentions: string[];
  readonly reactions: ReactionSummary[];
  readonly thread: ThreadSummary | null;
};

export const messages = projection({
  name: "messages",
  version: 5,
  key: ["room_id", "seq"],
  columns,
  indexes: [
    "(room_id, sender, seq)",
    "(room_id, seq) where deleted_at is null",
    "(room_id, coalesce(end_seq, seq)) where deleted_at is not null and type <> 'system'",
    "(room_id, coalesce(end_seq, seq)) where deleted_at is not null and type = 'system'",
    "(room_id, type, seq) where type <> 'text'",
    "(room_id, thread_seq, seq) where thread_seq is not null",
    "(room_id, end_seq) where end_seq is not null",
    "(room_id, sender, end_seq) where end_seq is not null",
    "(created_at) where state = 'growing'",
  ],
  personal: ["user_id", "sender_name", "content", "meta"],
  on: {
    MessagePosted: (e) => {
      const { id, sender, type, replyTo, thread, ordinal } = e.data;
      const seq = e.revision + 1;
      return [
        put([roomOf(e.stream), seq], {
          ...{ id, sender, type, ordinal },
          user_id: reveal(e.data.user),
          sender_name: reveal(e.data.senderName),
          content: reveal(e.data.content),
          meta: reveal(e.data.meta) ?? {},
          reply_to: replyTo,
          thread_of: thread?.id ?? null,
          thread_seq: thread?.seq ?? null,
          created_at: e.meta.at,
          ...{ edited_at: null, editor_type: null, editor: null },
          deleted_at: null,
          content_seq: seq,
          change_seq: seq,
          state: e.data.growing ? "growing" : "complete",
          end_seq: null,
          end_ordinal: null,
        }),
      ];
    },
    MessageCompleted: (e) => [ended(e, "complete")],
    MessageCancelled: (e) => [ended(e, "cancelled")],
    MessageEdited: (e) => [
      changed(e, {
        content: reveal(e.data.content),
        meta: reveal(e.data.meta) ?? {},
        edited_at: e.meta.at,
        editor_type: e.meta.actor.type,
        editor: e.meta.actor.id,
        content_seq: e.revision + 1,
      }),
    ],
    MessageDeleted: (e) => [changed(e, { deleted_at: e.meta.at })],
    MessageRestored: (e) => [changed(e, { deleted_at: null })],
  },
});

const ended = (
  e: EventFacts & { readonly data: Extract<RoomEvent, { type: "MessageCompleted" }>["data"] },
  state: MessageRow["state"],
) =>
  changed(e, {
    ...{ state, end_seq: e.revision + 1, end_ordinal: e.data.ordinal },
    ...{ content: reveal(e.data.content), meta: reveal(e.data.meta) ?? {}, content_seq: e.revision + 1 },
  });

const changed = (e: EventFacts & { data: { messageSeq: number } }, changes: Partial<MessageRow>) =>
  change<MessageRow, MessageRow>([roomOf(e.stream), e.data.messageSeq], (row) => ({
    ...row,
    ...changes,
    change_seq: e.revision + 1,
  }));

type Visible = { readonly m: MessageRow };
/** The read models that `shownMessage` reads, by the names that it uses. */
export const MESSAGE_TABLES = {
  ...{ m: messages, mn: mentions },
  ...{ rc: reactionCounts, ra: reactions },
  ...{ th: threads, tp: threadParticipants },
  ed: users,
};
/** A message `m` as it may be shown, over `MESSAGE_TABLES`. */
export const shownMessage = (_: ExpressionBuilder<Visible, "m">) =>
  [
    ...SHOWN.map((name) => `m.${name}` as const),
    sql<string | null>`/* fence: deleted-in-lists */ case when m.deleted_at is null then m.content end /* end */`.as(
      "content",
    ),
    sql<JsonObject>`case when m.deleted_at is null then m.meta else '{}'::json end`.as("meta"),
    shownEditor.as("edited_by"),
    sql<ReactionSummary[]>`case when m.deleted_at is null then ${shownReactions} else '[]'::json end`.as("reactions"),
    sql<string[]>`case when m.deleted_at is null then ${shownMentions} else '[]'::json end`.as("mentions"),
    shownThread.as("thread"),
  ] as const;

/** Who edited a message `m` last, over users `ed`: its sender needs no look-up. */
const shownEditor = sql<PublicActor | null>`case when m.editor_type is not null then json_build_object(
  'type', m.editor_type, 'id', case
    when m.editor_type <> 'user' then m.editor
    when m.editor = m.sender then m.user_id
    else (select ed.user_id from ed where ed.subject = m.editor)
  end) end`;

type Concealed = "content" | "meta";
const SHOWN = Object.keys(columns).filter(
  (name): name is Exclude<keyof MessageRow, Concealed> => name !== "content" && name !== "meta",
);

type MessageList = {
  /** Exclusive bounds. */
  afterSeq?: number;
  beforeSeq?: number;
  order: "asc" | "desc";
  senders?: readonly Subject[];
  types?: readonly string[];
  /** The seq of the message in whose thread they are. */
  threadSeq?: number;
  /** Whom they mention, any of them. */
  mentioned?: readonly Subject[];
  includeDeleted: boolean;
  limit: number;
  cursor?: Cursor;
};

const MAX_SEQ = 2 ** 31 - 1;
/** No seq lies outside, and the column could not be compared with more. */
const clamp = (seq: number): number => Math.max(-1, Math.min(MAX_SEQ, seq));

/** By seq, in the given order. Throws InvalidCursor. */
export async function listMessages(read: ReadAs, room: RoomId, list: MessageList): Promise<Page<ShownMessageRow>> {
  const { afterSeq, beforeSeq, order, senders, types, threadSeq, mentioned, includeDeleted, limit, cursor } = list;
  let query = read
    .over({ ...MESSAGE_TABLES, r: rooms })
    .selectFrom("m")
    .select(shownMessage)
    .where("m.room_id", "=", room)
    .where(sql<boolean>`exists (select from r where r.room_id = m.room_id and not r.deleted)`);
  if (afterSeq !== undefined) query = query.where("m.seq", ">", clamp(afterSeq));
  if (beforeSeq !== undefined) query = query.where("m.seq", "<", clamp(beforeSeq));
  if (senders !== undefined) query = query.where(anyOf("m.sender", senders));
  if (types !== undefined) query = query.where(anyOf("m.type", types));
  if (threadSeq !== undefined) query = query.where("m.thread_seq", "=", threadSeq);
  if (mentioned !== undefined) query = query.where(sql<boolean>`m.seq in ${mentioning(room, mentioned)}`);
  // A deleted message mentions nobody.
  if (!includeDeleted || /* fence: deleted-mentions */ mentioned !== undefined)
    query = query.where("m.deleted_at", "is", null);
  return readPage(read, query, { by: { "m.seq": "integer" }, order, limit, cursor }, (last) => [last.seq]);
}
