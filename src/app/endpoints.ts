// Webhook endpoints: making them, what a client sees and changes of them, and their deliveries.
import { onBehalfOf } from "../channels/resolver.ts";
import type { DeliveryResource } from "../contract/deliveries.ts";
import type {
  CreatedEndpointResource,
  EndpointDeliveriesQuery,
  EndpointPatch,
  EndpointResource,
  EndpointSecretResource,
  EndpointTestResource,
  NewEndpoint,
} from "../contract/endpoints.ts";
import type { FieldFault } from "../contract/errors.ts";
import { type PageQuery, parseWebhookUrl } from "../contract/fields.ts";
import { DeliveryIdSchema, type EndpointId, type EventId } from "../contract/ids.ts";
import { type Instant, MINUTE_MS, parseInstant, rfc3339, SECOND_MS } from "../contract/time.ts";
import type { Client } from "../domain/client.ts";
import { DomainError, type IfMatch } from "../domain/decider.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import { deliveryStream, hasEnded } from "../domain/delivery-state.ts";
import {
  type Endpoint,
  type EndpointCommand,
  type EndpointSettings,
  type EndpointStart,
  endpointSecrets,
  matchesType,
} from "../domain/endpoint.ts";
import { reveal, seal, sealOrNull } from "../domain/event.ts";
import { deriveTail, endpointDeliveryId, publicEventId } from "../event-store/derived-ids.ts";
import { type Position, positionOf } from "../event-store/event-store.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { furthest } from "../projections/endpoint-cursors.ts";
import { attemptsOf } from "../projections/models/attempts.ts";
import { countAfter, lastBefore } from "../projections/models/audit.ts";
import { deliveriesOfEndpoint } from "../projections/models/delivery-list.ts";
import { healthOf, openCountOf, startsOf } from "../projections/models/endpoints.ts";
import { type Page, pageOf, readCursor } from "../projections/page.ts";
import { executeOnClient, makeWebhookSecret, ownClient } from "./clients.ts";
import { invalid } from "./errors.ts";
import { deliveryAsOf } from "./notification-views.ts";
import { storedTypesOf } from "./public-events.ts";
import { deliveryResource } from "./resources.ts";
import type { Call, Written } from "./services.ts";

/** Failures in a row after which an endpoint is called failing. */
const FAILING_AFTER = 5;
/** Events that are counted at most to say how far an endpoint is behind. */
const MAX_COUNTED = 10_000;
/** How far the clocks of two nodes may be apart: of two events, the later in the log may be earlier by so much. */
const CLOCKS_APART_MS = 5 * MINUTE_MS;

type Shown = { readonly endpoint: EndpointResource; readonly etag: number };
type ShownWritten = Shown & Written;

function endpointIn(client: Client, id: EndpointId): Endpoint {
  const found = client.status === "live" ? client.endpoints.find((one) => one.id === id) : undefined;
  if (found === undefined) throw new DomainError("not_found");
  return found;
}

const ownEndpoint = async (call: Call, id: EndpointId): Promise<Endpoint> => endpointIn(await ownClient(call), id);

// Making and changing.

/** Throws validation_failed, too_many_endpoints. */
export async function createEndpoint(
  call: Call,
  wanted: NewEndpoint,
): Promise<Written & { readonly endpoint: CreatedEndpointResource; readonly etag: number }> {
  const { services, context } = call;
  const id: EndpointId = `whk_${deriveTail("endpoint", context.commandId)}`;
  const faults = await urlFaults(call, wanted.url);
  const start = await startAt(call, "from", wanted.from ?? "now", faults);
  if (faults.length > 0) throw invalid(faults);
  const settings = await settingsOf(call, wanted, {});
  const secret = wanted.secret ?? makeWebhookSecret(services);
  const shown = await change(call, { type: "CreateEndpoint", endpoint: id, at: call.at, settings, secret, start });
  return { ...shown, endpoint: { ...shown.endpoint, secret: shown.replayed ? null : secret } };
}

/** Changes some of the settings. Throws not_found, precondition_failed, validation_failed. */
export async function changeEndpoint(
  call: Call,
  id: EndpointId,
  patch: EndpointPatch,
  ifMatch: IfMatch,
): Promise<ShownWritten> {
  const before = await ownEndpoint(call, id);
  const url = patch.url ?? reveal(before.url) ?? "";
  const faults = patch.url === undefined ? [] : await urlFaults(call, patch.url);
  if (faults.length > 0) throw invalid(faults);
  const { headers: _headers, ...rest } = omitUndefined(patch);
  const settings = await settingsOf(call, { ...inputOf(before), ...rest, url }, headersAfter(before, patch.headers));
  return change(call, { type: "UpdateEndpoint", endpoint: id, at: call.at, settings, ifMatch });
}

