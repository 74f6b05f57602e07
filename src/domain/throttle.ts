// domain/throttle.ts: how many notifications with one key a recipient got in a window, and which were let through.
import { z } from "zod";
import { type DeliveryId, DeliveryIdSchema } from "../contract/ids.ts";
import { MAX_THROTTLE_LIMIT } from "../contract/notification-options.ts";
import type { Instant } from "../contract/time.ts";
import type { Decider, EventContext, TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

/** `tail`: derived from the client, the recipient and the key, so that the stream's name tells nobody either. */
export const throttleStream = (tail: string) => `throttle-${tail}`;

/** Refused deliveries that are remembered: whoever asks again after a crash asks soon. */
const MAX_REFUSED = 1_000;

// Events. A storage format.
export const throttleEvents = {
  /** A delivery is let through, or is one too many in the window before it. */
  ThrottleDecided: event({
    data: z.object({ delivery: DeliveryIdSchema, admitted: z.boolean(), limit: z.number(), perMs: z.number() }),
  }),
} as const;
export type ThrottleEvent = EventsOf<typeof throttleEvents>;

// State: what the longest window among the admitted needs, and the newest refusals.
type Admitted = { readonly delivery: DeliveryId; readonly at: Instant; readonly perMs: number };
type Throttle = { readonly admitted: readonly Admitted[]; readonly refused: readonly DeliveryId[] };

function evolve(state: Throttle, { data }: ThrottleEvent, { at }: EventContext): Throttle {
  const { delivery, perMs } = data;
  if (!data.admitted) return { ...state, refused: [...state.refused, delivery].slice(-MAX_REFUSED) };
  const longest = Math.max(perMs, ...state.admitted.map((one) => one.perMs));
  const needed = state.admitted.filter((one) => one.at > at - longest);
  return { ...state, admitted: [...needed, { delivery, at, perMs }].slice(-MAX_THROTTLE_LIMIT) };
}

// Commands. Asked twice for one delivery, the answer is the first's.
export type ThrottleCommand = TimedCommand & { type: "Admit"; delivery: DeliveryId; limit: number; perMs: number };

/** Whether a delivery was let through, or would be now. */
export function isAdmitted({ admitted, refused }: Throttle, command: Omit<ThrottleCommand, "type">): boolean {
  const { delivery, limit, perMs, at } = command;
  if (admitted.some((one) => one.delivery === delivery)) return true;
  // fence: throttle-again
  if (refused.includes(delivery)) return false;
  // fence: throttle-limit
  return admitted.filter((one) => one.at > at - perMs).length < limit;
}

function decide(state: Throttle, command: ThrottleCommand): readonly ThrottleEvent[] {
  const { delivery, limit, perMs } = command;
  if (state.refused.includes(delivery) || state.admitted.some((one) => one.delivery === delivery)) return [];
  return [{ type: "ThrottleDecided", data: { delivery, admitted: isAdmitted(state, command), limit, perMs } }];
}

const snapshot = z.object({
  admitted: z.array(z.object({ delivery: DeliveryIdSchema, at: z.number(), perMs: z.number() })),
  refused: z.array(DeliveryIdSchema),
});

export const throttleDecider: Decider<Throttle, ThrottleEvent, ThrottleCommand> = {
  name: "throttle",
  events: throttleEvents,
  initial: { admitted: [], refused: [] },
  weigh: ({ admitted, refused }) => (admitted.length * 2 + refused.length) / 20,
  evolve,
  decide,
  snapshot: { version: 1, toJson: (state) => state, fromJson: (json) => snapshot.parse(json) },
};
