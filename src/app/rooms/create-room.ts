// Making a room, so that two requests, on whatever nodes, make one where there may be only one.
import { setTimeout as sleep } from "node:timers/promises";
import type { RoomId } from "../../contract/ids.ts";
import type { Role } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import { InvalidInput } from "../../domain/errors.ts";
import { seal } from "../../domain/event.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import type { MemberData, RoomSettings } from "../../domain/room-events.ts";
import type { LiveRoom } from "../../domain/room-state.ts";
import { deriveTail } from "../../event-store/derived-ids.ts";
import type { CommandContext } from "../../event-store/envelope.ts";
import type { Position } from "../../event-store/event-store.ts";
import { failpoint } from "../../platform/failpoint.ts";
import type { Caller } from "../authenticate.ts";
import { AppError } from "../errors.ts";
import { meetUsers } from "../meet-users.ts";
import type { Services } from "../services.ts";
import { claim, directPair, externalId, holderIn, holderOf } from "./claims.ts";
import { openRoom } from "./room-access.ts";

/** Members that can be named at creation, the creator included. */
export const MAX_FIRST_MEMBERS = 500;
/** Ids that are tried: one whose claim was taken away as abandoned can never be made. */
const MAX_TRIES = 3;
/** How long another request that is making the room of the same two is waited for. */
const PAIR_WAIT_MS = 2_000;
const PAIR_POLL_MS = 50;

type Named = { readonly userId: string; readonly role: Role; readonly name: string | null };
type NewRoom = {
  readonly settings: RoomSettings;
  readonly externalId: string | null;
  readonly members: readonly Named[];
};
type Asked = { readonly caller: Caller; readonly context: CommandContext; readonly at: Instant };

/** `room` is the room just after its creation, or as it is now when the two had one already (`existed`). */
type MadeRoom = {
  readonly id: RoomId;
  readonly room: LiveRoom;
  readonly position: Position;
  readonly existed: boolean;
  readonly replayed: boolean;
};

/** Makes a room; for two people who have a direct room it gives that one. Throws InvalidInput, `external_id_taken`. */
export async function createRoom(services: Services, asked: Asked, wanted: NewRoom): Promise<MadeRoom> {
  const people = withCreator(wanted.members, asked.caller);
  const members = await Promise.all(
    people.map(async ({ userId, role, name }): Promise<MemberData> => {
      const subject = await services.keyring.subjectOfUser(asked.caller.client, userId);
      return { subject, user: seal(userId), role, name: name === null ? null : seal(name), meta: seal({}) };
    }),
  );
  const { settings, externalId: external } = wanted;
  const command = { type: "Create", at: asked.at, settings, externalId: external, members } as const;
  // Refused before anything is claimed for it.
  roomDecider.decide(roomDecider.initial, command, new Map());
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    const made = await tryCreate(services, asked, idOf(asked.context, attempt), command);
    if (made === undefined) continue;
    if (made.existed) return made;
    const strangers = members.map(({ subject }, index) => ({ subject, userId: people[index]?.userId ?? "" }));
    const position = await meetUsers(services, strangers, { ...asked, after: made.position });
    return { ...made, position };
  }
  throw new AppError("unavailable", { detail: "Others took what was claimed for the room. Try again." });
}

const idOf = ({ commandId }: CommandContext, attempt: number): RoomId =>
  `room_${attempt === 0 ? deriveTail("room", commandId) : deriveTail("room", commandId, attempt)}`;

/** A user owns the room that it makes, whatever it named itself as. */
function withCreator(members: readonly Named[], caller: Caller): readonly Named[] {
  if (caller.kind !== "user") return members;
  const { userId } = caller;
  const named = members.some((member) => member.userId === userId);
  const people = named
    ? members.map((member) => (member.userId === userId ? { ...member, role: "owner" as const } : member))
    : [{ userId, role: "owner" as const, name: null }, ...members];
  if (people.length > MAX_FIRST_MEMBERS) {
    const message = `must have at most ${MAX_FIRST_MEMBERS} elements, the room's creator included`;
    throw new InvalidInput([{ path: "members", code: "too_long", message }]);
  }
  return people;
}

type Create = {
  readonly type: "Create";
  readonly at: Instant;
  readonly settings: RoomSettings;
  readonly externalId: string | null;
  readonly members: readonly MemberData[];
};

/** Undefined: the room with this id was given up for another's claim, and never can be. */
async function tryCreate(services: Services, asked: Asked, id: RoomId, command: Create): Promise<MadeRoom | undefined> {
  const { commands } = services;
  if (command.externalId !== null || command.settings.kind === "direct") {
    // A room that is there has its claims; a request that comes again is answered from the room alone.
    const { state } = await commands.load(roomDecider, roomStream(id));
    const existing = state.status === "none" ? await claimNames(services, asked, id, command) : null;
    if (existing !== null) return opened(services, asked.caller, existing);
    failpoint("claimed/room-made");
  }
  const stream = roomStream(id);
  const { state, position, replayed } = await commands.execute(roomDecider, stream, command, asked.context, {
    newStream: true,
  });
  return state.status === "live" ? { id, room: state, position, existed: false, replayed } : undefined;
}

async function opened(services: Services, caller: Caller, id: RoomId): Promise<MadeRoom> {
  const { room, position } = await openRoom(services, caller, id);
  return { id, room, position: position ?? (await services.store.tail()), existed: true, replayed: false };
}

/** Claims what the room alone may have; gives the direct room that the two have already. */
async function claimNames(services: Services, asked: Asked, id: RoomId, command: Create): Promise<RoomId | null> {
  const { keyring } = services;
  const { client } = asked.caller;
  const subjects = command.members.map((member) => member.subject);
  const pair = command.settings.kind === "direct" ? await directPair(keyring, client, subjects) : null;
  for (let waited = 0; pair !== null; waited += PAIR_POLL_MS) {
    const holder = await holderOf(services, pair, id, asked);
    if (holder.held === null) break;
    if (holder.live) return holder.held;
    if (waited >= PAIR_WAIT_MS) throw new AppError("unavailable", { detail: "Another request is making this room." });
    await sleep(PAIR_POLL_MS);
  }
  if (command.externalId !== null) {
    await claim(services, await externalId(keyring, client, command.externalId), id, asked);
  }
  if (pair === null) return null;
  failpoint("external-id-claimed/pair-claimed");
  try {
    await claim(services, pair, id, asked);
    return null;
  } catch (error) {
    // Another request was faster; once more, to wait for its room.
    if (holderIn(error) === undefined) throw error;
    return claimNames(services, asked, id, command);
  }
}
