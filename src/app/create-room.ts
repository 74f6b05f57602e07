// Creating a room. What only one room of a client may have is claimed first, so that two requests, on whatever nodes,
// make one: an external id, or being the direct room of two people.
import { setTimeout as sleep } from "node:timers/promises";
import { type ClientId, type RoomId, RoomIdSchema, type Subject } from "../contract/ids.ts";
import type { RoomResource } from "../contract/rooms.ts";
import { MAX_FIRST_MEMBERS, type NewRoom } from "../contract/rooms.ts";
import { SECOND_MS } from "../contract/time.ts";
import { claimDecider, claimStream } from "../domain/claim.ts";
import { DomainError, InvalidInput } from "../domain/decider.ts";
import { seal, sealOrNull } from "../domain/event.ts";
import { type RoomCommand, roomDecider, roomStream } from "../domain/room.ts";
import type { ExistingRoom, Room } from "../domain/room-state.ts";
import { deriveSecretTail, deriveTail } from "../event-store/derived-ids.ts";
import { type CommandContext, decodeMetadata, unkeyed } from "../event-store/envelope.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import { policyFor } from "./clients.ts";
import { AppError } from "./errors.ts";
import { requireUsers } from "./members.ts";
import { roomOfState } from "./resources.ts";
import { type Claimable, externalIdClaim, openRoom } from "./rooms.ts";
import type { Call, Caller, Written } from "./services.ts";

/** Ids that are tried: a room whose claim was taken away as abandoned can never be made under its id. */
const MAX_TRIES = 3;
/** How long another request that is making the room of the same two is waited for. */
const PAIR_WAIT_MS = 2_000;
const PAIR_POLL_MS = 50;
/** A room whose claim is older than this and that does not exist was given up by whoever was to make it. */
const ABANDONED_AFTER_MS = 10 * SECOND_MS;

type Create = Extract<RoomCommand, { type: "Create" }>;
/** `room` as it was just after its creation; `existed`: as it is now, the two had one already. */
type MadeRoom = Written & { readonly id: RoomId; readonly room: ExistingRoom; readonly existed: boolean };
type CreatedRoom = Written & { readonly room: RoomResource; readonly etag: number; readonly existed: boolean };

/** Gives the direct room that two people have already. Throws InvalidInput, external_id_taken, unavailable. */
export async function createRoom(call: Call, wanted: NewRoom): Promise<CreatedRoom> {
  const { services, caller, at, context } = call;
  const { name, description, kind, join_role: joinRole, max_members: maxMembers, posting, history } = wanted;
  const { meta, external_id: externalId } = wanted;
  const named = withCreator(wanted, caller);
  const people = await Promise.all(
    named.map(async (one) => ({ ...one, subject: await services.keyring.subjectOfUser(caller.client, one.userId) })),
  );
  const members = people.map(({ subject, userId, role, name }) => ({
    ...{ subject, user: seal(userId), role },
    name: sealOrNull(name),
    meta: seal({}),
  }));
  const command: Create = {
    type: "Create",
    at,
    settings: { name, description, kind, joinRole, maxMembers, posting, history, meta },
    externalId,
    members,
  };
  await requirePolicy(call, wanted);
  // Refused before anything is claimed for it.
  roomDecider.decide(roomDecider.initial, command, new Map());
  if (caller.kind === "user") {
    const others = people.filter(({ subject }) => subject !== caller.subject);
    const pathOf = (user: string) => `members.${wanted.members.findIndex((one) => one.user_id === user)}.user_id`;
    await requireUsers(
      services,
      others.map(({ subject, userId }) => ({ subject, path: pathOf(userId) })),
    );
  }
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    const made = await tryCreate(call, idOf(context, attempt), command);
    if (made === undefined) continue;
    const { id, room, existed, replayed } = made;
    const position = existed ? made.position : await services.people.ensure(call, people, made.position);
    return { room: roomOfState(id, room), etag: room.settingsSeq, existed, position, replayed };
  }
  throw new AppError("unavailable", { detail: "Others took what was claimed for the room. Try again." });
}

/** What a user made before its client forbade it may be asked for again. Throws forbidden. */
async function requirePolicy(call: Call, { members }: NewRoom): Promise<void> {
  const { services, caller, context } = call;
  const { usersCreateRooms, usersAddMembers } = await policyFor(call);
  const names = members.some(({ user_id: user }) => caller.kind === "user" && user !== caller.userId);
  // fence: policy-creates
  if (usersCreateRooms && (usersAddMembers || !names)) return;
  const { state } = await services.commands.load(roomDecider, roomStream(idOf(context, 0)));
  if (state.status !== "none") return;
  const what = usersCreateRooms ? "add no members" : "create no rooms";
  throw new AppError("forbidden", { detail: `users of this client ${what}` });
}

const idOf = ({ commandId }: CommandContext, attempt: number): RoomId =>
  `room_${attempt === 0 ? deriveTail("room", commandId) : deriveTail("room", commandId, attempt)}`;

