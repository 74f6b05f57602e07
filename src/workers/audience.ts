// Whom a notification goes to, in pages: its own recipients, or the members that a room had at a seq.

import type { ClientId, RoomId, Subject } from "../contract/ids.ts";
import { type Sealed, seal } from "../domain/event.ts";
import type { NotificationData, Recipient } from "../domain/notification.ts";
import { roomDecider, roomStream } from "../domain/room.ts";
import type { Room } from "../domain/room-state.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { decode } from "../event-store/envelope.ts";
import { users } from "../projections/models/users.ts";
import { sql } from "../projections/sql.ts";
import type { HandlerParts } from "./parts.ts";

/** How many deliveries are asked for at once. */
export const AUDIENCE_PAGE = 100;
const ROOM_READ_PAGE = 1_000;

type AudienceParts = Pick<HandlerParts, "commands" | "store" | "keyring" | "readSide">;

/** The recipients, each once, in the same order each time. */
export async function* audiencePages(
  parts: AudienceParts,
  client: ClientId,
  { recipients, audience }: NotificationData,
): AsyncGenerator<readonly Recipient[]> {
  if (audience === null) {
    for (let from = 0; from < recipients.length; from += AUDIENCE_PAGE)
      yield recipients.slice(from, from + AUDIENCE_PAGE);
    return;
  }
  const subjects = await membersAt(parts, audience.roomId, audience.atSeq);
  const fromRoom = onceAsked(() => userIdsOfRoom(parts, audience.roomId, audience.atSeq));
  for (let from = 0; from < subjects.length; from += AUDIENCE_PAGE) {
    yield withAddresses(parts, client, subjects.slice(from, from + AUDIENCE_PAGE), fromRoom);
  }
}

/** The subjects of a notification's deliveries, without opening an address. */
export async function audienceSubjects(
  parts: AudienceParts,
  { recipients, audience }: NotificationData,
): Promise<readonly Subject[]> {
  if (audience === null) return recipients.map((recipient) => recipient.subject);
  return membersAt(parts, audience.roomId, audience.atSeq);
}

async function membersAt({ commands }: AudienceParts, room: RoomId, seq: number): Promise<readonly Subject[]> {
  const state: Room = await commands.loadAt(roomDecider, roomStream(room), seq - 1);
  return state.status === "live" ? Array.from(state.members.keys()).toSorted() : [];
}

/**
 * The user ids of members. A subject is made from its user id, so however old a source is, it is right: the read model
 * for nearly all, the users' own streams for those that it has not seen yet, the room's log for those known nowhere else.
 */
async function withAddresses(
  { readSide, commands }: AudienceParts,
  client: ClientId,
  subjects: readonly Subject[],
  fromRoom: () => Promise<ReadonlyMap<Subject, Sealed<string>>>,
): Promise<readonly Recipient[]> {
  const rows = await readSide
    .readAs(client)
    .rows<{ subject: Subject; user_id: string | null }>(
      sql`select subject, user_id from ${users} u where subject = any(${subjects})`,
    );
  const known = new Map(rows.flatMap((row) => (row.user_id === null ? [] : [[row.subject, row.user_id]])));
  return Promise.all(
    subjects.map(async (subject) => {
      const id = known.get(subject);
      const address = id === undefined ? await unseen(subject) : seal(id);
      return { subject, address, name: null };
    }),
  );

  async function unseen(subject: Subject): Promise<Sealed<string>> {
    const { state } = await commands.load(userDecider, userStream(subject));
    if (state.status === "registered") return state.user;
    return (await fromRoom()).get(subject) ?? { erased: true };
  }
}

/** Every user id that the room's log names, up to a seq. */
async function userIdsOfRoom({ store, keyring }: AudienceParts, room: RoomId, seq: number) {
  const ids = new Map<Subject, Sealed<string>>();
  for (let from = 0; from < seq; from += ROOM_READ_PAGE) {
    const page = await store.readStream(roomStream(room), { from, limit: Math.min(ROOM_READ_PAGE, seq - from) });
    const joins = page.filter(({ type }) => type === "RoomCreated" || type === "MemberJoined");
    for (const event of await decode(keyring, joins)) {
      const members = event.type === "RoomCreated" ? event.data.members : [];
      for (const member of event.type === "MemberJoined" ? [event.data] : members) ids.set(member.subject, member.user);
    }
    if (page.length === 0) break;
  }
  return ids;
}

function onceAsked<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
