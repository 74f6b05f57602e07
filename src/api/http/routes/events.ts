// Public events by pull and as streams, a client's and a room's, and tickets for the streams of browsers.

import { createTicket, requireScope } from "../../../app/authenticate.ts";
import { AppError, invalid } from "../../../app/errors.ts";
import { afterPosition, cursorOf, listPublicEvents, listRoomEvents, openEvents } from "../../../app/pull.ts";
import { getUser } from "../../../app/users.ts";
import {
  EventsQuery,
  NewTicket,
  PublicEventResource,
  RoomEventsQuery,
  TicketResource,
  UserEventsQuery,
} from "../../../contract/event-requests.ts";
import { listBody } from "../../../contract/fields.ts";
import { RoomParams } from "../../../contract/rooms.ts";
import { UserParams } from "../../../contract/users.ts";
import { created, listReply, route, routesOf } from "../route.ts";

const STREAM =
  "With `Accept: text/event-stream` a stream of server-sent events, without a cursor from now on: `event` the type, `data` the public event, `id` the cursor, which `Last-Event-ID` or the query resumes after.";
const LAST_EVENT_ID = "Header: Last-Event-ID";

/** Throws AppError (validation_failed). */
function seqOf(lastEventId: string): number {
  if (/^\d{1,9}$/.test(lastEventId)) return Number(lastEventId);
  throw invalid([
    { path: LAST_EVENT_ID, code: "invalid_format", message: "must be the id of a message of this stream" },
  ]);
}

export const eventRoutes = routesOf("events", {
  listPublicEvents: route("GET", "/events", {
    summary: "List the client's public events",
    description: `What webhook endpoints are sent, in the order of the log, from the beginning without \`after\`. \`types\` as an endpoint's \`events\`. To go on later, pass the \`position\` of the last event as \`after\`. ${STREAM}`,
    // Who may set up an endpoint can have all of it sent.
    access: { kind: "key", scope: "webhooks:manage" },
    query: EventsQuery,
    responses: { 200: listBody(PublicEventResource) },
    problems: ["invalid_position"],
    handle: async (call) => listReply(call, await listPublicEvents(call, call.query)),
    async stream(call, lastEventId) {
      const named = lastEventId === undefined ? call.query : { after: lastEventId };
      const after = (await cursorOf(call, named)) ?? afterPosition(await call.services.store.tail());
      return { kind: "client", selection: call.query, after };
    },
  }),
  listRoomEvents: route("GET", "/rooms/:room_id/events", {
    summary: "List a room's public events",
    description: `What sockets that subscribe to the room are sent, by \`seq\`, from the beginning without \`after_seq\`. To go on later, pass the \`seq\` of the last event as \`after_seq\`. ${STREAM}`,
    access: { kind: "keyOrUser", scope: "messages:read" },
    params: RoomParams,
    query: RoomEventsQuery,
    responses: { 200: listBody(PublicEventResource) },
    problems: ["not_found", "not_a_member"],
    handle: async (call) => listReply(call, await listRoomEvents(call, call.params.room_id, call.query)),
    async stream(call, lastEventId) {
      const query = lastEventId === undefined ? call.query : { after_seq: seqOf(lastEventId) };
      const { id, room, after } = await openEvents(call, call.params.room_id, query);
      if (after !== undefined && after > room.seq) {
        const path = lastEventId === undefined ? "?after_seq" : LAST_EVENT_ID;
        throw invalid([{ path, code: "too_large", message: `must be at most ${room.seq}, the room's seq` }]);
      }
      return { kind: "room", room: id, after };
    },
  }),
  streamUserEvents: route("GET", "/users/:user_id/events", {
    summary: "Stream all that concerns a user",
    description:
      "Server-sent events of all rooms of the user, its read markers, its messages for later and its notifications, on one cursor: what `follow` sends on a socket. Without a cursor it begins with `inbox`, the rooms as they are. `event` the type, `id` the cursor, which `Last-Event-ID` or `after` resumes after.",
    access: { kind: "keyOrUser", scope: "messages:read" },
    params: UserParams,
    query: UserEventsQuery,
    responses: { 200: null },
    problems: ["not_found", "invalid_cursor", "not_acceptable"],
    handle: async (call) => {
      await getUser(call, call.params.user_id);
      throw new AppError("not_acceptable");
    },
    async stream(call, lastEventId) {
      // fence: stream-scope
      requireScope(call.caller, "rooms:read");
      await getUser(call, call.params.user_id);
      const wanted = lastEventId === undefined ? call.query : { ...call.query, after: lastEventId };
      return { kind: "user", call, user: call.params.user_id, wanted };
    },
  }),
  createTicket: route("POST", "/tickets", {
    summary: "Create a ticket for a stream or a socket",
    description:
      "For browsers, which cannot send headers there: good once, within 30 seconds, as `?ticket=` of a stream of server-sent events or of `/ws`, which ends with the key or token that the ticket was made with. A key's ticket has the rights of the user that it names. A replay under the same `Idempotency-Key` makes another.",
    access: { kind: "keyOrUser", scope: null },
    body: NewTicket,
    responses: { 201: TicketResource },
    problems: ["forbidden"],
    handle: async (call) => {
      const position = await call.services.store.tail();
      const ticket = await createTicket(call, call.bearer, call.body);
      return created({ ticket, position }, "ticket", "/tickets");
    },
  }),
});
