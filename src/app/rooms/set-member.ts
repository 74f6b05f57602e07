// Adding a member to a room, or replacing how it is described there.

import type { RoomId, Subject } from "../../contract/ids.ts";
import { type JsonObject, sameJson } from "../../contract/json.ts";
import type { Role } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import { seal } from "../../domain/event.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import type { MemberData } from "../../domain/room-events.ts";
import { requireLive } from "../../domain/room-state.ts";
import { userDecider, userStream } from "../../domain/user.ts";
import type { CommandContext } from "../../event-store/envelope.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type MemberRow, memberAsKept } from "../../projections/models/rooms.ts";
import { userBySubject } from "../../projections/models/users.ts";
import type { ReadAs } from "../../projections/read-side.ts";
import type { Caller } from "../authenticate.ts";
import { AppError } from "../errors.ts";
import { meetUsers } from "../meet-users.ts";
import type { Services } from "../services.ts";
import { findRoom } from "./room-access.ts";

/** How long the description of a member is waited for that the log has already. */
const READ_WAIT_MS = 5_000;

type Asked = {
  readonly caller: Caller;
  readonly read: ReadAs;
  readonly context: CommandContext;
  readonly at: Instant;
};
type Wanted = {
  readonly userId: string;
  /** Null: the role stays; who joins becomes a member. */
  readonly role: Role | null;
  readonly name: string | null;
  readonly meta: JsonObject;
};
type SetMember = {
  readonly room: RoomId;
  readonly joined: boolean;
  readonly member: MemberData;
  readonly joinedAt: Instant;
  /** The user's own name, looked up when it has none in the room. */
  readonly ownName: string | null;
  readonly position: Position;
};

/** Throws what the room's rules refuse, and AppError (read_model_behind). */
export async function setMember(services: Services, asked: Asked, named: string, wanted: Wanted): Promise<SetMember> {
  const { keyring, commands } = services;
  const { caller, context, at, read } = asked;
  const room = await findRoom(services, caller.client, named);
  const subject = await keyring.subjectOfUser(caller.client, wanted.userId);
  const before = await commands.load(roomDecider, roomStream(room));
  const there = before.state.status === "live" && before.state.members.has(subject);
  const row = there ? await keptMember(services, read, room, subject, before.position) : undefined;

  const data = { subject, user: seal(wanted.userId), name: sealedName(wanted.name), meta: seal(wanted.meta) };
  const set = (same: boolean) => {
    const command = { type: "SetMember", at, actor: caller.actor, member: data, role: wanted.role, same } as const;
    return commands.execute(roomDecider, roomStream(room), command, context);
  };
  const same = row !== undefined && row.user_id === wanted.userId && isDescribed(row, wanted);
  let outcome = await set(same);
  const moved = requireLive(outcome.state).seq !== before.revision + 1;
  // Meanwhile the description may have changed that was found to be the same: once more, without relying on it.
  if (outcome.events.length === 0 && moved) outcome = await set(false);

  const [event] = outcome.events;
  const joined = event?.type === "MemberJoined";
  const role = requireLive(outcome.state).members.get(subject) ?? "member";
  const known = joined ? undefined : (row ?? (await keptMember(services, read, room, subject, outcome.position)));
  const joinedAt = joined ? event.at : known?.joined_at;
  if (joinedAt === undefined) throw new AppError("unavailable", { detail: "The member left meanwhile. Try again." });
  const position = await meetUsers(services, [{ subject, userId: wanted.userId }], {
    ...{ context, at },
    after: outcome.position,
  });
  const ownName = wanted.name === null ? await ownNameOf(services, read, subject) : null;
  return { room, joined, member: { ...data, role }, joinedAt, ownName, position };
}

const sealedName = (name: string | null) => (name === null ? null : seal(name));

const isDescribed = (row: MemberRow, { name, meta }: Wanted): boolean => row.name === name && sameJson(row.meta, meta);

/** The user's own name, once the read model has what the log says of the user. */
async function ownNameOf(
  { commands, readSide }: Pick<Services, "commands" | "readSide">,
  read: ReadAs,
  subject: Subject,
): Promise<string | null> {
  const { position } = await commands.load(userDecider, userStream(subject));
  if (position !== null) await readSide.waitFor(position, READ_WAIT_MS);
  return (await userBySubject(read, subject))?.name ?? null;
}

/** The member as the read model keeps it, once that has reached the position. */
async function keptMember(
  { readSide }: Pick<Services, "readSide">,
  read: ReadAs,
  room: RoomId,
  subject: Subject,
  position: Position | null,
): Promise<MemberRow | undefined> {
  if (position !== null && !(await readSide.waitFor(position, READ_WAIT_MS))) throw new AppError("read_model_behind");
  return memberAsKept(read, room, subject);
}
