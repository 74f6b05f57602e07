// Deliveries by what they are: lists of them, those that are open to a user, and those that a redrive starts again.
import { type Expression, type SqlBool, sql } from "kysely";
import type { Channel, DeliveryStatus } from "../../contract/deliveries.ts";
import type { Cursor } from "../../contract/fields.ts";
import type { DeliveryId, EndpointId, Subject } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import type { RedriveFilter } from "../../domain/redrive.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, readPage } from "../page.ts";
import { anyOf, first, type ReadAs } from "../read-as.ts";
import { type DeliveryRow, deliveries } from "./deliveries.ts";
import { notifications } from "./notifications.ts";

type DeliveryFilter = {
  statuses?: readonly DeliveryStatus[] | undefined;
  channels?: readonly Channel[] | undefined;
  providers?: readonly string[] | undefined;
  /** The subjects of user ids or addresses, any of them. */
  recipients?: readonly Subject[] | undefined;
  endpoints?: readonly string[] | undefined;
  errorCodes?: readonly string[] | undefined;
  /** `from` inclusive and `to` exclusive bound the creation. */
  from?: Instant | undefined;
  to?: Instant | undefined;
};

function conditions(filter: DeliveryFilter): Expression<SqlBool>[] {
  const { statuses, channels, providers, recipients, endpoints, errorCodes, from, to } = filter;
  const found: Expression<SqlBool>[] = [];
  if (statuses !== undefined) found.push(anyOf("d.status", statuses));
  if (channels !== undefined) found.push(anyOf("d.channel", channels));
  if (providers !== undefined) found.push(anyOf("d.provider", providers));
  if (recipients !== undefined) found.push(anyOf("d.subject", recipients));
  if (endpoints !== undefined) found.push(anyOf("d.endpoint_id", endpoints));
  if (errorCodes !== undefined) found.push(sql`d.error->>'code' = any(${errorCodes})`);
  if (from !== undefined) found.push(sql`d.created_at >= ${from}`);
  if (to !== undefined) found.push(sql`d.created_at < ${to}`);
  return found;
}

export const deliveryById = async (read: ReadAs, id: DeliveryId): Promise<DeliveryRow | undefined> =>
  first(await read.rows(read.over({ d: deliveries }).selectFrom("d").selectAll().where("id", "=", id)));

/** Newest first. Throws InvalidCursor. */
export function listDeliveries(
  read: ReadAs,
  { limit, cursor, ...filter }: DeliveryFilter & { limit: number; cursor?: Cursor | undefined },
): Promise<Page<DeliveryRow>> {
  const query = read
    .over({ d: deliveries })
    .selectFrom("d")
    .selectAll()
    .where((eb) => eb.and(conditions(filter)));
  return readPage(read, query, { by: { "d.position": "text" }, order: "desc", limit, cursor }, (last) => [
    last.position,
  ]);
}

const redrivable = (read: ReadAs, filter: RedriveFilter, { upTo }: { upTo: Position }) => {
  const { statuses, channels, providers, endpoints, errorCodes, fromAt, toAt } = filter;
  const those = conditions({
    statuses,
    channels: channels ?? undefined,
    providers: providers ?? undefined,
    endpoints: endpoints ?? undefined,
    errorCodes: errorCodes ?? undefined,
    from: fromAt ?? undefined,
    to: toAt ?? undefined,
  });
  return read
    .over({ d: deliveries })
    .selectFrom("d")
    .where((eb) => eb.and(those))
    .where("d.address", "is not", null)
    .where("d.position", "<=", upTo);
};

/** How many a redrive would start again, `limit` at most. `upTo`: of those that were made up to there. */
export async function countRedrivable(
  read: ReadAs,
  filter: RedriveFilter,
  range: { upTo: Position; limit: number | null },
): Promise<number> {
  const all = redrivable(read, filter, range).select(sql`1`.as("one"));
  const some = range.limit === null ? all : all.limit(range.limit);
  const query = read.over({ d: deliveries }).selectFrom(some.as("some")).select(sql<number>`count(*)::int`.as("count"));
  return first(await read.rows(query))?.count ?? 0;
}

