// domain/endpoint.ts: the webhook endpoints of a client, in its stream: which public events each gets, where it goes, and from
// where in the log on. How far each has come is no event: it is a cursor beside the jobs.

import { z } from "zod";
import { ClientIdSchema, type EndpointId, EndpointIdSchema, SubjectSchema } from "../contract/ids.ts";
import { isObject, type JsonObject, JsonObjectSchema, type JsonValue, sameJson } from "../contract/json.ts";
import { DAY_MS, type Instant } from "../contract/time.ts";
import { DomainError, type EventContext, type IfMatch, requireMatch, type TimedCommand } from "./decider.ts";
import { type EventsOf, event, type Sealed, seal, sealed } from "./event.ts";

const MAX_ENDPOINTS = 50;
/** How long the old secret signs beside the new one. */
const SECRET_GRACE_MS = DAY_MS;
/** How long the cursor of a disabled endpoint is kept. One that is resumed later begins anew. */
const KEPT_DISABLED_MS = 30 * DAY_MS;

/** Where an endpoint begins: after a position, null for that of the event itself, and not before a time. */
const start = z.object({ after: z.string().nullable(), notBefore: z.number().nullable() });
export type EndpointStart = z.infer<typeof start>;

const settings = z.object({
  url: sealed(z.string()),
  /** The URL as deliveries know their recipients. */
  recipient: SubjectSchema,
  /** Names of types, or `prefix.*`. */
  events: z.array(z.string()),
  /** Null: of any room and of none. */
  roomIds: z.array(z.string()).nullable(),
  filter: sealed(JsonObjectSchema).nullable(),
  description: z.string().nullable(),
  headers: sealed(z.array(z.object({ name: z.string(), value: z.string() }))),
  ordered: z.boolean(),
  ratePerSecond: z.number().nullable(),
  timeoutSeconds: z.number(),
  /** Waits such as `5s`. Null: the server's own. */
  retrySchedule: z.array(z.string()).nullable(),
});
export type EndpointSettings = z.infer<typeof settings>;
const seals = { url: "client", filter: "client", headers: "client" };

const base = z.object({ client: ClientIdSchema, endpoint: EndpointIdSchema });
export const DISABLED_REASONS = ["gone", "failing"] as const;

// Events. A storage format.
export const endpointEvents = {
  EndpointCreated: event({
    data: base.extend({ ...settings.shape, secret: sealed(z.string()), start }),
    seals: { ...seals, secret: "client" },
  }),
  /** Its settings from now on, all of them. */
  EndpointUpdated: event({ data: base.extend(settings.shape), seals }),
  /** Both secrets sign until the grace ends. */
  EndpointSecretRotated: event({
    data: base.extend({ secret: sealed(z.string()), graceUntil: z.number() }),
    seals: { secret: "client" },
  }),
  EndpointPaused: event({ data: base }),
  /** `start`: where it begins anew, when its cursor was kept no longer. */
  EndpointResumed: event({ data: base.extend({ start: start.nullable() }) }),
  EndpointDisabled: event({ data: base.extend({ reason: z.enum(DISABLED_REASONS) }) }),
  EndpointRewound: event({ data: base.extend({ start }) }),
  EndpointDeleted: event({ data: base }),
} as const;
export type EndpointEvent = EventsOf<typeof endpointEvents>;

// State.
export type Endpoint = EndpointSettings & {
  readonly id: EndpointId;
  readonly status: "active" | "paused" | "disabled";
  readonly disabledAt: Instant | null;
  readonly secret: Sealed<string>;
  readonly previousSecret: { readonly secret: Sealed<string>; readonly until: Instant } | null;
  /** How often it began anew. */
  readonly generation: number;
  readonly createdAt: Instant;
  /** The seq of its last change, its ETag. */
  readonly changedSeq: number;
};
type Endpoints = readonly Endpoint[];

