// Rooms: which one a caller means and may see, how it is changed, and what lists show of it.
import { setTimeout as sleep } from "node:timers/promises";
import { type ClientId, type RoomId, RoomIdSchema } from "../contract/ids.ts";
import type { RoomPatch, RoomQuery, RoomResource } from "../contract/rooms.ts";
import { claimDecider, claimStream } from "../domain/claim.ts";
import { type Bare, DomainError, type IfMatch } from "../domain/decider.ts";
import { type RoomCommand, roomDecider, roomStream } from "../domain/room.ts";
import { type ExistingRoom, type Room, type RoomEvent, requireExisting, requireRole } from "../domain/room-state.ts";
import { deriveSecretTail } from "../event-store/derived-ids.ts";
import type { StoredEvent } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import { readDecoded } from "../event-store/handle-command.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { listRooms as queryRooms } from "../projections/models/rooms.ts";
import type { Page } from "../projections/page.ts";
import { AppError } from "./errors.ts";
import { roomOfRow, roomOfState } from "./resources.ts";
import type { Call, Caller, Services, Written } from "./services.ts";
import { streamOwner } from "./stream-owner.ts";

/** A room that its caller may see. `position` is that of its last event as of the call. */
type OpenRoom = { readonly id: RoomId; readonly room: ExistingRoom; readonly position: Position | null };

/** What precedes an external id where a room is named. */
const EXTERNAL = "ext:";
/** How long not_found takes at least where a user names a room by its external id, in ms. */
const HIDDEN_MS = 100;

/**
 * Acts on the room that a caller names by its id or as `ext:<external_id>`, if it is or was one of the client's. Throws
 * not_found; whether it still exists and what its caller may do is left to `act`. External ids can be guessed: not_found
 * of either comes to a user after one time, so that it does not tell a room that is hidden from one that is not there.
 */
export async function withRoom<T>(
  services: Services,
  caller: RoomCaller,
  named: string,
  act: (room: RoomId) => Promise<T>,
): Promise<T> {
  const found = async () => act(await findRoom(services, caller.client, named));
  // fence: hidden-room-time
  if (caller.actor.type !== "user" || !named.startsWith(EXTERNAL)) return found();
  const begun = performance.now();
  try {
    return await found();
  } catch (error) {
    if (error instanceof DomainError && error.code === "not_found") {
      await sleep(Math.max(1, HIDDEN_MS - (performance.now() - begun)));
    }
    throw error;
  }
}

async function findRoom(services: Services, client: ClientId, named: string): Promise<RoomId> {
  const id = named.startsWith(EXTERNAL)
    ? await roomWithExternalId(services, client, named.slice(EXTERNAL.length))
    : named;
  const parsed = RoomIdSchema.safeParse(id);
  if (
    !parsed.success ||
    /* fence: tenant-room */ (await streamOwner(services.store, roomStream(parsed.data))) !== client
  )
    throw new DomainError("not_found");
  return parsed.data;
}

/** The room that has an external id: one that claimed it for something else, or is gone, does not. */
async function roomWithExternalId(
  { keyring, commands }: Services,
  client: ClientId,
  id: string,
): Promise<RoomId | null> {
  const { stream, isOf } = await externalIdClaim(keyring, client, id);
  const { room } = (await commands.load(claimDecider, stream)).state;
  if (room === null) return null;
  const { state } = await commands.load(roomDecider, roomStream(room));
  return state.status === "live" && isOf(state) ? room : null;
}

/** The room, never older than the call, if the caller may see its object. Throws not_found. */
export const openRoom = (services: Services, caller: RoomCaller, named: string): Promise<OpenRoom> =>
  withRoom(services, caller, named, async (id) => {
    const { actor } = caller;
    const { state, position } = await services.commands.load(roomDecider, roomStream(id));
    const room = requireExisting(state);
    // fence: private-room
    if (actor.type === "user" && room.settings.kind !== "public" && !room.members.has(actor.id))
      throw new DomainError("not_found");
    return { id, room, position };
  });

/** The part of a caller that rooms care about. */
type RoomCaller = Pick<Caller, "client" | "actor">;

/** As `openRoom`, for what only members see. Throws not_found, or not_a_member for a public room. */
export async function openAsMember(services: Services, caller: RoomCaller, named: string): Promise<OpenRoom> {
  const open = await openRoom(services, caller, named);
  requireRole(open.room, caller.actor, "reader");
  return open;
}

