// Webhook endpoints, as the fan-out follows them, and how their receivers have answered.
import { sql } from "kysely";
import type { DeliveryError } from "../../contract/deliveries.ts";
import type { ClientId, EndpointId, Subject } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { Instant } from "../../contract/time.ts";
import type { Endpoint, EndpointEvent, EndpointSettings, EndpointStart } from "../../domain/endpoint.ts";
import { reveal } from "../../domain/event.ts";
import { type Position, parsePosition, positionOf } from "../../event-store/event-store.ts";
import {
  type Body,
  bigint,
  boolean,
  change,
  type EventFacts,
  integer,
  json,
  projection,
  put,
  type RowChange,
  type RowOf,
  remove,
  text,
} from "../projection.ts";
import { anyOf, first, type OperatorRead, type ReadAs } from "../read-as.ts";
import { deliveries } from "./deliveries.ts";

const columns = {
  id: text<EndpointId>(),
  client: text<ClientId>(),
  status: text<Endpoint["status"]>(),
  url: text({ nullable: true }),
  recipient: text<Subject>(),
  events: json<string[]>(),
  room_ids: json<string[]>({ nullable: true }),
  filter: json<JsonObject>({ nullable: true }),
  ordered: boolean(),
  rate_per_second: json<number>({ nullable: true }),
  generation: integer(),
  /** Where this generation begins: after a position, and not before a time. */
  start: text<Position>(),
  not_before: bigint({ nullable: true }),
  /** Of the event that began this generation, and of the last change. */
  started: text<Position>(),
  changed: text<Position>(),
};
export type EndpointRow = RowOf<typeof columns>;
type EndpointBody = Body<EndpointRow, "id">;

export const endpoints = projection({
  name: "endpoints",
  version: 2,
  key: ["id"],
  columns,
  indexes: ["(client)"],
  personal: [],
  on: {
    EndpointCreated: (e) => [
      put([e.data.endpoint], {
        ...settingsOf(e.data),
        ...{ status: "active", generation: 0 },
        ...startOf(e.data.start, e),
        changed: e.position,
      }),
    ],
    EndpointUpdated: (e) => [changed(e, () => settingsOf(e.data))],
    EndpointPaused: (e) => [changed(e, () => ({ status: "paused" }))],
    EndpointResumed: (e) => [
      changed(e, (row) => ({ status: "active", ...(e.data.start === null ? {} : anew(row, e.data.start, e)) })),
    ],
    EndpointDisabled: (e) => [changed(e, () => ({ status: "disabled" }))],
    EndpointRewound: (e) => [changed(e, (row) => anew(row, e.data.start, e))],
    EndpointDeleted: (e) => [remove([e.data.endpoint])],
  },
});

const settingsOf = (data: EndpointSettings) => ({
  url: reveal(data.url),
  recipient: data.recipient,
  events: data.events,
  room_ids: data.roomIds,
  filter: reveal(data.filter),
  ordered: data.ordered,
  rate_per_second: data.ratePerSecond,
});

const startOf = ({ after, notBefore }: EndpointStart, { position }: Pick<EventFacts, "position">) => ({
  start: startHere(position, { after, notBefore }),
  not_before: notBefore,
  started: position,
});
/** A position of another log, of which this one was imported, says nothing here: the time does, else the event itself. */
function startHere(position: Position, { after, notBefore }: EndpointStart): Position {
  const { logId } = parsePosition(position) ?? { logId: "" };
  if (after !== null && parsePosition(after)?.logId === logId) return after as Position;
  return after === null || notBefore === null ? position : positionOf(logId, 0);
}
const anew = (row: EndpointRow, start: EndpointStart, e: Pick<EventFacts, "position">) => ({
  ...startOf(start, e),
  generation: row.generation + 1,
});

const changed = (
  e: Omit<EventFacts, "type"> & EndpointEvent,
  changes: (row: EndpointRow) => Partial<EndpointBody>,
): RowChange<EndpointRow, EndpointBody> =>
  change([e.data.endpoint], (row) => ({ ...row, ...changes(row), changed: e.position }));

/** Every endpoint of every client. */
export const allEndpoints = (operator: OperatorRead): Promise<readonly EndpointRow[]> =>
  operator.rows(operator.over({ e: endpoints }).selectFrom("e").selectAll());

/** Where endpoints begin, as far as the read model knows them. */
export const startsOf = (read: ReadAs, ids: readonly EndpointId[]) =>
  read.rows(read.over({ e: endpoints }).selectFrom("e").select(["id", "start"]).where(anyOf("id", ids)));

const healthColumns = {
  endpoint_id: text<EndpointId>(),
  client: text<ClientId>(),
  last_success_at: bigint({ nullable: true }),
  last_failure_at: bigint({ nullable: true }),
  last_failure: json<DeliveryError>({ nullable: true }),
  /** Attempts that failed in a row, and since when. */
  failures: integer(),
  failing_since: bigint({ nullable: true }),
  /** It answered 410. */
  gone: boolean(),
};
type EndpointHealthRow = RowOf<typeof healthColumns>;
type HealthBody = Body<EndpointHealthRow, "endpoint_id">;

