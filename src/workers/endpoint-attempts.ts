// How a delivery to a webhook endpoint is attempted now: the event as it is to be shown, by the endpoint's own settings.
import { publicEvent } from "../app/public-events.ts";
import { parseDuration } from "../contract/endpoints.ts";
import type { ClientId, EndpointId, EventId } from "../contract/ids.ts";
import { DAY_MS, SECOND_MS } from "../contract/time.ts";
import { clientDecider, clientStream, type ExistingClient } from "../domain/client.ts";
import { DomainError } from "../domain/decider.ts";
import { type EndpointSource, hasEnded, type KnownDelivery } from "../domain/delivery-state.ts";
import { type DISABLED_REASONS, endpointSecrets } from "../domain/endpoint.ts";
import { reveal } from "../domain/event.ts";
import type { RetryPolicy } from "../domain/retry-policy.ts";
import { readDecoded } from "../event-store/handle-command.ts";
import { endpointsToDisable } from "../projections/models/endpoints.ts";
import { type AttemptPlan, ERASED, failing } from "./attempt-plans.ts";
import { contextOf, type JobServices, loadDelivery } from "./job-services.ts";
import type { Cause } from "./jobs.ts";

/** Of which one client gets half: a host may have many endpoints, and none of them waits for another. */
const ATTEMPTS_PER_ENDPOINT = 40;
const PROVIDER = "webhook";
/** So long of nothing but failures, and an endpoint is disabled. */
const FAILING_FOR_MS = 5 * DAY_MS;
/** Endpoints that a sweep disables; the next one sees to more. */
const AT_ONCE = 500;

/**
 * The plan. `cancel`: the endpoint is gone. `wait`: it is paused or disabled, or the event before is not delivered; the
 * fan-out comes back to it then.
 */
export async function planEndpoint(
  services: JobServices,
  { request, status }: KnownDelivery,
  source: EndpointSource,
  client: ExistingClient,
): Promise<AttemptPlan | "cancel" | "wait"> {
  const { webhook, now } = services;
  const endpoint = client.endpoints.find(({ id }) => id === source.endpoint);
  // What a worker had in hand that is gone ends as unknown first.
  if (endpoint === undefined) return status === "sending" ? failing(PROVIDER, "permanent", ERASED) : "cancel";
  // A test goes out whatever the endpoint's state.
  // fence: endpoint-paused
  if (endpoint.status !== "active" && source.type !== "webhook.test") return "wait";
  if (source.previous !== null) {
    const previous = await loadDelivery(services, source.previous);
    // fence: endpoint-order
    if (previous.status !== "none" && !hasEnded(previous.status)) return "wait";
  }
  const url = reveal(endpoint.url) ?? reveal(request.address);
  const body = await bodyOf(services, source);
  const secrets = endpointSecrets(endpoint, now()).flatMap((secret) => reveal(secret) ?? []);
  if (url === null || body === undefined || secrets.length === 0) return failing(PROVIDER, "permanent", ERASED);
  const headers = Object.fromEntries((reveal(endpoint.headers) ?? []).map(({ name, value }) => [name, value]));
  const timeoutMs = endpoint.timeoutSeconds * SECOND_MS;
  return {
    provider: PROVIDER,
    via: null,
    heldBytes: Buffer.byteLength(body),
    host: { name: `endpoint:${endpoint.id}`, limit: ATTEMPTS_PER_ENDPOINT },
    maxMs: timeoutMs,
    // The fan-out paces what it requests.
    ratePerSecond: null,
    domain: null,
    retryPolicy: policyOf(endpoint.retrySchedule, services.retryPolicy),
    send: (timestamp, signal) =>
      webhook.send({ url, id: source.event, timestamp, body, headers, secrets, signal, timeoutMs }),
  };
}

/** Disables an endpoint that has not been since. */
export async function disableEndpoint(
  { commands, now, newId }: Pick<JobServices, "commands" | "now" | "newId">,
  { client, endpoint, reason, cause }: Disabling,
): Promise<void> {
  const command = { type: "DisableEndpoint", at: now(), endpoint, reason } as const;
  try {
    await commands.execute(clientDecider, clientStream(client), command, contextOf(client, cause, newId()));
  } catch (error) {
    // It was deleted meanwhile.
    if (!(error instanceof DomainError && error.code === "not_found")) throw error;
  }
}
type Disabling = {
  readonly client: ClientId;
  readonly endpoint: EndpointId;
  readonly reason: (typeof DISABLED_REASONS)[number];
  readonly cause: Cause;
};

/** Disables the endpoints that have failed for too long, and those that answered 410 while nobody could say so. */
export async function disableEndpoints(services: JobServices, signal: AbortSignal): Promise<void> {
  const { readSide, newId } = services;
  for (const { id: endpoint, client, gone } of await endpointsToDisable(readSide.operator(), FAILING_FOR_MS, AT_ONCE)) {
    if (signal.aborted) return;
    const cause = { correlation: newId(), causation: newId() };
    await disableEndpoint(services, { client, endpoint, reason: gone ? "gone" : "failing", cause });
  }
}

/** The endpoint's own schedule, else the server's. */
function policyOf(schedule: readonly string[] | null, server: RetryPolicy): RetryPolicy {
  if (schedule === null) return server;
  return { ...server, scheduleMs: schedule.flatMap((one) => parseDuration(one) ?? []) };
}

/** The event as it is to be shown now. Undefined when it cannot be. */
async function bodyOf(
  services: JobServices,
  { stream, revision, event: id }: Pick<EndpointSource, "stream" | "revision"> & { readonly event: EventId },
): Promise<string | undefined> {
  const [stored] = await readDecoded(services, stream, { from: revision, limit: 1 });
  const event = stored === undefined ? undefined : await publicEvent(services, stored, id);
  if (event === undefined) return undefined;
  const { type, at: timestamp, position, room_id, seq, actor, data } = event;
  return JSON.stringify({ id, type, timestamp, position, room_id, seq, actor, data });
}
