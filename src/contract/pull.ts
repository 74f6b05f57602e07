// Pull of public events: what requests send and answers show.
import { z } from "zod";
import { eventPattern } from "./event-filters.ts";
import { commaSeparated, input, paging, queryInteger, text } from "./fields.ts";
import { JsonObjectSchema } from "./json.ts";
import type { MessageResource } from "./messages.ts";
import { eventMembers, PUBLIC_EVENT_TYPES } from "./public-events.ts";

const [FIRST = "message.posted", ...OTHERS] = PUBLIC_EVENT_TYPES;

export const PublicEventResource = z
  .object({ ...eventMembers, type: z.enum([FIRST, ...OTHERS]), data: JsonObjectSchema })
  .meta({ id: "PublicEvent" });

/** A message that was posted. */
export const publicEventExample = (id: string, message: MessageResource): object => ({
  ...{ id, type: "message.posted", room_id: message.room_id, seq: message.seq, at: message.created_at },
  ...{ position: "Zm9yLXRoZS1leGFtcGxlLQ", actor: { type: "user", id: message.sender_id }, data: message },
});

export const EventsQuery = input({
  ...paging,
  after: text(1, 100).optional().meta({ description: "A position: only events after it" }),
  types: commaSeparated(eventPattern)
    .optional()
    .meta({ description: "Types of events, or all of a kind such as `message.*`" }),
  room_id: commaSeparated(text(1, 128)).optional().meta({ description: "Events of these rooms" }),
});
export type EventsQuery = z.output<typeof EventsQuery>;

export const RoomEventsQuery = input({
  ...paging,
  after_seq: queryInteger(0, 2 ** 31 - 1)
    .optional()
    .meta({ description: "Only events after this `seq`" }),
});
export type RoomEventsQuery = z.output<typeof RoomEventsQuery>;
