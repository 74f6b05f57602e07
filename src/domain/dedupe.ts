// domain/dedupe.ts: which notification holds a client's deduplication key, and since when.
import { z } from "zod";
import { type NotificationId, NotificationIdSchema } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import type { Decider, EventContext, TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

/** `hash`: an HMAC of the client and the key, so that the stream's name tells nobody what it is. */
export const dedupeStream = (hash: string) => `dedupe-${hash}`;

// Events. A storage format.
export const dedupeEvents = {
  /** A notification holds the key from now on, for the window of whoever asks next. */
  DedupeKeyTaken: event({ data: z.object({ notification: NotificationIdSchema }) }),
} as const;
export type DedupeEvent = EventsOf<typeof dedupeEvents>;

// State: the last that took it.
export type Dedupe = { readonly holder: { readonly notification: NotificationId; readonly at: Instant } | null };

const evolve = (_state: Dedupe, { data: { notification } }: DedupeEvent, { at }: EventContext): Dedupe => ({
  holder: { notification, at },
});

// Commands. `abandoned` is a holder that was seen never to have been created: it may be replaced.
export type DedupeCommand = TimedCommand & {
  type: "Take";
  notification: NotificationId;
  windowMs: number;
  abandoned: NotificationId | null;
};

/** Another notification that holds the key at that time; null: it is free, or one's own. */
export function heldByAnother({ holder }: Dedupe, command: Omit<DedupeCommand, "type">): Dedupe["holder"] {
  const { notification, windowMs, abandoned, at } = command;
  if (holder === null || holder.notification === notification || holder.notification === abandoned) return null;
  // fence: dedupe-window
  return at < holder.at + windowMs ? holder : null;
}

/** Nothing, too, when another holds it: the state says who. */
const decide = (state: Dedupe, command: DedupeCommand): readonly DedupeEvent[] =>
  state.holder?.notification === command.notification || heldByAnother(state, command) !== null
    ? []
    : [{ type: "DedupeKeyTaken", data: { notification: command.notification } }];

export const dedupeDecider: Decider<Dedupe, DedupeEvent, DedupeCommand> = {
  name: "dedupe",
  events: dedupeEvents,
  initial: { holder: null },
  evolve,
  decide,
  snapshot: {
    version: 1,
    toJson: (state) => state,
    fromJson: (json) =>
      z.object({ holder: z.object({ notification: NotificationIdSchema, at: z.number() }).nullable() }).parse(json),
  },
};
