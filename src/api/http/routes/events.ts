// Public events by pull: a client's, and a room's.
import { listPublicEvents, listRoomEvents } from "../../../app/pull.ts";
import { listBody } from "../../../contract/fields.ts";
import { EventsQuery, PublicEventResource, RoomEventsQuery } from "../../../contract/pull.ts";
import { RoomParams } from "../../../contract/rooms.ts";
import { listReply, route, routesOf } from "../route.ts";

export const eventRoutes = routesOf("events", {
  listPublicEvents: route("GET", "/events", {
    summary: "List the client's public events",
    description:
      "What webhook endpoints are sent, in the order of the log, from the beginning without `after`. `types` as an endpoint's `events`. To go on later, pass the `position` of the last event as `after`.",
    // Who may set up an endpoint can have all of it sent.
    access: { kind: "key", scope: "webhooks:manage" },
    query: EventsQuery,
    responses: { 200: listBody(PublicEventResource) },
    problems: ["invalid_position"],
    handle: async (call) => listReply(call, await listPublicEvents(call, call.query)),
  }),
  listRoomEvents: route("GET", "/rooms/:room_id/events", {
    summary: "List a room's public events",
    description:
      "What sockets that subscribe to the room are sent, by `seq`, from the beginning without `after_seq`. To go on later, pass the `seq` of the last event as `after_seq`.",
    access: { kind: "keyOrUser", scope: "messages:read" },
    params: RoomParams,
    query: RoomEventsQuery,
    responses: { 200: listBody(PublicEventResource) },
    problems: ["not_found", "not_a_member"],
    handle: async (call) => listReply(call, await listRoomEvents(call, call.params.room_id, call.query)),
  }),
});