type SettingsInput = Omit<NewEndpoint, "headers" | "secret" | "from"> & Partial<Pick<NewEndpoint, "headers">>;

/** Settings as a request would give them, but for the headers. */
const inputOf = (known: Endpoint): Omit<SettingsInput, "headers"> => ({
  url: reveal(known.url) ?? "",
  events: known.events,
  room_ids: known.roomIds,
  filter: reveal(known.filter),
  description: known.description,
  ordered: known.ordered,
  rate_per_second: known.ratePerSecond,
  timeout_seconds: known.timeoutSeconds,
  retry_schedule: known.retrySchedule,
});

type Headers = Readonly<Record<string, string | null>>;

/** The headers after a merge patch; names are the same whatever their case. */
function headersAfter(known: Endpoint, patch: Headers | null | undefined): Headers {
  if (patch === null) return {};
  const changed = new Set(Object.keys(patch ?? {}).map((name) => name.toLowerCase()));
  const kept = (reveal(known.headers) ?? []).filter(({ name }) => !changed.has(name.toLowerCase()));
  return { ...Object.fromEntries(kept.map(({ name, value }) => [name, value])), ...patch };
}

async function settingsOf(
  { services, caller }: Call,
  wanted: SettingsInput,
  changedHeaders: Headers,
): Promise<EndpointSettings> {
  const headers = Object.entries(wanted.headers ?? changedHeaders);
  const parsed = parseWebhookUrl(wanted.url);
  const canonical = "ok" in parsed ? wanted.url : parsed.href;
  return {
    url: seal(wanted.url),
    recipient: await services.keyring.subjectOfAddress(caller.client, canonical),
    events: wanted.events,
    roomIds: wanted.room_ids,
    filter: sealOrNull(wanted.filter),
    description: wanted.description,
    headers: seal(headers.flatMap(([name, value]) => (value === null ? [] : [{ name, value }]))),
    ordered: wanted.ordered,
    ratePerSecond: wanted.rate_per_second,
    timeoutSeconds: wanted.timeout_seconds,
    retrySchedule: wanted.retry_schedule,
  };
}

async function urlFaults({ services: { config, guard }, caller }: Call, url: string): Promise<FieldFault[]> {
  const verdict = guard.checkUrl(url);
  if (!verdict.ok) return [{ path: "url", code: verdict.code, message: verdict.reason }];
  const named = () => onBehalfOf(caller.client, () => guard.namesAllowed(url));
  // fence: endpoint-https
  if (config.development || url.toLowerCase().startsWith("https:") || (await named())) return [];
  return [{ path: "url", code: "not_allowed", message: "must be https" }];
}

/** Where an endpoint begins that is to begin at a time or position. */
async function startAt(call: Call, path: string, named: string, faults: FieldFault[]): Promise<EndpointStart> {
  const { services, caller, read, at } = call;
  if (path === "from" && named === "now") return { after: null, notBefore: null };
  const refuse = (code: FieldFault["code"], message: string): EndpointStart => {
    faults.push({ path, code, message });
    return { after: null, notBefore: null };
  };
  const time = parseInstant(named);
  if (time !== undefined) {
    if (time > at) return refuse("too_large", "must not be in the future");
    const last = await lastBefore(read, time - CLOCKS_APART_MS);
    return { after: last ?? positionOf(services.store.logId, 0), notBefore: time };
  }
  const position = services.positions.open(caller.client, named);
  if (position === undefined)
    return refuse("invalid_format", "must be a time, or a position that the client was given");
  if (position > (await services.store.tail())) return refuse("too_large", "must not be in the future");
  return { after: position, notBefore: null };
}

/** Gives a command to an endpoint, and shows it as it is then. */
async function change(call: Call, command: EndpointCommand): Promise<ShownWritten> {
  const { state, position, replayed } = await executeOnClient(call, command);
  const endpoint = endpointIn(state, command.endpoint);
  return { ...(await shown(call, endpoint)), position, replayed };
}

/** Throws not_found, precondition_failed. */
export const pauseEndpoint = (call: Call, endpoint: EndpointId, ifMatch: IfMatch): Promise<ShownWritten> =>
  change(call, { type: "PauseEndpoint", endpoint, at: call.at, ifMatch });

