// Messages for later: what they say, when, and what became of them.

import { sql } from "kysely";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, ScheduledMessageId, Subject } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { ScheduledStatus } from "../../contract/messages.ts";
import type { Instant } from "../../contract/time.ts";
import { reveal } from "../../domain/event.ts";
import { mentionedIn } from "../../domain/message-rules.ts";
import type { ScheduledData } from "../../domain/scheduled-message.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, readPage } from "../page.ts";
import { bigint, change, json, projection, put, type RowOf, scheduledOf, text } from "../projection.ts";
import { anyOf, type OperatorRead, type ReadAs } from "../read-as.ts";

const columns = {
  id: text<ScheduledMessageId>(),
  client: text<ClientId>(),
  room_id: text<RoomId>(),
  sender: text<Subject>(),
  /** Null when the person was erased, as is `content`. */
  user_id: text({ nullable: true }),
  type: text(),
  content: text({ nullable: true }),
  meta: json<JsonObject>(),
  mentions: json<string[]>(),
  reply_to: text({ nullable: true }),
  thread_of: text({ nullable: true }),
  send_at: bigint(),
  status: text<ScheduledStatus>(),
  message_id: text({ nullable: true }),
  reason: text({ nullable: true }),
  created_at: bigint(),
  /** Until the room has decided: when somebody has to see to it. */
  next_action_at: bigint({ nullable: true }),
  position: text<Position>(),
};
export type ScheduledMessageRow = RowOf<typeof columns>;

const saidIn = ({ content, meta, mentions, everyone, sendAt }: Omit<ScheduledData, "room">) => ({
  content: reveal(content),
  meta: reveal(meta) ?? {},
  mentions: mentionedIn({ mentions, everyone }),
  ...{ send_at: sendAt, next_action_at: sendAt },
});
const changed = ({ stream }: { readonly stream: string }, changes: Partial<ScheduledMessageRow>) => [
  change<ScheduledMessageRow, ScheduledMessageRow>([scheduledOf(stream)], (row) => ({ ...row, ...changes })),
];

export const scheduledMessages = projection({
  name: "scheduled_messages",
  version: 1,
  key: ["id"],
  columns,
  indexes: [
    "(room_id, position)",
    "(client, sender) where status = 'scheduled'",
    "(next_action_at, id) where next_action_at is not null",
  ],
  personal: ["user_id", "content", "meta", "mentions"],
  on: {
    MessageScheduled: (e) => [
      put([scheduledOf(e.stream)], {
        ...{ room_id: e.data.room, sender: e.data.sender, user_id: reveal(e.data.user), type: e.data.type },
        ...{ reply_to: e.data.replyTo, thread_of: e.data.threadOf, ...saidIn(e.data) },
        ...{ status: "scheduled", message_id: null, reason: null, created_at: e.meta.at, position: e.position },
      }),
    ],
    MessageRescheduled: (e) => changed(e, saidIn(e.data as ScheduledData)),
    MessageUnscheduled: (e) => changed(e, { status: "cancelled", next_action_at: null }),
    MessageDue: (e) => changed(e, { next_action_at: e.meta.at }),
    ScheduledMessagePosted: (e) => changed(e, { status: "posted", message_id: e.data.message, next_action_at: null }),
    MessageRefused: (e) => changed(e, { status: "refused", reason: e.data.reason, next_action_at: null }),
  },
});

/** Of a room, newest first; of one sender alone when it is given. Throws InvalidCursor. */
export async function listScheduled(
  read: ReadAs,
  list: { room: RoomId; sender?: Subject; statuses?: readonly ScheduledStatus[]; limit: number; cursor?: Cursor },
): Promise<Page<ScheduledMessageRow>> {
  const { room, sender, statuses, limit, cursor } = list;
  let query = read.over({ s: scheduledMessages }).selectFrom("s").selectAll().where("room_id", "=", room);
  if (sender !== undefined) query = query.where("sender", "=", sender);
  if (statuses !== undefined) query = query.where(anyOf("status", statuses));
  const page = { by: { position: "text" }, order: "desc", limit, cursor } as const;
  return readPage(read, query, page, (last) => [last.position]);
}

/** How many wait of a client, and of one of its users. */
export async function countScheduled(read: ReadAs, sender: Subject) {
  const rows = await read.rows(
    read
      .over({ s: scheduledMessages })
      .selectFrom("s")
      .select(sql<number>`count(*)::int`.as("ofClient"))
      .select(sql<number>`(count(*) filter (where sender = ${sender}))::int`.as("ofSender"))
      .where("status", "=", "scheduled"),
  );
  return rows[0] ?? { ofClient: 0, ofSender: 0 };
}

/** Those that somebody has to see to by `now`, longest due first. */
export const dueScheduled = (
  operator: OperatorRead,
  now: Instant,
  limit: number,
  after: { at: Instant; id: string } = { at: -1, id: "" },
): Promise<readonly ScheduledMessageRow[]> =>
  operator.rows(
    operator
      .over({ s: scheduledMessages })
      .selectFrom("s")
      .selectAll()
      .where("next_action_at", "<=", now)
      .where(sql<boolean>`(next_action_at, id) > (${after.at}, ${after.id})`)
      .orderBy("next_action_at")
      .orderBy("id")
      .limit(limit),
  );
