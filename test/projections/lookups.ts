// Single rows of read models, as tests look at them.
import { type MessageId, type RoomId, type Subject, seqOfMessage } from "../../src/contract/ids.ts";
import { audit } from "../../src/projections/models/audit.ts";
import { deliveries } from "../../src/projections/models/deliveries.ts";
import { listMessages } from "../../src/projections/models/messages.ts";
import { members, rooms } from "../../src/projections/models/rooms.ts";
import { users } from "../../src/projections/models/users.ts";
import { anyOf, first, type OperatorRead, type ReadAs } from "../../src/projections/read-as.ts";

export const roomById = async (read: ReadAs, id: RoomId) =>
  first(await read.rows(roomsOf(read).where("room_id", "=", id)));

export const roomByExternalId = async (read: ReadAs, externalId: string) =>
  first(await read.rows(roomsOf(read).where("external_id", "=", externalId).orderBy("position", "desc").limit(1)));

const roomsOf = (read: ReadAs) =>
  read
    .over({ r: rooms })
    .selectFrom("r")
    .selectAll()
    .where((eb) => eb.not("deleted"));

/** With the user's own name where the member has none in the room. */
export const memberOf = async (read: ReadAs, room: RoomId, subject: Subject) =>
  first(
    await read.rows(
      read
        .over({ m: members, r: rooms, u: users })
        .selectFrom("m")
        .innerJoin("r", (join) => join.onRef("r.room_id", "=", "m.room_id").on((eb) => eb.not("r.deleted")))
        .leftJoin("u", "u.subject", "m.subject")
        .selectAll("m")
        .select((eb) => eb.fn.coalesce("m.name", "u.name").as("name"))
        .where("m.room_id", "=", room)
        .where("m.subject", "=", subject),
    ),
  );

export const membersPage = (read: ReadAs | OperatorRead, room: RoomId, after: Subject | null, limit: number) =>
  read.rows(
    read
      .over({ m: members })
      .selectFrom("m")
      .selectAll()
      .where("room_id", "=", room)
      .where("subject", ">", after ?? "sub_")
      .orderBy("subject")
      .limit(limit),
  );

export async function messageById(read: ReadAs, room: RoomId, id: string) {
  const seq = seqOfMessage(room, id as MessageId);
  if (seq === undefined) return undefined;
  const { rows } = await listMessages(read, room, { order: "asc", afterSeq: seq - 1, includeDeleted: true, limit: 1 });
  return rows[0]?.id === id ? rows[0] : undefined;
}

export const deliveryById = async (read: ReadAs, id: `dlv_${string}`) =>
  first(await read.rows(read.over({ d: deliveries }).selectFrom("d").selectAll().where("id", "=", id)));

/** The events of some streams together, oldest first. */
export const streamPositions = (read: ReadAs, streams: readonly string[], { limit }: { limit: number }) =>
  read.rows(
    read
      .over({ a: audit })
      .selectFrom("a")
      .selectAll()
      .where(anyOf("stream", streams))
      .orderBy("position")
      .limit(limit),
  );