export function evolveEndpoints(endpoints: Endpoints, event: EndpointEvent, { at, seq }: EventContext): Endpoints {
  const { endpoint: id } = event.data;
  if (event.type === "EndpointCreated") {
    const { client: _client, endpoint: _id, secret, start: _start, ...own } = event.data;
    const about = { status: "active", disabledAt: null, previousSecret: null, generation: 0 } as const;
    return [...endpoints, { id, ...own, secret, ...about, createdAt: at, changedSeq: seq }];
  }
  if (event.type === "EndpointDeleted") return endpoints.filter((one) => one.id !== id);
  return endpoints.map((one) => (one.id === id ? { ...one, ...changeOf(one, event, at), changedSeq: seq } : one));
}

function changeOf(
  before: Endpoint,
  event: Exclude<EndpointEvent, { type: "EndpointCreated" | "EndpointDeleted" }>,
  at: Instant,
): Partial<Endpoint> {
  switch (event.type) {
    case "EndpointUpdated": {
      const { client: _client, endpoint: _id, ...own } = event.data;
      return own;
    }
    case "EndpointSecretRotated": {
      const { secret, graceUntil } = event.data;
      return { secret, previousSecret: { secret: before.secret, until: graceUntil } };
    }
    case "EndpointPaused":
      return { status: "paused", disabledAt: null };
    case "EndpointResumed": {
      const generation = event.data.start === null ? before.generation : before.generation + 1;
      return { status: "active", disabledAt: null, generation };
    }
    case "EndpointDisabled":
      return { status: "disabled", disabledAt: at };
    case "EndpointRewound":
      return { generation: before.generation + 1 };
  }
}

// Commands, and what each means now.
export type EndpointCommand = TimedCommand & { readonly endpoint: EndpointId; readonly ifMatch?: IfMatch } & (
    | { type: "CreateEndpoint"; settings: EndpointSettings; secret: string; start: EndpointStart }
    | { type: "UpdateEndpoint"; settings: EndpointSettings }
    | { type: "RotateEndpointSecret"; secret: string }
    | { type: "PauseEndpoint" }
    | { type: "ResumeEndpoint" }
    | { type: "DisableEndpoint"; reason: (typeof DISABLED_REASONS)[number] }
    | { type: "RewindEndpoint"; start: EndpointStart }
    | { type: "DeleteEndpoint" }
  );

/** The endpoint, as the domain tells it from the client's other commands. */
export const isEndpointCommand = <C extends { readonly type: string }>(
  command: C,
): command is Extract<C, EndpointCommand> => "endpoint" in command;
export const isEndpointEvent = <E extends { readonly type: string }>(event: E): event is Extract<E, EndpointEvent> =>
  Object.hasOwn(endpointEvents, event.type);

/** Throws not_found, too_many_endpoints, precondition_failed. */
export function decideEndpoints(
  { id: client, endpoints }: { readonly id: z.infer<typeof ClientIdSchema>; readonly endpoints: Endpoints },
  command: EndpointCommand,
): readonly EndpointEvent[] {
  const base = { client, endpoint: command.endpoint };
  const known = endpoints.find(({ id }) => id === command.endpoint);
  if (command.type === "CreateEndpoint") {
    if (known !== undefined) return [];
    // fence: too-many-endpoints
    if (endpoints.length >= MAX_ENDPOINTS) throw new DomainError("too_many_endpoints");
    const { settings, secret, start } = command;
    return [{ type: "EndpointCreated", data: { ...base, ...settings, secret: seal(secret), start } }];
  }
  if (known === undefined) throw new DomainError("not_found");
  requireMatch(command.ifMatch ?? null, known.changedSeq);
  switch (command.type) {
    case "UpdateEndpoint": {
      const data = { ...base, ...command.settings };
      if (sameJson({ ...known, ...command.settings }, known)) return [];
      return [{ type: "EndpointUpdated", data }];
    }
    case "RotateEndpointSecret": {
      const graceUntil = command.at + SECRET_GRACE_MS;
      return [{ type: "EndpointSecretRotated", data: { ...base, secret: seal(command.secret), graceUntil } }];
    }
    case "PauseEndpoint":
      return known.status === "paused" ? [] : [{ type: "EndpointPaused", data: base }];
    case "ResumeEndpoint": {
      if (known.status === "active") return [];
      const isForgotten = known.disabledAt !== null && known.disabledAt <= command.at - KEPT_DISABLED_MS;
      const start = isForgotten ? { after: null, notBefore: null } : null;
      return [{ type: "EndpointResumed", data: { ...base, start } }];
    }
    case "DisableEndpoint":
      if (known.status === "disabled") return [];
      return [{ type: "EndpointDisabled", data: { ...base, reason: command.reason } }];
    case "RewindEndpoint":
      return [{ type: "EndpointRewound", data: { ...base, start: command.start } }];
    case "DeleteEndpoint":
      return [{ type: "EndpointDeleted", data: base }];
  }
}