/** The next ones that a redrive starts again, oldest first. */
export const nextRedrivable = (
  read: ReadAs,
  filter: RedriveFilter,
  range: { upTo: Position; after: Position | null; limit: number },
): Promise<readonly Pick<DeliveryRow, "id">[]> =>
  read.rows(
    redrivable(read, filter, range)
      .select("d.id")
      .where("d.position", ">", range.after ?? ("" as Position))
      .orderBy("d.position")
      .limit(range.limit),
  );

type EndpointDeliveryList = {
  statuses?: readonly DeliveryStatus[];
  /** `from` inclusive and `to` exclusive. */
  from?: Instant;
  to?: Instant;
  limit: number;
  cursor?: Cursor;
};

/** Newest first. Throws InvalidCursor. */
export function deliveriesOfEndpoint(
  read: ReadAs,
  endpoint: EndpointId,
  { statuses, from, to, limit, cursor }: EndpointDeliveryList,
): Promise<Page<DeliveryRow>> {
  let query = read.over({ d: deliveries }).selectFrom("d").selectAll().where("endpoint_id", "=", endpoint);
  if (statuses !== undefined) query = query.where(anyOf("status", statuses));
  if (from !== undefined) query = query.where("requested_at", ">=", from);
  if (to !== undefined) query = query.where("requested_at", "<", to);
  return readPage(read, query, { by: { position: "text" }, order: "desc", limit, cursor }, (last) => [last.position]);
}

/**
 * WebSocket deliveries of a user that are not acknowledged and do not expire before `now`, those that fell back
 * included, oldest first, with what their frames are made of. Throws InvalidCursor.
 */
export async function openWebsocketDeliveries(
  read: ReadAs,
  subject: Subject,
  { now, limit, cursor }: { now: Instant; limit: number; cursor?: Cursor },
) {
  const query = read
    .over({ d: deliveries, n: notifications })
    .selectFrom("d")
    .innerJoin("n", "n.id", "d.notification_id")
    .select(["d.id", "n.id as notification_id", "d.status", "d.requested_at", "d.expires_at", "d.position"])
    .select(["n.subject", "n.content", "n.meta", "n.priority", "n.category", "n.room_id"])
    .where(sql<boolean>`d.to_push`)
    .where(sql<boolean>`not n.deleted`)
    .where("d.subject", "=", subject)
    .where("d.expires_at", ">", now);
  return readPage(read, query, { by: { "d.position": "text" }, order: "asc", limit, cursor }, (last) => [
    last.position,
  ]);
}

/** Of these users those to whom `openWebsocketDeliveries` may give any. */
export async function usersWithOpenDeliveries(
  read: ReadAs,
  subjects: readonly Subject[],
  now: Instant,
): Promise<readonly Subject[]> {
  const query = read
    .over({ d: deliveries })
    .selectFrom(sql<{ subject: Subject }>`unnest(${subjects}::text[])`.as<"u">(sql`u(subject)`))
    .select("u.subject")
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom("d")
          .select("d.id")
          .where(sql<boolean>`d.to_push`)
          .whereRef("d.subject", "=", "u.subject")
          .where("d.expires_at", ">", now),
      ),
    );
  return (await read.rows(query)).map(({ subject }) => subject);
}

/** How many WebSocket deliveries of a user are pending. */
export async function countOpen(read: ReadAs, subject: Subject): Promise<number> {
  const query = read
    .over({ d: deliveries })
    .selectFrom("d")
    .select(sql<number>`count(*)::int`.as("count"))
    .where(sql<boolean>`d.to_push`)
    .where("d.subject", "=", subject)
    .where("d.status", "=", "pending");
  return first(await read.rows(query))?.count ?? 0;
}
