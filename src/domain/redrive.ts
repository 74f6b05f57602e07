// domain/redrive.ts: starting many deliveries again, page after page, each of them once.
import { z } from "zod";
import { ChannelSchema, RedrivableSchema } from "../contract/deliveries.ts";
import { type DeliveryId, DeliveryIdSchema, type RedriveId } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { type Decider, DomainError, type EventContext, type TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

export const redriveStream = (id: RedriveId) => `redrive-${id}`;

/** Which deliveries: those that match each field that is not null. `fromAt` inclusive and `toAt` exclusive bound the creation. */
const filter = z.object({
  statuses: z.array(RedrivableSchema),
  channels: z.array(ChannelSchema).nullable(),
  providers: z.array(z.string()).nullable(),
  endpoints: z.array(z.string()).nullable(),
  errorCodes: z.array(z.string()).nullable(),
  fromAt: z.number().nullable(),
  toAt: z.number().nullable(),
});
export type RedriveFilter = z.infer<typeof filter>;

// Events. A storage format.
export const redriveEvents = {
  /** `matched` deliveries are started again, of those that were made before it. */
  RedriveRequested: event({ data: z.object({ filter, matched: z.number() }) }),
  /** The next ones, in the order in which they were made. All of the page before are started again. */
  RedrivePageSelected: event({
    data: z.object({ page: z.number(), deliveries: z.array(DeliveryIdSchema) }),
  }),
  RedriveFinished: event({ data: z.object({ page: z.number() }) }),
} as const;
export type RedriveEvent = EventsOf<typeof redriveEvents>;

// State.
type KnownRedrive = {
  readonly status: "running" | "done";
  readonly filter: RedriveFilter;
  readonly matched: number;
  /** From 1; 0 before the first is selected. */
  readonly page: number;
  /** Those of the page, which may have been started again or not. */
  readonly deliveries: readonly DeliveryId[];
  /** How many there are in the pages before. */
  readonly done: number;
  readonly requestedAt: Instant;
  readonly finishedAt: Instant | null;
};
export type Redrive = { readonly status: "none" } | KnownRedrive;

function evolve(state: Redrive, event: RedriveEvent, { at }: EventContext): Redrive {
  if (event.type === "RedriveRequested") {
    const begin = { page: 0, deliveries: [], done: 0 };
    return { status: "running", ...event.data, ...begin, requestedAt: at, finishedAt: null };
  }
  if (state.status === "none") return state;
  const done = state.done + state.deliveries.length;
  if (event.type === "RedriveFinished") return { ...state, status: "done", deliveries: [], done, finishedAt: at };
  return { ...state, ...event.data, done };
}

// Commands, and what each means now.
export type RedriveCommand = TimedCommand &
  (
    | { type: "Request"; filter: RedriveFilter; matched: number }
    /** All of page `page` are started again: `deliveries` come next. None: it is over. */
    | { type: "SelectPage"; page: number; deliveries: readonly DeliveryId[] }
  );

function decide(state: Redrive, command: RedriveCommand): readonly RedriveEvent[] {
  if (command.type === "Request") {
    if (state.status !== "none") return [];
    const { filter, matched } = command;
    const requested: RedriveEvent = { type: "RedriveRequested", data: { filter, matched } };
    return matched === 0 ? [requested, { type: "RedriveFinished", data: { page: 0 } }] : [requested];
  }
  if (state.status === "none") throw new DomainError("not_found");
  const { page, deliveries } = command;
  // fence: redrive-page
  if (state.status === "done" || page !== state.page) return [];
  if (deliveries.length === 0) return [{ type: "RedriveFinished", data: { page } }];
  return [{ type: "RedrivePageSelected", data: { page: page + 1, deliveries: [...deliveries] } }];
}

export const redriveDecider: Decider<Redrive, RedriveEvent, RedriveCommand> = {
  name: "redrive",
  events: redriveEvents,
  initial: { status: "none" },
  evolve,
  decide,
};
