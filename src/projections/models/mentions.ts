// Mentions in messages as they are now: whom each mentions, and how many of what is unread mention a user.
import { type RawBuilder, sql } from "kysely";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import { EVERYONE } from "../../contract/messages.ts";
import { reveal } from "../../domain/event.ts";
import type { RoomEvent } from "../../domain/room-state.ts";
import { type Body, integer, projection, put, type RowOf, remove, roomOf, text } from "../projection.ts";

const columns = {
  room_id: text<RoomId>(),
  /** Of all members together `@everyone`. */
  subject: text<Subject | typeof EVERYONE>(),
  /** The seq of the message's posting. */
  seq: integer(),
  client: text<ClientId>(),
  /** Null when the person was erased. */
  user_id: text({ nullable: true }),
  /** Mentions are shown in this order. */
  nth: integer(),
};
type MentionRow = RowOf<typeof columns>;

type Content = Pick<Extract<RoomEvent, { type: "MessagePosted" }>["data"], "mentions" | "everyone">;

const mentioned = (stream: string, seq: number, { mentions, everyone }: Content) => {
  const all: readonly { readonly subject: MentionRow["subject"]; readonly user_id: string | null }[] = [
    ...mentions.map(({ subject, user }) => ({ subject, user_id: reveal(user) })),
    ...(everyone ? [{ subject: EVERYONE, user_id: EVERYONE } as const] : []),
  ];
  return all.map(({ subject, user_id }, nth) =>
    put<MentionRow, Body<MentionRow, "room_id" | "subject" | "seq">>([roomOf(stream), subject, seq], { user_id, nth }),
  );
};

export const mentions = projection({
  name: "mentions",
  version: 1,
  key: ["room_id", "subject", "seq"],
  columns,
  indexes: ["(room_id, seq)"],
  personal: ["user_id"],
  on: {
    MessagePosted: (e) => mentioned(e.stream, e.revision + 1, e.data),
    MessageEdited: ({ stream, data }) => [
      ...[...data.unmentioned, ...(data.everyone ? [] : [EVERYONE])].map((subject) =>
        remove([roomOf(stream), subject, data.messageSeq]),
      ),
      ...mentioned(stream, data.messageSeq, data),
    ],
  },
});

/** Whom a message `m` mentions, over mentions `mn`. */
export const shownMentions = sql<string[]>`coalesce((
  select json_agg(mn.user_id order by mn.nth) filter (where mn.user_id is not null)
  from mn where mn.room_id = m.room_id and mn.seq = m.seq
), '[]'::json)`;

/** Which seqs of a room mention any of these, over mentions `mn`. */
export const mentioning = (room: RoomId, subjects: readonly Subject[]): RawBuilder<number> =>
  sql<number>`(select mn.seq from mn where mn.room_id = ${room} and mn.subject = any(${[...subjects, EVERYONE]}))`;

/**
 * How many messages by others after a seq mention a member `m` of a room `r`, which sees them, and are not deleted, over
 * mentions `mn` and messages `t`; those that grew count from their end on.
 * Each mention after the seq is looked up: they are few among what is unread.
 */
export const mentionsAfter = (seq: RawBuilder<number>): RawBuilder<number> => sql<number>`(
  select count(distinct unread.seq)::int from (
    select mn.seq from mn
    where mn.room_id = m.room_id and mn.subject in (m.subject, ${sql.lit(EVERYONE)}) and mn.seq > ${seq}
    union all
    select mn.seq from t grown join mn on mn.room_id = grown.room_id and mn.seq = grown.seq
    where grown.room_id = m.room_id and grown.end_seq > ${seq} and mn.subject in (m.subject, ${sql.lit(EVERYONE)})
  ) unread join t on t.room_id = m.room_id and t.seq = unread.seq
  where t.deleted_at is null and t.state <> 'growing' and t.type <> 'system' and t.sender <> m.subject
    and (/* fence: mentions-unseen */ r.history = 'all' or t.seq >= m.joined_seq /* end */)
)`;
