// domain/key-use.ts: when an API key was last used, to the hour; frequent, so kept out of its client's stream.
import { z } from "zod";
import { type KeyId, KeyIdSchema } from "../contract/ids.ts";
import { HOUR_MS, type Instant } from "../contract/time.ts";
import type { Decider, TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

export const keyUseStream = (key: KeyId) => `keyuse-${key}`;

/** The hour that a moment is in, by its beginning. */
export const hourOf = (at: Instant): Instant => at - (at % HOUR_MS);

// Events. A storage format.
export const keyUseEvents = {
  /** Used in this hour; at most one a key and hour. */
  KeyUsed: event({ data: z.object({ key: KeyIdSchema, hour: z.number() }) }),
} as const;
export type KeyUseEvent = EventsOf<typeof keyUseEvents>;

// State: the hour of the last use.
type KeyUse = { readonly hour: Instant | null };

type KeyUseCommand = TimedCommand & { type: "RecordUse"; key: KeyId; hour: Instant };

export const keyUseDecider: Decider<KeyUse, KeyUseEvent, KeyUseCommand> = {
  name: "keyuse",
  events: keyUseEvents,
  initial: { hour: null },
  evolve: (_state, event) => ({ hour: event.data.hour }),
  decide: ({ hour }, { key, hour: used }) =>
    hour !== null && hour >= used ? [] : [{ type: "KeyUsed", data: { key, hour: used } }],
  snapshot: {
    version: 1,
    toJson: (state) => state,
    fromJson: (json) => z.object({ hour: z.number().nullable() }).parse(json),
  },
};
