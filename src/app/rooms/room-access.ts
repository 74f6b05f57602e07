// Which room a request means, and whether its caller may see it. The log decides, so that losing access is at once.

import { type ClientId, type RoomId, RoomIdSchema } from "../../contract/ids.ts";
import { claimDecider } from "../../domain/claim.ts";
import type { Actor } from "../../domain/decider.ts";
import { DomainError } from "../../domain/errors.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import { type LiveRoom, requireLive, requireRole } from "../../domain/room-state.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { Services } from "../services.ts";
import { streamOwner } from "../stream-owner.ts";
import { externalId } from "./claims.ts";

type Parts = Pick<Services, "store" | "keyring" | "commands">;
/** The part of a caller that rooms care about. */
type RoomCaller = { readonly client: ClientId; readonly actor: Actor };
/** A live room that its caller may see. `position` is that of its last event as of the call. */
type OpenRoom = { readonly id: RoomId; readonly room: LiveRoom; readonly position: Position | null };

const notFound = () => new DomainError("not_found");

/**
 * The room that a path names by its id or as `ext:<external_id>`, if it is or was one of the client's. Throws
 * `not_found`; whether it is still there and what its caller may do is left to the command that follows.
 */
export async function findRoom(parts: Parts, client: ClientId, named: string): Promise<RoomId> {
  const id = named.startsWith("ext:") ? await withExternalId(parts, client, named.slice(4)) : named;
  const parsed = RoomIdSchema.safeParse(id);
  if (!parsed.success || /* fence: tenant-room */ (await streamOwner(parts.store, roomStream(parsed.data))) !== client)
    throw notFound();
  return parsed.data;
}

/** The room that has an external id: one that claimed it for something else, or is gone, does not. */
async function withExternalId({ keyring, commands }: Parts, client: ClientId, id: string): Promise<RoomId | null> {
  const { stream, isOf } = await externalId(keyring, client, id);
  const { room } = (await commands.load(claimDecider, stream)).state;
  if (room === null) return null;
  const { state } = await commands.load(roomDecider, roomStream(room));
  return state.status === "live" && isOf(state) ? room : null;
}

/** The room, never older than the call, if the caller may see its object. Throws `not_found`. */
export async function openRoom(parts: Parts, { client, actor }: RoomCaller, named: string): Promise<OpenRoom> {
  const id = await findRoom(parts, client, named);
  const { state, position } = await parts.commands.load(roomDecider, roomStream(id));
  const room = requireLive(state);
  // fence: private-room
  if (actor.type === "user" && room.settings.kind !== "public" && !room.members.has(actor.id)) throw notFound();
  return { id, room, position };
}

/** As `openRoom`, for what only members see. Throws `not_found`, or `not_a_member` for a public room. */
export async function openAsMember(parts: Parts, caller: RoomCaller, named: string): Promise<OpenRoom> {
  const open = await openRoom(parts, caller, named);
  requireRole(open.room, caller.actor, "reader");
  return open;
}
