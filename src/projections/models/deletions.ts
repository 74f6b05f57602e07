// How many messages of a room are deleted now, by blocks of seqs: counting them costs the same however many there are.
import { type RawBuilder, sql } from "kysely";
import type { ClientId, RoomId } from "../../contract/ids.ts";
import { type Body, type EventFacts, integer, projection, type RowOf, roomOf, text, upsert } from "../projection.ts";

/** Seqs of a small and of a large block. */
const SMALL = 64;
const LARGE = 4_096;

const columns = {
  room_id: text<RoomId>(),
  width: integer(),
  /** A message is in block seq / width. */
  block: integer(),
  client: text<ClientId>(),
  count: integer(),
};
type DeletionRow = RowOf<typeof columns>;

export const deletions = projection({
  name: "deletions",
  version: 2,
  key: ["room_id", "width", "block"],
  columns,
  indexes: [],
  personal: [],
  on: {
    MessageDeleted: (e) => counted(e, 1),
    MessageRestored: (e) => counted(e, -1),
  },
});

/** One that grew is counted at its end: until then nobody had it unread. */
const counted = (e: EventFacts & { data: { messageSeq: number; endSeq: number | null } }, by: number) =>
  [SMALL, LARGE].map((width) =>
    upsert<DeletionRow, Body<DeletionRow, "room_id" | "width" | "block">>(
      [roomOf(e.stream), width, Math.floor((e.data.endSeq ?? e.data.messageSeq) / width)],
      (row) => ({ count: (row?.count ?? 0) + by }),
    ),
  );

/**
 * How many messages after a seq are deleted now and were no system ones, over messages `t` and deletions `x`: whole large
 * blocks, whole small ones of the seq's large block, and the messages of its small block. System messages, which are not
 * counted apart, are taken off.
 */
export const deletedAfter = (room: RawBuilder<string>, seq: RawBuilder<number>): RawBuilder<number> => sql<number>`(
  (select coalesce(sum(x.count), 0) from x where x.room_id = ${room} and x.width = ${SMALL}
    and x.block > ${seq} / ${SMALL} and x.block < (${seq} / ${LARGE} + 1) * ${LARGE / SMALL})
  + (select coalesce(sum(x.count), 0) from x where x.room_id = ${room} and x.width = ${LARGE}
    and x.block > ${seq} / ${LARGE})
  + (select count(*) from t where t.room_id = ${room} and t.deleted_at is not null and t.type <> 'system'
    and coalesce(t.end_seq, t.seq) > ${seq} and coalesce(t.end_seq, t.seq) < (${seq} / ${SMALL} + 1) * ${SMALL})
  - (select count(*) from t where t.room_id = ${room} and t.deleted_at is not null and t.type = 'system'
    and coalesce(t.end_seq, t.seq) >= (${seq} / ${SMALL} + 1) * ${SMALL})
)::int`;
