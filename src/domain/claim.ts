// domain/claim.ts: who holds a name that must be unique: a room's external id, or a pair of people.
import { z } from "zod";
import { type RoomId, RoomIdSchema } from "../contract/ids.ts";
import { type Decider, DomainError, type TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

/** `hash`: an HMAC of the client and the name, so that the stream's name tells nobody what is claimed. */
export const claimStream = (hash: string) => `claim-${hash}`;

// Events. A storage format.
export const claimEvents = {
  Claimed: event({ data: z.object({ room: RoomIdSchema }) }),
} as const;
export type ClaimEvent = EventsOf<typeof claimEvents>;

// State: the room that holds it, if any.
type Claim = { readonly room: RoomId | null };

// Commands. `abandoned` is a holder that was seen to be deleted or never created: it may be replaced.
export type ClaimCommand = TimedCommand & { type: "Claim"; room: RoomId; abandoned: RoomId | null };

function decide(state: Claim, command: ClaimCommand): readonly ClaimEvent[] {
  if (state.room === command.room) return [];
  // fence: claimed-name
  if (state.room !== null && state.room !== command.abandoned) {
    throw new DomainError("external_id_taken", "another room has this external_id", { existing_id: state.room });
  }
  return [{ type: "Claimed", data: { room: command.room } }];
}

export const claimDecider: Decider<Claim, ClaimEvent, ClaimCommand> = {
  name: "claim",
  events: claimEvents,
  initial: { room: null },
  evolve: (_state, event) => ({ room: event.data.room }),
  decide,
};
