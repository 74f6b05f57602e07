// Reactions to messages: who, with which emoji, and how many of each, so that a count is one row however many there are.
import { sql } from "kysely";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import { NAMED_USERS, type ReactionSummary } from "../../contract/messages.ts";
import { reveal } from "../../domain/event.ts";
import { type Page, readPage } from "../page.ts";
import {
  type Body,
  bigint,
  integer,
  projection,
  put,
  type RowOf,
  remove,
  roomOf,
  text,
  upsert,
} from "../projection.ts";
import type { ReadAs } from "../read-as.ts";
import { rooms } from "./rooms.ts";

const columns = {
  room_id: text<RoomId>(),
  /** The seq of the message's posting. */
  message_seq: integer(),
  emoji: text(),
  subject: text<Subject>(),
  client: text<ClientId>(),
  /** Null when the person was erased. */
  user_id: text({ nullable: true }),
  /** The seq of the reaction. */
  seq: integer(),
  created_at: bigint(),
};
type ReactionRow = RowOf<typeof columns>;

export const reactions = projection({
  name: "reactions",
  version: 1,
  key: ["room_id", "message_seq", "emoji", "subject"],
  columns,
  indexes: ["(room_id, message_seq, seq)", "(room_id, message_seq, emoji, seq)"],
  personal: ["user_id"],
  on: {
    ReactionAdded: (e) => {
      const { messageSeq, emoji, subject, user } = e.data;
      const body = { user_id: reveal(user), seq: e.revision + 1, created_at: e.meta.at };
      return [put([roomOf(e.stream), messageSeq, emoji, subject], body)];
    },
    ReactionRemoved: (e) => [remove([roomOf(e.stream), e.data.messageSeq, e.data.emoji, e.data.subject])],
  },
});

const countColumns = {
  room_id: text<RoomId>(),
  message_seq: integer(),
  emoji: text(),
  client: text<ClientId>(),
  count: integer(),
  /** The seq of the reaction by which it came: emoji are shown in this order. */
  since: integer(),
};
type CountRow = RowOf<typeof countColumns>;
type CountBody = Body<CountRow, "room_id" | "message_seq" | "emoji">;

export const reactionCounts = projection({
  name: "reaction_counts",
  version: 1,
  key: ["room_id", "message_seq", "emoji"],
  columns: countColumns,
  indexes: [],
  personal: [],
  on: {
    ReactionAdded: (e) => [
      upsert<CountRow, CountBody>([roomOf(e.stream), e.data.messageSeq, e.data.emoji], (row) =>
        row === undefined || row.count === 0
          ? { count: 1, since: e.revision + 1 }
          : { count: row.count + 1, since: row.since },
      ),
    ],
    ReactionRemoved: (e) => [
      upsert<CountRow, CountBody>([roomOf(e.stream), e.data.messageSeq, e.data.emoji], (row) =>
        row === undefined ? undefined : { count: row.count - 1, since: row.since },
      ),
    ],
  },
});

/** The reactions to a message `m`, over counts `rc` and reactions `ra`. */
export const shownReactions = sql<ReactionSummary[]>`coalesce((
  select json_agg(json_build_object('emoji', rc.emoji, 'count', rc.count, 'user_ids', (
      select coalesce(json_agg(named.user_id order by named.seq) filter (where named.user_id is not null), '[]')
      from (select ra.user_id, ra.seq from ra
        where ra.room_id = rc.room_id and ra.message_seq = rc.message_seq and ra.emoji = rc.emoji
        order by ra.seq limit ${sql.lit(NAMED_USERS)}) named
    )) order by rc.since)
  from rc where rc.room_id = m.room_id and rc.message_seq = m.seq and rc.count > 0
), '[]'::json)`;

type ReactionList = { readonly limit: number; readonly cursor?: Cursor };

/** Newest first. Throws InvalidCursor. */
export function listReactions(
  read: ReadAs,
  { room, messageSeq }: { readonly room: RoomId; readonly messageSeq: number },
  { limit, cursor }: ReactionList,
): Promise<Page<ReactionRow>> {
  const query = read
    .over({ ra: reactions, r: rooms })
    .selectFrom("ra")
    .innerJoin("r", (join) => join.onRef("r.room_id", "=", "ra.room_id").on((eb) => eb.not("r.deleted")))
    .selectAll("ra")
    .where("ra.room_id", "=", room)
    .where("ra.message_seq", "=", messageSeq);
  return readPage(read, query, { by: { "ra.seq": "integer" }, order: "desc", limit, cursor }, (last) => [last.seq]);
}
