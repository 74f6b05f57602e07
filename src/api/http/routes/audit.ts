// The audit: every event of a client's log, and of one of its streams.
import { z } from "zod";
import { eventsAt, requireOwnStream, shownEvents } from "../../../app/audit-events.ts";
import { commaSeparated, created, input, paging, text } from "../../../contract/fields.ts";
import { AuditEventResource, listBody } from "../../../contract/resources.ts";
import { catalogue } from "../../../domain/catalogue.ts";
import { clientStream } from "../../../domain/client.ts";
import type { Position } from "../../../event-store/event-store.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import { auditPage } from "../../../projections/models/audit.ts";
import { pageOf, readCursor } from "../../../projections/page.ts";
import { Problem } from "../problems.ts";
import { listReply } from "../reply.ts";
import { type Route, route } from "../route.ts";

const access = { kind: "key", scope: "audit:read" } as const;

/** The tenant's own stream, by its short name. */
const OWN_STREAM = "client";

const EventType = z.enum(Object.keys(catalogue) as [keyof typeof catalogue, ...(keyof typeof catalogue)[]]);

const EventsQuery = input({
  ...paging,
  ...created,
  type: commaSeparated(EventType).optional(),
  after: z.string().optional().meta({ description: "A position: only events after it" }),
  actor: commaSeparated(text(1, 255)).optional().meta({ description: "Ids of keys or users" }),
});

const listEvents = route({
  method: "GET",
  path: "/audit/events",
  summary: "Lists the client's events, oldest first.",
  tag: "audit",
  access,
  query: EventsQuery,
  responses: { 200: listBody(AuditEventResource) },
  problems: [],
  handle: async (handling) => {
    const { services, caller, read, query } = handling;
    const { limit, from, to, type: types } = query;
    const [begun] = readCursor(query.cursor, ["text"]) ?? [];
    const after = begun === undefined ? query.after : begun;
    if (after !== undefined) await requirePosition(services, after);
    const actor = query.actor === undefined ? undefined : await actorsNamed(services, caller.client, query.actor);
    const rows = await auditPage(read, {
      ...omitUndefined({ types, from, to, actor, after: after as Position | undefined }),
      limit: limit + 1,
    });
    const page = pageOf(rows, limit, (last) => [last.position]);
    const events = await eventsAt(services, page.rows);
    return listReply(handling, { rows: await shownEvents(services, read, events), next: page.next }, (one) => one);
  },
});

async function requirePosition({ readSide }: Parameters<typeof listEvents.handle>[0]["services"], text: string) {
  const where = await readSide.compare(text);
  if (where === "foreign" || where === "beyond") {
    throw new Problem("invalid_position", { detail: "`after` is damaged, or is not a position of this server's log." });
  }
}

/** Users act by subject. */
async function actorsNamed(
  { keyring }: Parameters<typeof listEvents.handle>[0]["services"],
  client: `cli_${string}`,
  named: readonly string[],
): Promise<readonly string[]> {
  const subjects = await Promise.all(named.map((one) => keyring.subjectOfUser(client, one)));
  return [...named, ...subjects];
}

const listStream = route({
  method: "GET",
  path: "/audit/streams/:stream/events",
  summary: "Lists the events of one stream, oldest first; `client` is the tenant's own.",
  tag: "audit",
  access,
  params: z.object({ stream: z.string() }),
  query: input(paging),
  responses: { 200: listBody(AuditEventResource) },
  problems: ["not_found"],
  handle: async (handling) => {
    const { services, caller, read, params, query } = handling;
    const stream = params.stream === OWN_STREAM ? clientStream(caller.client) : params.stream;
    await requireOwnStream(services, caller.client, stream);
    const [before] = readCursor(query.cursor, ["integer"]) ?? [];
    const from = before === undefined ? 0 : before + 1;
    const recorded = await services.store.readStream(stream, { from, limit: query.limit + 1 });
    const page = pageOf(recorded, query.limit, (last) => [last.revision]);
    return listReply(handling, { ...page, rows: await shownEvents(services, read, page.rows) }, (one) => one);
  },
});

export const auditRoutes: readonly Route[] = [listEvents, listStream];