/** The first members. A user owns the room that it makes, whatever it named itself as; a direct room has no owner. */
function withCreator({ members, kind }: NewRoom, caller: Caller) {
  const named = members.map(({ user_id: userId, role, name }) => ({ userId, role, name }));
  if (caller.kind !== "user") return named;
  const { userId } = caller;
  const owner = { userId, role: kind === "direct" ? ("member" as const) : ("owner" as const), name: null };
  const people = named.some((one) => one.userId === userId)
    ? named.map((one) => (one.userId === userId ? { ...one, role: owner.role } : one))
    : kind === "direct"
      ? [...named, owner]
      : [owner, ...named];
  if (people.length > MAX_FIRST_MEMBERS) {
    const message = `must have at most ${MAX_FIRST_MEMBERS} elements, the room's creator included`;
    throw new InvalidInput([{ path: "members", code: "too_long", message }]);
  }
  return people;
}

/** Undefined: the room with this id was given up for another's claim, and can never be made. */
async function tryCreate(call: Call, id: RoomId, command: Create): Promise<MadeRoom | undefined> {
  const { services, caller, context } = call;
  const stream = roomStream(id);
  if (command.externalId !== null || command.settings.kind === "direct") {
    // A room that exists has its claims; a request that comes again is answered from the room alone.
    const { state } = await services.commands.load(roomDecider, stream);
    const existing = state.status === "none" ? await claimNames(call, id, command) : null;
    if (existing !== null) {
      const { room, position } = await openRoom(services, caller, existing);
      const upTo = position ?? (await services.store.tail());
      return { id: existing, room, position: upTo, existed: true, replayed: false };
    }
    failpoint("claimed/room-made");
  }
  const options = { newStream: true };
  const { state, ...written } = await services.commands.execute(roomDecider, stream, command, context, options);
  return state.status === "live" ? { id, room: state, existed: false, ...written } : undefined;
}

/** Claims what the room alone may have; gives the direct room that the two have already. */
async function claimNames(call: Call, id: RoomId, command: Create): Promise<RoomId | null> {
  const { services, caller } = call;
  const subjects = command.members.map((member) => member.subject);
  const direct = command.settings.kind === "direct";
  const pair = direct ? await pairClaim(services.keyring, caller.client, subjects) : null;
  for (let waited = 0; pair !== null; waited += PAIR_POLL_MS) {
    const holder = await holderOf(call, pair, id);
    if (holder.held === null) break;
    if (holder.made) return holder.held;
    if (waited >= PAIR_WAIT_MS) throw new AppError("unavailable", { detail: "Another request is making this room." });
    await sleep(PAIR_POLL_MS);
  }
  if (command.externalId !== null) {
    await claim(call, await externalIdClaim(services.keyring, caller.client, command.externalId), id);
  }
  if (pair === null) return null;
  failpoint("external-id-claimed/pair-claimed");
  try {
    await claim(call, pair, id);
    return null;
  } catch (error) {
    const taken = error instanceof DomainError && error.code === "external_id_taken";
    if (!taken || !RoomIdSchema.safeParse(error.extra.existing_id).success) throw error;
    // Another request was faster; once more, to wait for its room.
    return claimNames(call, id, command);
  }
}

/** Being the direct room of these two. */
async function pairClaim(keyring: Keyring, client: ClientId, pair: readonly Subject[]): Promise<Claimable> {
  const hash = deriveSecretTail(await keyring.pepper(client), "pair", ...pair.toSorted());
  const isOf = ({ settings, members }: ExistingRoom) =>
    settings.kind === "direct" && pair.every((subject) => members.has(subject));
  return { stream: claimStream(hash), isOf };
}

/** Who holds a claim: nobody or a room that is gone (`held` null), a room that was made, or one that is being made. */
type Holder = { readonly held: null; readonly gone: RoomId | null } | { readonly held: RoomId; readonly made: boolean };

/** Looks who holds a claim besides `own`, and ends the claim of a room that was given up. */
async function holderOf(call: Call, { stream, isOf }: Claimable, own: RoomId): Promise<Holder> {
  const { commands, store } = call.services;
  const { room } = (await commands.load(claimDecider, stream)).state;
  if (room === null || room === own) return { held: null, gone: null };
  const decided = (state: Room): Holder =>
    state.status === "live" && isOf(state) ? { held: room, made: true } : { held: null, gone: room };
  const { state } = await commands.load(roomDecider, roomStream(room));
  if (state.status !== "none") return decided(state);
  const [claimed] = await store.readStream(stream, { direction: "backward", limit: 1 });
  if (claimed !== undefined && call.at - decodeMetadata(claimed).at <= ABANDONED_AFTER_MS)
    return { held: room, made: false };
  // From here on the room can never be made: whoever was to make it may only be slow.
  const abandon = { type: "Abandon", at: call.at } as const;
  return decided((await commands.execute(roomDecider, roomStream(room), abandon, causedBy(call))).state);
}

/** Claims for a room. Throws external_id_taken with `existing_id` when another room holds it. */
async function claim(call: Call, claimable: Claimable, room: RoomId): Promise<void> {
  const holder = await holderOf(call, claimable, room);
  failpoint("holder-known/claimed");
  // When another holds it, the decision says so.
  const abandoned = holder.held === null ? holder.gone : null;
  const command = { type: "Claim", at: call.at, room, abandoned } as const;
  await call.services.commands.execute(claimDecider, claimable.stream, command, causedBy(call));
}

/** A new command each time: a claim is decided by who holds it now, also when a request comes again. */
const causedBy = ({ services, context }: Call): CommandContext => ({
  ...unkeyed(context),
  commandId: services.newId(),
  causation: context.commandId,
});