/** What only one room may have: where the claim on it is kept, and how to tell that a room has it. */
export type Claimable = { readonly stream: string; readonly isOf: (room: ExistingRoom) => boolean };

/** An external id. */
export async function externalIdClaim(keyring: Keyring, client: ClientId, id: string): Promise<Claimable> {
  const hash = deriveSecretTail(await keyring.pepper(client), "external", id);
  return { stream: claimStream(hash), isOf: (room) => room.externalId === id };
}

type ShownRoom = { readonly room: RoomResource; readonly etag: number };

const shown = (id: RoomId, state: Room): ShownRoom => {
  const room = requireExisting(state);
  return { room: roomOfState(id, room), etag: room.settingsSeq };
};

/** Throws not_found. */
export async function getRoom({ services, caller }: Call, named: string): Promise<ShownRoom> {
  const { id, room } = await openRoom(services, caller, named);
  return shown(id, room);
}

export type RoomChange = Bare<Exclude<RoomCommand, { type: "Create" | "Abandon" }>, "at" | "actor" | "room">;

/** What a change of a room came to. */
export type Changed = Written & { readonly room: RoomId; readonly state: Room };

/** Carries out a change of the room that the caller names. Throws what the room's rules refuse. */
export const executeOnRoom = ({ services, caller, at, context }: Call, named: string, change: RoomChange) =>
  withRoom(services, caller, named, async (room) => {
    const command: RoomCommand = { ...change, at, actor: caller.actor, room };
    return { room, ...(await services.commands.execute(roomDecider, roomStream(room), command, context)) };
  });

/** Throws what the room's rules would refuse in this state; nothing is written. */
export async function rehearseOnRoom(
  { services, caller, at }: Call,
  { room, state }: { readonly room: RoomId; readonly state: ExistingRoom },
  change: RoomChange,
): Promise<void> {
  const command: RoomCommand = { ...change, at, actor: caller.actor, room };
  const priorEvents = new Map<number, RoomEvent>();
  await Promise.all(
    (roomDecider.priorEvents?.(state, command) ?? []).map(async (seq) => {
      const event = await eventAt(services, room, seq);
      if (event !== undefined) priorEvents.set(seq, event);
    }),
  );
  roomDecider.decide(state, command, priorEvents);
}

async function changed(call: Call, named: string, change: RoomChange): Promise<ShownRoom & Written> {
  const { room, state, position, replayed } = await executeOnRoom(call, named, change);
  return { ...shown(room, state), position, replayed };
}

/** The event of a room at a seq. */
export async function eventAt(
  services: Services,
  room: RoomId,
  seq: number,
): Promise<StoredEvent<RoomEvent> | undefined> {
  const [event] = await readDecoded(services, roomStream(room), { from: seq - 1, limit: 1 });
  return event as StoredEvent<RoomEvent> | undefined;
}

/** Throws what the room's rules refuse. */
export const changeRoom = (call: Call, named: string, wanted: RoomPatch, ifMatch: IfMatch) => {
  const { join_role: joinRole, max_members: maxMembers, ...patch } = wanted;
  return changed(call, named, { type: "Update", changes: omitUndefined({ ...patch, joinRole, maxMembers }), ifMatch });
};

/** Closes a room for posting, or opens it again. Throws what the room's rules refuse. */
export const setRoomActive = (call: Call, named: string, active: boolean, ifMatch: IfMatch) =>
  changed(call, named, { type: active ? "Activate" : "Deactivate", ifMatch });

/** Throws what the room's rules refuse. */
export const deleteRoom = (call: Call, named: string, ifMatch: IfMatch): Promise<Written> =>
  executeOnRoom(call, named, { type: "Delete", ifMatch });

/** To a user its own rooms and public ones. Throws forbidden. */
export async function listRooms({ services, caller, read }: Call, query: RoomQuery): Promise<Page<RoomResource>> {
  const { external_id: externalIds, member, ...rest } = query;
  const named = member?.map((user) => services.keyring.subjectOfUser(caller.client, user));
  const members = named === undefined ? undefined : await Promise.all(named);
  const visibleTo = caller.kind === "user" ? caller.subject : undefined;
  // Who is in a public room only its members may know.
  if (visibleTo !== undefined && members?.some((one) => one !== visibleTo) === true) {
    throw new AppError("forbidden", { detail: "a user token may only ask for its own user's rooms" });
  }
  const { rows, next } = await queryRooms(read, omitUndefined({ ...rest, members, visibleTo, externalIds }));
  return { rows: rows.map(roomOfRow), next };
}
