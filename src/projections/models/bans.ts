// Bans from rooms, ended ones among them until they are lifted or replaced.
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import type { Actor } from "../../domain/decider.ts";
import { reveal } from "../../domain/event.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, readPage } from "../page.ts";
import { bigint, projection, put, type RowOf, remove, roomOf, text } from "../projection.ts";
import type { ReadAs } from "../read-as.ts";
import { rooms } from "./rooms.ts";

const columns = {
  room_id: text<RoomId>(),
  subject: text<Subject>(),
  client: text<ClientId>(),
  /** Null when the person was erased. */
  user_id: text({ nullable: true }),
  /** Null: until it is lifted. */
  until: bigint({ nullable: true }),
  reason: text({ nullable: true }),
  banned_at: bigint(),
  actor_type: text<Actor["type"]>(),
  /** Of a user its subject. */
  actor_id: text(),
  position: text<Position>(),
};
type BanRow = RowOf<typeof columns>;

export const bans = projection({
  name: "bans",
  version: 1,
  key: ["room_id", "subject"],
  columns,
  indexes: ["(room_id, position)"],
  personal: ["user_id", "reason"],
  on: {
    MemberBanned: (e) => [
      put([roomOf(e.stream), e.data.subject], {
        user_id: reveal(e.data.user),
        until: e.data.until,
        reason: reveal(e.data.reason),
        banned_at: e.meta.at,
        actor_type: e.meta.actor.type,
        actor_id: e.meta.actor.id,
        position: e.position,
      }),
    ],
    MemberUnbanned: (e) => [remove([roomOf(e.stream), e.data.subject])],
  },
});

type BanList = { readonly at: Instant; readonly limit: number; readonly cursor?: Cursor };

/** Bans that hold at a time, newest first. Throws InvalidCursor. */
export function listBans(read: ReadAs, room: RoomId, { at, limit, cursor }: BanList): Promise<Page<BanRow>> {
  const query = read
    .over({ b: bans, r: rooms })
    .selectFrom("b")
    .innerJoin("r", (join) => join.onRef("r.room_id", "=", "b.room_id").on((eb) => eb.not("r.deleted")))
    .selectAll("b")
    .where("b.room_id", "=", room)
    .where((eb) => eb.or([eb("b.until", "is", null), eb("b.until", ">", at)]));
  return readPage(read, query, { by: { "b.position": "text" }, order: "desc", limit, cursor }, (last) => [
    last.position,
  ]);
}
