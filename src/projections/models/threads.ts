// Threads: how many replies a message has that are not deleted, and whose they are. Their seqs are in the messages.
import { sql } from "kysely";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import { NAMED_USERS, type ThreadSummary } from "../../contract/messages.ts";
import { reveal } from "../../domain/event.ts";
import { type Reply, replyOf } from "../../domain/message-events.ts";
import { type Body, type EventFacts, integer, projection, type RowOf, roomOf, text, upsert } from "../projection.ts";

const columns = {
  room_id: text<RoomId>(),
  /** The seq of the posting under which the thread is. */
  seq: integer(),
  client: text<ClientId>(),
  reply_count: integer(),
};
type ThreadRow = RowOf<typeof columns>;

const counted = (stream: string, reply: Reply | null, by: number) =>
  reply === null
    ? []
    : [
        upsert<ThreadRow, Body<ThreadRow, "room_id" | "seq">>([roomOf(stream), reply.to], (row) => ({
          reply_count: (row?.reply_count ?? 0) + by,
        })),
      ];

export const threads = projection({
  name: "threads",
  version: 1,
  key: ["room_id", "seq"],
  columns,
  indexes: [],
  personal: [],
  on: {
    MessagePosted: ({ stream, data }) => counted(stream, replyOf(data), 1),
    MessageDeleted: ({ stream, data }) => counted(stream, data.reply, -1),
    MessageRestored: ({ stream, data }) => counted(stream, data.reply, 1),
  },
});

const participantColumns = {
  room_id: text<RoomId>(),
  thread_seq: integer(),
  subject: text<Subject>(),
  client: text<ClientId>(),
  /** Null when the person was erased. */
  user_id: text({ nullable: true }),
  /** Its replies that are not deleted. */
  count: integer(),
  /** The seq of the event by which it came into the thread: participants are shown in this order. */
  since: integer(),
};
type ParticipantRow = RowOf<typeof participantColumns>;
type ParticipantBody = Body<ParticipantRow, "room_id" | "thread_seq" | "subject">;

/** `user`: null where only the row knows it. */
const taking = ({ stream, revision }: EventFacts, reply: Reply | null, by: number, user: string | null) =>
  reply === null
    ? []
    : [
        upsert<ParticipantRow, ParticipantBody>([roomOf(stream), reply.to, reply.sender], (row) => ({
          user_id: row?.user_id ?? user,
          count: (row?.count ?? 0) + by,
          since: row === undefined || row.count === 0 ? revision + 1 : row.since,
        })),
      ];

export const threadParticipants = projection({
  name: "thread_participants",
  version: 1,
  key: ["room_id", "thread_seq", "subject"],
  columns: participantColumns,
  indexes: ["(room_id, thread_seq, since) where count > 0"],
  personal: ["user_id"],
  on: {
    MessagePosted: (e) => taking(e, replyOf(e.data), 1, reveal(e.data.user)),
    MessageDeleted: (e) => taking(e, e.data.reply, -1, null),
    MessageRestored: (e) => taking(e, e.data.reply, 1, null),
  },
});

/** The thread under a message `m`, over threads `th`, participants `tp` and messages `m`; null without replies. */
export const shownThread = sql<ThreadSummary | null>`(
  select json_build_object('reply_count', th.reply_count, 'participant_ids', (
      select coalesce(json_agg(named.user_id order by named.since) filter (where named.user_id is not null), '[]')
      from (select tp.user_id, tp.since from tp
        where tp.room_id = th.room_id and tp.thread_seq = th.seq and tp.count > 0
        order by tp.since limit ${sql.lit(NAMED_USERS)}) named
    ), 'last_reply_seq', (
      select reply.seq from m as reply
      where reply.room_id = th.room_id and reply.thread_seq = th.seq and reply.deleted_at is null
      order by reply.seq desc limit 1
    ))
  from th where th.room_id = m.room_id and th.seq = m.seq and th.reply_count > 0
)`;
