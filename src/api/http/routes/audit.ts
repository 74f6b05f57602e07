// The audit: every event of a client's log, and of one of its streams.
import { EVENT_TYPES, listEvents, listStreamEvents } from "../../../app/audit.ts";
import { AuditEventResource, auditQuery, StreamParams } from "../../../contract/audit.ts";
import { listBody, PageQuery } from "../../../contract/fields.ts";
import { listReply, route, routesOf } from "../route.ts";

const access = { kind: "key", scope: "audit:read" } as const;

export const auditRoutes = routesOf("audit", {
  listEvents: route("GET", "/audit/events", {
    summary: "List the client's events",
    description:
      'Every event of the client\'s streams in the order of the log, with what each says. Secrets read `{"sealed": true}`, what was erased `{"erased": true}`.',
    access,
    query: auditQuery(EVENT_TYPES),
    responses: { 200: listBody(AuditEventResource) },
    handle: async (call) => listReply(call, await listEvents(call, call.query)),
  }),
  listStreamEvents: route("GET", "/audit/streams/:stream/events", {
    summary: "List the events of one stream",
    description: "`stream` is the name that the audit shows; `client` is the tenant's own.",
    access,
    params: StreamParams,
    query: PageQuery,
    responses: { 200: listBody(AuditEventResource) },
    problems: ["not_found"],
    handle: async (call) => listReply(call, await listStreamEvents(call, call.params.stream, call.query)),
  }),
});