/** Everything after its cursor follows. Throws not_found, precondition_failed. */
export const resumeEndpoint = (call: Call, endpoint: EndpointId, ifMatch: IfMatch): Promise<ShownWritten> =>
  change(call, { type: "ResumeEndpoint", endpoint, at: call.at, ifMatch });

/** Its events go out again from there. Throws not_found, validation_failed, precondition_failed. */
export async function rewindEndpoint(
  call: Call,
  endpoint: EndpointId,
  to: string,
  ifMatch: IfMatch,
): Promise<ShownWritten> {
  await ownEndpoint(call, endpoint);
  const faults: FieldFault[] = [];
  const start = await startAt(call, "to", to, faults);
  if (faults.length > 0) throw invalid(faults);
  return change(call, { type: "RewindEndpoint", endpoint, at: call.at, start, ifMatch });
}

/** Throws not_found, precondition_failed. */
export const deleteEndpoint = (
  call: Call,
  endpoint: EndpointId,
  ifMatch: IfMatch,
): Promise<{ readonly position: Position }> =>
  executeOnClient(call, { type: "DeleteEndpoint", endpoint, at: call.at, ifMatch });

// Secrets.

function secretsOf(endpoint: Endpoint, at: Instant): EndpointSecretResource {
  const [current, previous] = endpointSecrets(endpoint, at);
  const until = endpoint.previousSecret?.until ?? 0;
  return {
    secret: reveal(current) ?? "",
    previous: previous === undefined ? null : { secret: reveal(previous) ?? "", expires_at: rfc3339(until) },
  };
}

/** Throws not_found. */
export const getEndpointSecret = async (call: Call, id: EndpointId): Promise<EndpointSecretResource> =>
  secretsOf(await ownEndpoint(call, id), call.at);

/** Both secrets sign for a day. Throws not_found, precondition_failed. */
export async function rotateEndpointSecret(
  call: Call,
  endpoint: EndpointId,
  ifMatch: IfMatch,
): Promise<Written & { readonly secret: EndpointSecretResource }> {
  const secret = makeWebhookSecret(call.services);
  const command = { type: "RotateEndpointSecret", endpoint, at: call.at, secret, ifMatch } as const;
  const { state, events, ...written } = await executeOnClient(call, command);
  // As of the rotation, so that a replay shows the same.
  return { secret: secretsOf(endpointIn(state, endpoint), events[0]?.at ?? call.at), ...written };
}

// As answers show them.

/** The client's endpoints, oldest first. Throws InvalidCursor. */
export async function listEndpoints(call: Call, { limit, cursor }: PageQuery): Promise<Page<EndpointResource>> {
  const [at, id] = readCursor(cursor, ["text", "text"]) ?? ["", ""];
  const orderOf = (one: Endpoint) => rfc3339(one.createdAt);
  const sorted = (await ownClient(call)).endpoints.toSorted(
    (a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1),
  );
  const rest = sorted.filter((one) => orderOf(one) > at || (orderOf(one) === at && one.id > id));
  const { rows, next } = pageOf(rest, limit, (last) => [orderOf(last), last.id]);
  return { rows: await Promise.all(rows.map(async (one) => (await shown(call, one)).endpoint)), next };
}

/** Throws not_found. */
export const getEndpoint = async (call: Call, id: EndpointId): Promise<Shown> =>
  shown(call, await ownEndpoint(call, id));

async function shown(call: Call, endpoint: Endpoint): Promise<Shown> {
  const { id, status } = endpoint;
  const [[health], progress] = await Promise.all([healthOf(call.read, [id]), progressOf(call, endpoint)]);
  const isFailing = status === "active" && (health?.failures ?? 0) >= FAILING_AFTER;
  const failure = health?.last_failure_at ?? null;
  const resource = {
    id,
    url: reveal(endpoint.url),
    events: endpoint.events,
    room_ids: endpoint.roomIds,
    filter: reveal(endpoint.filter),
    description: endpoint.description,
    headers: Object.fromEntries((reveal(endpoint.headers) ?? []).map(({ name }) => [name, { set: true as const }])),
    ordered: endpoint.ordered,
    rate_per_second: endpoint.ratePerSecond,
    timeout_seconds: endpoint.timeoutSeconds,
    retry_schedule: endpoint.retrySchedule,
    status: isFailing ? ("failing" as const) : status,
    ...progress,
    last_success_at: health?.last_success_at == null ? null : rfc3339(health.last_success_at),
    last_failure:
      failure === null
        ? null
        : { ...(health?.last_failure ?? { code: "failed", message: "the attempt failed" }), at: rfc3339(failure) },
    created_at: rfc3339(endpoint.createdAt),
  };
  return { endpoint: resource, etag: endpoint.changedSeq };
}