/** The secrets that sign at a moment, the current one first. */
export const endpointSecrets = (
  { secret, previousSecret }: Pick<Endpoint, "secret" | "previousSecret">,
  at: Instant,
): readonly Sealed<string>[] => [
  secret,
  ...(previousSecret !== null && previousSecret.until > at ? [previousSecret.secret] : []),
];

// Which public events a webhook endpoint gets: by type, by room and by content.

/** What a content filter looks at. */
type FilteredEvent = { readonly type: string; readonly [field: string]: unknown };

/** Whether a type is among patterns: names, or `prefix.*`. */
export const matchesType = (patterns: readonly string[], type: string): boolean =>
  patterns.some((pattern) => (pattern.endsWith(".*") ? type.startsWith(pattern.slice(0, -1)) : pattern === type));

/** Whether an event passes a content filter, which was checked when it was set. */
export function matchesFilter(filter: JsonObject, event: FilteredEvent): boolean {
  return Object.entries(filter).every(([name, value]) => {
    if (name === "$and") return filtersIn(value).every((one) => matchesFilter(one, event));
    if (name === "$or") return filtersIn(value).some((one) => matchesFilter(one, event));
    if (name === "$not") return isObject(value) && !matchesFilter(value, event);
    return matchesField(value, fieldOf(event, name));
  });
}

const filtersIn = (value: JsonValue): readonly JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : []);

/** The value at a dotted path; undefined when it is not there. */
function fieldOf(event: FilteredEvent, path: string): unknown {
  let value: unknown = event;
  for (const step of path.split(".")) {
    if (!isObject(value) || !Object.hasOwn(value, step)) return undefined;
    value = value[step];
  }
  return value;
}

function matchesField(condition: JsonValue, value: unknown): boolean {
  const operators = isObject(condition) ? condition : { $eq: condition };
  return Object.entries(operators).every(([operator, operand]) => matchesOperator(operator, operand, value));
}

/** Of an array it is enough that one element matches. */
function matchesOperator(operator: string, operand: JsonValue, value: unknown): boolean {
  if (operator === "$exists") return (value !== undefined) === operand;
  if (value === undefined) return operator === "$ne" || operator === "$nin";
  return Array.isArray(value)
    ? value.some((element) => compare(operator, operand, element))
    : compare(operator, operand, value);
}

function compare(operator: string, operand: JsonValue, value: unknown): boolean {
  switch (operator) {
    case "$eq":
      return value === operand;
    case "$ne":
      return isComparable(operand, value) && value !== operand;
    case "$in":
      return Array.isArray(operand) && operand.includes(value as JsonValue);
    case "$nin":
      return (
        Array.isArray(operand) &&
        (operand.length === 0 || operand.some((one) => isComparable(one, value))) &&
        !operand.includes(value as JsonValue)
      );
    case "$gt":
      return ordered(value, operand, (order) => order > 0);
    case "$gte":
      return ordered(value, operand, (order) => order >= 0);
    case "$lt":
      return ordered(value, operand, (order) => order < 0);
    case "$lte":
      return ordered(value, operand, (order) => order <= 0);
    case "$startsWith":
      return typeof value === "string" && typeof operand === "string" && value.startsWith(operand);
    default:
      return false;
  }
}

/** Values of two types never match, but null stands for any: `{"$ne": null}` is whatever is not null. */
const isComparable = (operand: JsonValue, value: unknown): boolean =>
  operand === null || value === null || typeof operand === typeof value;

function ordered(value: unknown, operand: JsonValue, holds: (order: number) => boolean): boolean {
  if (typeof value === "number" && typeof operand === "number") return holds(value - operand);
  if (typeof value === "string" && typeof operand === "string")
    return holds(value === operand ? 0 : value < operand ? -1 : 1);
  return false;
}
