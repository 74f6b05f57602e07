// domain/inbox.ts: what a user does with all of an inbox at once; what is done with one item is in the item's delivery.
import { z } from "zod";
import type { Subject } from "../contract/ids.ts";
import { InboxStatusSchema } from "../contract/inbox.ts";
import type { Instant } from "../contract/time.ts";
import type { Decider, EventContext, TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

/** What the name of each inbox's stream begins with. */
export const INBOX_STREAMS = "inbox-";
export const inboxStream = (subject: Subject) => `${INBOX_STREAMS}${subject}`;

/** What becomes of items by one mark; each includes those before it. */
const MarkSchema = z.enum(["seen", ...InboxStatusSchema.extract(["read", "archived"]).options]);
export type InboxMark = z.infer<typeof MarkSchema>;

// Events. A storage format.
export const inboxEvents = {
  /** Of every item before this event in the log; `beforeAt`: of those alone that were made before. */
  InboxMarked: event({ data: z.object({ as: MarkSchema, beforeAt: z.number().nullable() }) }),
  /** The deliveries that the mark at a revision read are acknowledged. */
  InboxAcknowledged: event({ data: z.object({ mark: z.number() }) }),
} as const;
export type InboxEvent = EventsOf<typeof inboxEvents>;

// State: the revisions of the marks whose deliveries are to be acknowledged.
type Inbox = { readonly unacknowledged: readonly number[] };

function evolve({ unacknowledged }: Inbox, event: InboxEvent, { seq }: EventContext): Inbox {
  if (event.type === "InboxAcknowledged")
    return { unacknowledged: unacknowledged.filter((mark) => mark !== event.data.mark) };
  return event.data.as === "seen" ? { unacknowledged } : { unacknowledged: [...unacknowledged, seq - 1] };
}

// Commands, and what each means now. Whether there is anything to mark, the caller has looked.
export type InboxCommand = TimedCommand &
  ({ type: "Mark"; as: InboxMark; before: Instant | null } | { type: "MarkAcknowledged"; mark: number });

function decide(state: Inbox, command: InboxCommand): readonly InboxEvent[] {
  if (command.type === "MarkAcknowledged") {
    if (!state.unacknowledged.includes(command.mark)) return [];
    return [{ type: "InboxAcknowledged", data: { mark: command.mark } }];
  }
  const { as, before, at } = command;
  // What is still to come is not marked.
  const beforeAt = before !== null && /* fence: marks-past */ before < at ? before : null;
  return [{ type: "InboxMarked", data: { as, beforeAt } }];
}

export const inboxDecider: Decider<Inbox, InboxEvent, InboxCommand> = {
  name: "inbox",
  events: inboxEvents,
  initial: { unacknowledged: [] },
  evolve,
  decide,
};