/** How far it has come, and what it has still to get. */
async function progressOf(
  { services, caller, read, at }: Call,
  { id, generation, events }: Endpoint,
): Promise<Pick<EndpointResource, "position" | "lag_events" | "lag_seconds">> {
  const [{ fanOut, behind }, [start]] = await Promise.all([services.cursors.of([id]), startsOf(read, [id])]);
  const own = behind.get(id);
  const cursor = own?.generation === generation ? own.position : fanOut;
  // One that the read model has not seen yet begins now.
  const position = start === undefined ? await services.store.tail() : furthest(start.start, cursor);
  const types = storedTypesOf((type) => matchesType(events, type));
  const [later, open] = await Promise.all([
    start === undefined ? { count: 0, first_at: null } : countAfter(read, types, position, MAX_COUNTED),
    openCountOf(read, id, MAX_COUNTED),
  ]);
  const oldest = [later.first_at, open.oldest].filter((one) => one !== null);
  return {
    position: services.positions.ofRequest(caller.client, position),
    lag_events: Math.min(MAX_COUNTED, later.count + open.count),
    lag_seconds: oldest.length === 0 ? 0 : Math.max(0, at - Math.min(...oldest)) / SECOND_MS,
  };
}

// Its deliveries.

/** Sends the event `webhook.test` to it, whatever its filters and state. Throws not_found. */
export async function testEndpoint(
  call: Call,
  id: EndpointId,
): Promise<Written & { readonly test: EndpointTestResource }> {
  const { services, context, at } = call;
  const { recipient, url, generation } = await ownEndpoint(call, id);
  const named: EventId = publicEventId(context.commandId);
  const delivery = endpointDeliveryId(id, named, generation);
  const stream = deliveryStream(delivery);
  const itself = { stream, revision: 0 };
  const about = { endpoint: id, event: named, type: "webhook.test", ...itself, generation };
  const request = {
    source: { ...about, batchStart: itself, lane: null, previous: null },
    recipient,
    channel: "webhook",
    address: url,
    name: null,
    fallbackOf: null,
    priority: "normal",
    bulk: false,
    expiresAt: at + TEST_EXPIRES_MS,
    fallbackAt: null,
  } as const;
  const command = { type: "Request", at, request } as const;
  const outcome = await services.commands.execute(deliveryDecider, stream, command, context, { newStream: true });
  return { test: { event_id: named, delivery_id: delivery }, ...outcome };
}
const TEST_EXPIRES_MS = 24 * 60 * MINUTE_MS;

/** The deliveries of an endpoint, newest first. Throws not_found, InvalidCursor. */
export async function listEndpointDeliveries(
  call: Call,
  id: EndpointId,
  { status: statuses, ...query }: EndpointDeliveriesQuery,
): Promise<Page<DeliveryResource>> {
  await ownEndpoint(call, id);
  const { rows, next } = await deliveriesOfEndpoint(call.read, id, omitUndefined({ statuses, ...query }));
  const ids = rows.map((row) => row.id);
  const attempts = ids.length === 0 ? [] : await attemptsOf(call.read, ids);
  const ofDelivery = Map.groupBy(attempts, (attempt) => attempt.delivery_id);
  return { rows: rows.map((row) => deliveryResource(row, ofDelivery.get(row.id) ?? [])), next };
}

/** Starts a delivery again that ended without success. Throws not_found, nothing_to_retry. */
export async function retryEndpointDelivery(
  call: Call,
  id: EndpointId,
  named: string,
): Promise<Written & { readonly delivery: DeliveryResource }> {
  const { services, context, at } = call;
  await ownEndpoint(call, id);
  const parsed = DeliveryIdSchema.safeParse(named);
  if (!parsed.success) throw new DomainError("not_found");
  const stream = deliveryStream(parsed.data);
  const { state } = await services.commands.load(deliveryDecider, stream);
  if (state.status === "none" || state.request.endpoint !== id) throw new DomainError("not_found");
  const { events, ...written } = await services.commands.execute(
    deliveryDecider,
    stream,
    { type: "Redrive", at },
    context,
  );
  const last = events.at(-1);
  if (last === undefined && hasEnded(state.status)) throw new DomainError("nothing_to_retry");
  return { delivery: await deliveryAsOf(services, parsed.data, last?.revision), ...written };
}
