// domain/hook-token.ts: a token that a provider signed in place of its event: it counts for one event alone.
import { z } from "zod";
import { type Decider, DomainError, type TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

/** `hash`: an HMAC of the client, the provider and the token. */
export const hookTokenStream = (hash: string) => `hook-${hash}`;

// Events. A storage format.
export const hookTokenEvents = {
  HookTokenUsed: event({ data: z.object({ fingerprint: z.string() }) }),
} as const;
export type HookTokenEvent = EventsOf<typeof hookTokenEvents>;

// State: the event that it came with, if it came.
type HookToken = { readonly fingerprint: string | null };

// Commands. Again with the same event it changes nothing: its provider tries again.
type HookTokenCommand = TimedCommand & { type: "Use"; fingerprint: string };

function decide({ fingerprint }: HookToken, command: HookTokenCommand): readonly HookTokenEvent[] {
  if (fingerprint === command.fingerprint) return [];
  // fence: hook-token
  if (fingerprint !== null) throw new DomainError("unauthenticated", "the signature came with another event");
  return [{ type: "HookTokenUsed", data: { fingerprint: command.fingerprint } }];
}

export const hookTokenDecider: Decider<HookToken, HookTokenEvent, HookTokenCommand> = {
  name: "hook-token",
  events: hookTokenEvents,
  initial: { fingerprint: null },
  evolve: (_state, event) => ({ fingerprint: event.data.fingerprint }),
  decide,
};
