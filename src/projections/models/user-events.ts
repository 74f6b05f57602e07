// Where the events are that concern one user alone, and what a user who was away has missed: in the order of the log.
import { type RawBuilder, sql } from "kysely";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import { roomStream } from "../../domain/room.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Body, type EventFacts, integer, projection, put, type RowOf, roomOf, text } from "../projection.ts";
import { first, type ReadAs } from "../read-as.ts";
import { audit } from "./audit.ts";
import { members, rooms } from "./rooms.ts";

const columns = {
  client: text<ClientId>(),
  subject: text<Subject>(),
  position: text<Position>(),
  type: text(),
  stream: text(),
  revision: integer(),
};
type UserEventRow = RowOf<typeof columns>;

export const userEvents = projection({
  name: "user_events",
  version: 2,
  key: ["client", "subject", "position"],
  columns,
  indexes: [],
  personal: [],
  on: {
    MemberLeft: (e) => concerning(e, e.data.subject),
    ReadMarked: (e) => concerning(e, e.data.subject),
    MessageScheduled: (e) => concerning(e, e.data.sender),
    MessageRescheduled: (e) => concerning(e, e.data.sender),
    MessageUnscheduled: (e) => concerning(e, e.data.sender),
    MessageRefused: (e) => concerning(e, e.data.sender),
    DeliveryRequested: (e) => (e.data.channel === "websocket" && !e.data.withheld ? notified(e) : []),
    // Of other channels the recipient is an address, which nobody follows as.
    DeliveryRedriven: (e) => (e.data.withheld ? [] : notified(e)),
    DeliveryReleased: (e) => notified(e),
  },
});

const concerning = ({ meta, position, type, stream, revision }: EventFacts, subject: Subject) =>
  meta.client === null
    ? []
    : [
        put<UserEventRow, Body<UserEventRow, "client" | "subject" | "position">>([meta.client, subject, position], {
          ...{ type, stream, revision },
        }),
      ];

/** What endpoints are sent is no notification. */
const notified = (
  e: EventFacts & { readonly data: { readonly notification: unknown; readonly recipient: Subject } },
) => (e.data.notification === null ? [] : concerning(e, e.data.recipient));

/** A room with events after a position, which the user is in or was in since. */
type ActiveRoom = {
  readonly room: RoomId;
  /** When the user came in last; null: it is not in it. */
  readonly joined: Position | null;
  /** Whether the user left it after the position. */
  readonly left: boolean;
};

/** The rooms in which a user may have missed something after a position, deleted ones among them. */
export async function activeRoomsOf(read: ReadAs, subject: Subject, after: Position): Promise<readonly ActiveRoom[]> {
  const db = read.over({ m: members, r: rooms, e: userEvents });
  const [active, left] = [
    await read.rows(
      db
        .selectFrom("m")
        .innerJoin("r", "r.room_id", "m.room_id")
        .select(["m.room_id", "m.position"])
        .where("m.subject", "=", subject)
        .where("r.activity_position", ">", after),
    ),
    await read.rows(
      db
        .selectFrom("e")
        .select("e.stream")
        .distinct()
        .where("e.subject", "=", subject)
        .where("e.position", ">", after)
        .where("e.type", "=", "MemberLeft"),
    ),
  ];
  const joined = new Map(active.map(({ room_id, position }) => [room_id, position]));
  const lost = new Set(left.map(({ stream }) => roomOf(stream)));
  return [...new Set([...joined.keys(), ...lost])].map((room) => ({
    ...{ room, joined: joined.get(room) ?? null },
    left: lost.has(room),
  }));
}

/** The revision of the first event after a position, of each stream that has one. */
export async function firstRevisions(
  read: ReadAs,
  streams: readonly string[],
  after: Position,
): Promise<ReadonlyMap<string, number>> {
  const query = read
    .over({ a: audit })
    .selectFrom("a")
    .select(["a.stream", sql<number>`min(a.revision)`.as("revision")])
    .where(sql<boolean>`a.stream = any(${streams})`)
    .where("a.position", ">", after)
    .groupBy("a.stream");
  return new Map((await read.rows(query)).map(({ stream, revision }) => [stream, revision]));
}

type MissedEvents = {
  readonly subject: Subject;
  /** Those that may have something to tell. */
  readonly rooms: readonly RoomId[];
  readonly after: Position;
  readonly upTo: Position;
  readonly limit: number;
};
/** Where an event is. */
type EventRef = { readonly stream: string; readonly revision: number; readonly position: Position };

/** Events of the rooms, each read from its own index, and those that concern the user alone. */
const missedBy = (read: ReadAs, { subject, rooms: ids, after, upTo, limit }: MissedEvents) => {
  const streams: RawBuilder<{ stream: string }> = sql`unnest(${ids.map(roomStream)}::text[])`;
  const db = read.over({ a: audit, e: userEvents });
  const inRooms = db
    .selectFrom(streams.as<"one">(sql`one(stream)`))
    .innerJoinLateral(
      (eb) =>
        eb
          .selectFrom("a")
          .select(["a.stream", "a.revision", "a.position"])
          .whereRef("a.stream", "=", "one.stream")
          .where("a.position", ">", after)
          .where("a.position", "<=", upTo)
          .orderBy("a.position")
          .limit(limit)
          .as("found"),
      (join) => join.onTrue(),
    )
    .select(["found.stream", "found.revision", "found.position"]);
  const alone = db
    .selectFrom("e")
    .select(["e.stream", "e.revision", "e.position"])
    .where("e.subject", "=", subject)
    .where("e.position", ">", after)
    .where("e.position", "<=", upTo)
    .where("e.type", "<>", "MemberLeft") // an event of a room too
    .orderBy("e.position")
    .limit(limit);
  return db.selectFrom(inRooms.unionAll(({ parens }) => parens(alone)).as("missed"));
};

/** The first of them, oldest first. */
export const missedEvents = (read: ReadAs, missed: MissedEvents): Promise<readonly EventRef[]> =>
  read.rows(missedBy(read, missed).selectAll("missed").orderBy("missed.position").limit(missed.limit));

/** How many there are, counted to `limit`: rooms after the one in which it is reached are not looked at. */
export async function countMissed(read: ReadAs, missed: MissedEvents): Promise<number> {
  const found = missedBy(read, missed).select("missed.position").limit(missed.limit);
  const counted = read.over({}).selectFrom(found.as("found")).select(sql<number>`count(*)::int`.as("count"));
  return first(await read.rows(counted))?.count ?? 0;
}

/** When the client's first event after a position happened; undefined when there is none. */
export async function timeAfter(read: ReadAs, position: Position): Promise<Instant | undefined> {
  const query = read.over({ a: audit }).selectFrom("a").select("a.at").where("a.position", ">", position);
  return first(await read.rows(query.orderBy("a.position").limit(1)))?.at;
}
