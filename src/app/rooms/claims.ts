// Claims on names that one room of a client may have: an external id, or a pair of people. Made before the room is.

import { type ClientId, type RoomId, RoomIdSchema, type Subject } from "../../contract/ids.ts";
import { type Instant, SECOND_MS } from "../../contract/time.ts";
import { claimDecider, claimStream } from "../../domain/claim.ts";
import { DomainError } from "../../domain/errors.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import type { LiveRoom, Room } from "../../domain/room-state.ts";
import { deriveSecretTail } from "../../event-store/derived-ids.ts";
import { type CommandContext, decodeMetadata } from "../../event-store/envelope.ts";
import type { Keyring } from "../../event-store/sealing.ts";
import { failpoint } from "../../platform/failpoint.ts";
import type { Services } from "../services.ts";

/** A room whose claim is older than this and that is still not there was given up by whoever was to make it. */
const ABANDONED_AFTER_MS = 10 * SECOND_MS;

type Parts = Pick<Services, "store" | "commands" | "newId">;
type Asked = { readonly context: CommandContext; readonly at: Instant };

/** What only one room may have: where the claim on it is kept, and how to see that a room really has it. */
type Claimable = { readonly stream: string; readonly isOf: (room: LiveRoom) => boolean };

/** An external id. */
export async function externalId(keyring: Keyring, client: ClientId, id: string): Promise<Claimable> {
  const hash = deriveSecretTail(await keyring.pepper(client), "external", id);
  return { stream: claimStream(hash), isOf: (room) => room.externalId === id };
}

/** Being the direct room of these two. */
export async function directPair(keyring: Keyring, client: ClientId, pair: readonly Subject[]): Promise<Claimable> {
  const hash = deriveSecretTail(await keyring.pepper(client), "pair", ...pair.toSorted());
  const isOf = ({ settings, members }: LiveRoom) =>
    settings.kind === "direct" && pair.every((subject) => members.has(subject));
  return { stream: claimStream(hash), isOf };
}

/** Who holds a claim: nobody or a room that is gone (`held` null), a room that has it, or one that is still being made. */
type Holder = { readonly held: null; readonly gone: RoomId | null } | { readonly held: RoomId; readonly live: boolean };

/** Looks who holds a claim besides `own`, and ends the claim of a room that was given up. */
export async function holderOf(
  parts: Parts,
  { stream, isOf }: Claimable,
  own: RoomId,
  { context, at }: Asked,
): Promise<Holder> {
  const { commands, store } = parts;
  const { room } = (await commands.load(claimDecider, stream)).state;
  if (room === null || room === own) return { held: null, gone: null };
  const settled = (state: Room): Holder =>
    state.status === "live" && isOf(state) ? { held: room, live: true } : { held: null, gone: room };
  const { state } = await commands.load(roomDecider, roomStream(room));
  if (state.status !== "none") return settled(state);
  const [claimed] = await store.readStream(stream, { direction: "backward", limit: 1 });
  if (claimed !== undefined && at - decodeMetadata(claimed).at <= ABANDONED_AFTER_MS)
    return { held: room, live: false };
  // From here on the room can never be made: whoever was to make it may only be slow.
  const abandon = { type: "Abandon", at } as const;
  return settled((await commands.execute(roomDecider, roomStream(room), abandon, unkeyed(parts, context))).state);
}

/** Claims for a room. Throws `external_id_taken` with `existing_id` when another room holds it. */
export async function claim(parts: Parts, claimable: Claimable, room: RoomId, asked: Asked): Promise<void> {
  const holder = await holderOf(parts, claimable, room, asked);
  failpoint("holder-known/claimed");
  // When another holds it, the decision says so.
  const abandoned = holder.held === null ? holder.gone : null;
  const command = { type: "Claim", at: asked.at, room, abandoned } as const;
  await parts.commands.execute(claimDecider, claimable.stream, command, unkeyed(parts, asked.context));
}

/** The room that a refused claim is held by. */
export function holderIn(error: unknown): RoomId | undefined {
  if (!(error instanceof DomainError) || error.code !== "external_id_taken") return undefined;
  return RoomIdSchema.safeParse(error.extra.existing_id).data;
}

/** Not remembered, and never the same twice: a claim is decided by who holds it now, also when a request comes again. */
const unkeyed = ({ newId }: Parts, context: CommandContext): CommandContext => {
  const { fingerprint: _fingerprint, ...rest } = context;
  return { ...rest, commandId: newId(), causation: context.commandId };
};
