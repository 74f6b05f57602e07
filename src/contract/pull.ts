// Public events by pull and as streams, and tickets for streams: what requests send and answers show.
import { z } from "zod";
import { eventPattern } from "./event-filters.ts";
import { commaSeparated, input, paging, queryInteger, text, time, userId } from "./fields.ts";
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

const ticket = text(1, 100)
  .optional()
  .meta({ description: "Of `POST /tickets`, in place of a header, where a stream is accepted" });

export const EventsQuery = input({
  ...paging,
  ticket,
  after: text(1, 100)
    .optional()
    .meta({ description: "A position, or the `id` of a message of the stream: only events after it" }),
  types: commaSeparated(eventPattern)
    .optional()
    .meta({ description: "Types of events, or all of a kind such as `message.*`" }),
  room_id: commaSeparated(text(1, 128)).optional().meta({ description: "Events of these rooms" }),
});
export type EventsQuery = z.output<typeof EventsQuery>;

export const RoomEventsQuery = input({
  ...paging,
  ticket,
  after_seq: queryInteger(0, 2 ** 31 - 1)
    .optional()
    .meta({ description: "Only events after this `seq`" }),
});
export type RoomEventsQuery = z.output<typeof RoomEventsQuery>;

export const UserEventsQuery = input({
  ticket,
  after: z.string().max(200).optional().meta({ description: "The `id` of the last message that was had" }),
  limit: queryInteger(1, 100).default(50).meta({ description: "Rooms of the first window" }),
});
export type UserEventsQuery = z.output<typeof UserEventsQuery>;

export const NewTicket = input({ user_id: userId.optional().describe("The user that a key's ticket is for") });
export type NewTicket = z.output<typeof NewTicket>;

export const TicketResource = z
  .object({ ticket: z.string().describe("Good once, as `?ticket=`"), expires_at: time })
  .meta({ id: "Ticket" });
export type TicketResource = z.infer<typeof TicketResource>;
