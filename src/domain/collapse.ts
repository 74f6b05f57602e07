// domain/collapse.ts: which of a recipient's deliveries with one key is the newest; those before it that are not sent are replaced.
import { z } from "zod";
import { type DeliveryId, DeliveryIdSchema } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import type { Decider, TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

/** `tail`: derived from the client, the recipient and the key, so that the stream's name tells nobody either. */
export const collapseStream = (tail: string) => `collapse-${tail}`;

// Events. A storage format.
export const collapseEvents = {
  /** A delivery is the newest; `replaced` was until then. */
  DeliveryCollapsed: event({
    data: z.object({
      delivery: DeliveryIdSchema,
      /** When its notification was released: it decides which is newer, in whatever order they are routed. */
      releasedAt: z.number(),
      replaced: DeliveryIdSchema.nullable(),
    }),
  }),
} as const;
export type CollapseEvent = EventsOf<typeof collapseEvents>;

// State: the newest.
type Collapse = { readonly newest: { readonly delivery: DeliveryId; readonly releasedAt: Instant } | null };

const evolve = (_state: Collapse, { data: { delivery, releasedAt } }: CollapseEvent): Collapse => ({
  newest: { delivery, releasedAt },
});

// Commands. Asked twice for one delivery, nothing more follows from it.
export type CollapseCommand = TimedCommand & { type: "Replace"; delivery: DeliveryId; releasedAt: Instant };

function decide({ newest }: Collapse, { delivery, releasedAt }: CollapseCommand): readonly CollapseEvent[] {
  if (newest === null) return [{ type: "DeliveryCollapsed", data: { delivery, releasedAt, replaced: null } }];
  if (newest.delivery === delivery || !isNewer({ delivery, releasedAt }, newest)) return [];
  return [{ type: "DeliveryCollapsed", data: { delivery, releasedAt, replaced: newest.delivery } }];
}

/** Of two that were released in the same millisecond the ids decide, so that all nodes agree. */
const isNewer = (one: NonNullable<Collapse["newest"]>, other: NonNullable<Collapse["newest"]>): boolean =>
  one.releasedAt === other.releasedAt ? one.delivery > other.delivery : one.releasedAt > other.releasedAt;

/** Whether a newer one than this delivery is known, or would be the newest beside it. */
export const isReplaced = ({ newest }: Collapse, one: { delivery: DeliveryId; releasedAt: Instant }): boolean =>
  newest !== null && newest.delivery !== one.delivery && /* fence: collapse-newer */ isNewer(newest, one);

export const collapseDecider: Decider<Collapse, CollapseEvent, CollapseCommand> = {
  name: "collapse",
  events: collapseEvents,
  initial: { newest: null },
  evolve,
  decide,
  snapshot: {
    version: 1,
    toJson: (state) => state,
    fromJson: (json) =>
      z.object({ newest: z.object({ delivery: DeliveryIdSchema, releasedAt: z.number() }).nullable() }).parse(json),
  },
};