const UNTRIED: Omit<HealthBody, "client"> = {
  ...{
    last_success_at: null,
    last_failure_at: null,
    last_failure: null,
    failures: 0,
    failing_since: null,
    gone: false,
  },
};

/** A row belongs to an endpoint, and is folded from the outcomes of all its deliveries, in the order of the log. */
export const endpointHealth = projection({
  name: "endpoint_health",
  version: 1,
  key: ["endpoint_id"],
  columns: healthColumns,
  indexes: ["(failing_since) where failing_since is not null", "(endpoint_id) where gone"],
  personal: ["last_failure"],
  on: {
    EndpointCreated: (e) => [put([e.data.endpoint], UNTRIED)],
    // It begins to count anew.
    EndpointResumed: (e) => [
      change([e.data.endpoint], (row) => ({ ...row, failures: 0, failing_since: null, gone: false })),
    ],
    EndpointDeleted: (e) => [remove([e.data.endpoint])],
    DeliverySucceeded: (e) =>
      outcome(e, (row) => ({ ...row, last_success_at: e.meta.at, failures: 0, failing_since: null })),
    DeliveryAttemptFailed: (e) =>
      outcome(e, (row) => ({
        ...row,
        last_failure_at: e.meta.at,
        last_failure: reveal(e.data.error),
        failures: row.failures + 1,
        failing_since: row.failing_since ?? e.meta.at,
      })),
    DeliveryExhausted: (e) => (e.data.reason === "gone" ? outcome(e, (row) => ({ ...row, gone: true })) : []),
  },
});

/** Of an endpoint that was deleted nothing is kept: its last outcomes may come after it. */
const outcome = (
  { data: { endpoint } }: { readonly data: { readonly endpoint?: EndpointId | undefined } },
  fold: (row: EndpointHealthRow) => HealthBody,
): readonly RowChange<EndpointHealthRow, HealthBody>[] =>
  endpoint === undefined ? [] : [change<EndpointHealthRow, HealthBody>([endpoint], fold)];

export const healthOf = (read: ReadAs, ids: readonly EndpointId[]): Promise<readonly EndpointHealthRow[]> =>
  read.rows(read.over({ h: endpointHealth }).selectFrom("h").selectAll().where(anyOf("endpoint_id", ids)));

/** Endpoints to disable that are not: those that answered 410, and those that have only failed for so long. */
export const endpointsToDisable = (operator: OperatorRead, forMs: number, limit: number) =>
  operator.rows(
    operator
      .over({ h: endpointHealth, e: endpoints })
      .selectFrom("h")
      .innerJoin("e", "e.id", "h.endpoint_id")
      .select(["e.id", "e.client", "h.gone"])
      .where(sql<boolean>`(h.gone or h.failing_since <= h.last_failure_at - ${forMs}::bigint)`)
      .where("e.status", "!=", "disabled")
      .limit(limit),
  );

// Its deliveries that have not ended.

/** Open deliveries of endpoints, oldest first. */
export const openEndpointDeliveries = (operator: OperatorRead) =>
  operator.rows(
    operator
      .over({ d: deliveries })
      .selectFrom("d")
      .where(sql<boolean>`d.endpoint_id is not null and d.next_action_at is not null`)
      .select((eb) => eb.ref("d.endpoint_id").$notNull().as("endpoint_id"))
      .select(["d.id", "d.lane", "d.previous"])
      .where("d.event_type", "!=", "webhook.test")
      .orderBy("d.position"),
  );

/** Of each endpoint the first event that was requested with its latest delivery: all before it were requested. */
export const latestBatches = (operator: OperatorRead) =>
  operator.rows(
    operator
      .over({ d: deliveries, e: endpoints })
      .selectFrom("d")
      .innerJoin("e", (join) => join.onRef("e.id", "=", "d.endpoint_id").onRef("e.generation", "=", "d.generation"))
      .distinctOn("e.id")
      .select("e.id")
      .select((eb) => eb.ref("d.batch_start").$notNull().as("batch_start"))
      .where("d.event_type", "!=", "webhook.test")
      .orderBy("e.id")
      .orderBy("d.position", "desc"),
  );

/** How many deliveries of an endpoint have not ended, counted to `max`, and when the oldest was requested. */
export async function openCountOf(read: ReadAs, endpoint: EndpointId, max: number) {
  const query = read
    .over({ d: deliveries })
    .selectFrom((eb) =>
      eb
        .selectFrom("d")
        .select("d.requested_at")
        .where("d.endpoint_id", "=", endpoint)
        .where(sql<boolean>`d.next_action_at is not null`)
        .orderBy("d.position")
        .limit(max)
        .as("open"),
    )
    .select([sql<number>`count(*)::int`.as("count"), sql<Instant | null>`min(open.requested_at)`.as("oldest")]);
  return first(await read.rows(query)) ?? { count: 0, oldest: null };
}
