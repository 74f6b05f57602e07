// One attempt. Its start is in the log before anything is sent, its outcome in one append with what follows from it.
import { setTimeout as sleep } from "node:timers/promises";
import { emptyResult } from "../channels/attempt-result.ts";
import { onBehalfOf } from "../channels/resolver.ts";
import type { Channel } from "../contract/deliveries.ts";
import type { DeliveryId, EndpointId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { clientDecider, clientStream } from "../domain/client.ts";
import { type AttemptOutcome, type DeliveryCommand, deliveryDecider, type Gate } from "../domain/delivery.ts";
import { type Delivery, deliveryStream, hasEnded, type KnownDelivery } from "../domain/delivery-state.ts";
import type { RetryPolicy } from "../domain/retry-policy.ts";
import type { CommandContext } from "../event-store/envelope.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { isRefusal } from "../event-store/stream-writer.ts";
import { failpoint } from "../platform/failpoint.ts";
import { backoffMs, messageOf, pause } from "../platform/supervise.ts";
import { type AttemptPlan, planEmail, planWebhook } from "./attempt-plans.ts";
import { disableEndpoint, planEndpoint } from "./endpoint-attempts.ts";
import { type AdmittedPlan, type Applicant, admit, failsOver, giveBack, noteHealth, outcomeOfAll } from "./failover.ts";
import { gateOfAttempt } from "./gates.ts";
import { causeOf, contextOf, type JobServices, loadNotification } from "./job-services.ts";
import { type Cause, DONE, retryLater, type TakenJob, type Verdict, type Work } from "./jobs.ts";
import { suppressedIn } from "./suppressed-mails.ts";

/**
 * The time that an outcome has to be recorded, beyond the sending: a database that restarts takes seconds. It is part of
 * the lease, and so of how long a delivery waits whose worker crashed.
 */
const RECORD_MS = 15 * SECOND_MS;

type AttemptWork = Extract<Work, { kind: "attempt" }>;

/** An attempt of a job. */
type Attempt = {
  readonly job: TakenJob;
  readonly work: AttemptWork;
  readonly stream: string;
  readonly n: number;
  readonly channel: Channel;
  /** The webhook endpoint that it is for. */
  readonly endpoint: EndpointId | undefined;
  readonly policy: RetryPolicy;
  readonly critical: boolean;
  readonly cause: Cause;
  readonly signal: AbortSignal;
};

/** Attempts a delivery, if this attempt is the one that is due. */
export async function attemptDelivery(
  services: JobServices,
  job: TakenJob,
  work: AttemptWork,
  signal: AbortSignal,
): Promise<Verdict> {
  const { now } = services;
  const stream = deliveryStream(work.delivery);
  const { due: delivery, verdict } = await findDue(services, stream, work);
  if (delivery === undefined) return verdict;
  const cause = await causeOf(services, job, stream);
  const plans = await plansOf(services, job, work, delivery);
  if (plans === "wait") return DONE;
  if (plans === "cancel" || "suppress" in plans || "holdUntil" in plans) {
    const at = now();
    const end: DeliveryCommand = plans === "cancel" ? { type: "Cancel", at } : { type: "Withhold", at, gate: plans };
    await services.commands.execute(deliveryDecider, stream, end, contextOf(job.client, cause, services.newId()));
    // What a hold leads to has a job of its own.
    return DONE;
  }
  const { channel, priority, endpoint } = delivery.request;
  const policy = plans[0]?.retryPolicy ?? services.retryPolicy;
  const about = { job, work, stream, n: delivery.n, channel, endpoint, critical: priority === "critical" };
  const attempt = { ...about, policy, cause, signal };
  const remaining = plans.values();
  for (const plan of remaining) {
    const { admitted, ...refusal } = await admit(services, applicantOf(attempt), plan);
    if (refusal.refused === "busy") return retryLater(refusal.until);
    if (admitted === undefined) continue;
    try {
      return await run(services, attempt, admitted, remaining);
    } finally {
      await giveBack(services, job.client, admitted);
    }
  }
  throw new Error(`no plan of ${work.delivery} may be tried`);
}

const applicantOf = ({ job, critical, signal }: Attempt): Applicant => ({ client: job.client, critical, signal });

/** The delivery when this attempt of it is due, otherwise the verdict on the job. */
type Due =
  | { readonly due: KnownDelivery; readonly verdict?: never }
  | { readonly due?: never; readonly verdict: Verdict };

async function findDue({ commands, now }: JobServices, stream: string, work: AttemptWork): Promise<Due> {
  const known = commands.known(deliveryDecider, stream);
  const cached = known === undefined ? undefined : dueIn(known, work, now());
  // Only the log may say that nothing is due. If the cached state is stale, the start of the attempt finds out.
  if (/* fence: attempt-known-due */ cached?.due !== undefined) return cached;
  const { state } = await commands.load(deliveryDecider, stream);
  return dueIn(state, work, now());
}

function dueIn(delivery: Delivery, work: AttemptWork, now: Instant): Due {
  if (delivery.status === "none" || hasEnded(delivery.status)) return { verdict: DONE };
  const { request, n, status, leaseUntil, nextAt, expiresAt } = delivery;
  if (request.channel === "websocket" || (work.n !== null && work.n !== n)) return { verdict: DONE };
  // One that is held for longer than it holds ends at its expiry.
  const dueAt = status === "sending" ? leaseUntil : Math.min(nextAt, expiresAt);
  return dueAt > now ? { verdict: retryLater(dueAt) } : { due: delivery };
}

/**
 * The ways in which it may be made, first choice first. The last one may be tried whatever the others are. `wait`: it is
 * enqueued again when what it waits for has come.
 */
async function plansOf(
  services: JobServices,
  job: TakenJob,
  { delivery: id }: AttemptWork,
  delivery: KnownDelivery,
): Promise<readonly AttemptPlan[] | "cancel" | "wait" | NonNullable<Gate>> {
  const { source } = delivery.request;
  const loading = services.commands.load(clientDecider, clientStream(job.client));
  if ("endpoint" in source) {
    const { state: client } = await loading;
    if (client.status !== "live") throw new Error(`delivery ${id} has no live client`);
    const plan = await planEndpoint(services, delivery, source, client);
    return typeof plan === "string" ? plan : [plan];
  }
  const [notification, { state: client }] = await Promise.all([
    loadNotification(services, source.notification),
    loading,
  ]);
  if (notification.status === "none" || client.status !== "live") {
    throw new Error(`delivery ${id} has no notification or no live client`);
  }
  const { reason, copies } = await suppressedIn(services, job.client, delivery, notification);
  const remaining = { ...delivery, refused: [...delivery.refused, ...copies] };
  const attempted = { id, delivery: remaining, notification, client };
  const plans =
    delivery.request.channel === "email" ? planEmail(services, attempted) : [planWebhook(services, attempted)];
  // An attempt that is open ends by its outcome first.
  // fence: suppressed-mail
  const suppressed = delivery.status === "sending" ? null : reason;
  // The stop may not have reached the delivery yet.
  // fence: attempt-after-stop
  const stopped = notification.stopRequested && delivery.status !== "sending";
  if (stopped && !(await wasRedriven(services, id))) return "cancel";
  if (suppressed !== null) return { suppress: suppressed };
  if (delivery.status === "sending") return plans;
  return (await gateOfAttempt(services, job, id, { delivery, notification })) ?? plans;
}

/** More events than a delivery has between two redrives. */
const NEWEST_EVENTS = 100;

/**
 * Whether a delivery was redriven: a stop of its notification from before no longer concerns it. Reads types alone, opens
 * nothing.
 */
export async function wasRedriven({ store }: { readonly store: EventStore }, id: DeliveryId): Promise<boolean> {
  const events = await store.readStream(deliveryStream(id), { direction: "backward", limit: NEWEST_EVENTS });
  return events.some((event) => event.type === "DeliveryRedriven");
}

/** Starts the attempt, sends, through one provider after the other where they refuse, and records the outcome. */
async function run(
  services: JobServices,
  attempt: Attempt,
  first: AdmittedPlan,
  others: Iterable<AttemptPlan>,
): Promise<Verdict> {
  const { job, work, stream, n, policy, cause } = attempt;
  const { commands, now, random, newId } = services;
  const { provider, domain, maxMs } = first.plan;
  const at = now();
  const { state, events } = await commands.execute(
    deliveryDecider,
    stream,
    { type: "StartAttempt", at, n, provider, domain, leaseMs: maxMs + RECORD_MS, policy, random: random() },
    contextOf(job.client, cause, newId()),
  );
  const started = events.find((event) => event.type === "DeliveryAttemptStarted");
  if (started === undefined) {
    // It expired, or failed as unknown. What follows from that event has a job of its own.
    if (events.length > 0) return DONE;
    // Another worker has started it, or the clock was set back. The state is the log's now, and says what is due.
    // fence: attempt-clock-back
    return dueIn(state, work, at).verdict ?? /* fence: attempt-again */ retryLater(at);
  }
  failpoint("attempt-started/send");
  const context = contextOf(job.client, { correlation: cause.correlation, causation: started.id }, newId());
  const lease = new Lease(services, attempt, context, started.data.leaseUntil);
  const outcomes = [await send(services, attempt, first, { at, lease, context })];
  for (let [outcome] = outcomes; outcome !== undefined && failsOver(outcome); outcome = outcomes.at(-1)) {
    const next = await failOver(services, attempt, others, { outcome, lease, context });
    if (next === undefined) break;
    outcomes.push(await send(services, attempt, next, { at: now(), lease, context }));
  }
  const [last] = outcomes.slice(-1);
  if (last === undefined) throw new Error("an attempt has an outcome");
  await record(services, attempt, { outcome: outcomeOfAll(outcomes, last), context, until: await lease.end() });
  failpoint("outcome/job-done");
  if (last.error?.code === "gone") await disableGone(services, attempt);
  return DONE;
}

/** An endpoint that answered 410 gets nothing more. Should this not come to pass, the sweep sees to it. */
async function disableGone(services: JobServices, { job, endpoint, cause }: Attempt): Promise<void> {
  if (endpoint !== undefined) await disableEndpoint(services, { client: job.client, endpoint, reason: "gone", cause });
}

type Open = { readonly lease: Lease; readonly context: CommandContext };

async function send(
  services: JobServices,
  { job, work, n, channel, endpoint, signal }: Attempt,
  admitted: AdmittedPlan,
  { at, lease, context }: Open & { readonly at: Instant },
): Promise<AttemptOutcome> {
  const { plan } = admitted;
  const sentAt = performance.now();
  try {
    const sending = onBehalfOf(job.client, () => plan.send(at, signal, (ms) => lease.extendSoon(ms))).catch(
      unexpected(services, plan),
    );
    const outcome = interrupted(await sending, signal);
    const source = endpoint === undefined ? "notification" : "endpoint";
    services.onAttempt?.({ channel, source, outcome: outcome.outcome, ms: performance.now() - sentAt });
    failpoint("send/outcome");
    // The host is free again: other attempts need not wait for our log.
    admitted.release(!NO_ANSWER.includes(outcome.error?.code ?? ""));
    if (outcome.outcome !== "succeeded") {
      const { code = null } = outcome.error ?? {};
      const about = { client: job.client, delivery: work.delivery, n, provider: outcome.provider, code };
      services.logger.debug({ ...about, outcome: outcome.outcome }, "attempt: refused");
    }
    await noteHealth(services, job.client, admitted, outcome, { ...context, commandId: services.newId() });
    return outcome;
  } finally {
    admitted.release(true);
  }
}

/** How long an open attempt waits for a slot at the next provider. */
const FAILOVER_WAIT_MS = 10 * SECOND_MS;

/**
 * The next provider, once it is in the log that the attempt goes on with it. Undefined: there is none, or the attempt is
 * no longer ours.
 */
async function failOver(
  services: JobServices,
  attempt: Attempt,
  others: Iterable<AttemptPlan>,
  { outcome, lease, context }: Open & { readonly outcome: AttemptOutcome },
): Promise<AdmittedPlan | undefined> {
  const { commands, now, newId, logger } = services;
  const { n, stream, signal } = attempt;
  let next: AdmittedPlan | undefined;
  try {
    for (const plan of others) {
      // What ends the list fails without a provider.
      if (plan.host === null) return undefined;
      next = await admitSoon(services, attempt, plan);
      if (next !== undefined) break;
    }
    if (next === undefined || signal.aborted) return undefined;
    const { provider, maxMs } = next.plan;
    const code = outcome.error?.code ?? "failed";
    const command = { type: "FailOver", at: now(), n, provider, code, leaseMs: maxMs + RECORD_MS } as const;
    const own = { ...context, commandId: newId() };
    const { events } = await commands.execute(deliveryDecider, stream, command, own);
    const moved = events.find((event) => event.type === "ProviderFailedOver");
    if (moved === undefined) return undefined;
    lease.moveTo(moved.data.leaseUntil);
    const admitted = next;
    next = undefined;
    return admitted;
  } catch (error) {
    logger.warn({ stream, reason: messageOf(error) }, "attempt: not gone on with the next provider; it is repeated");
    return undefined;
  } finally {
    if (next !== undefined) await giveBack(services, attempt.job.client, next);
  }
}

async function admitSoon(services: JobServices, attempt: Attempt, plan: AttemptPlan) {
  const { now } = services;
  const until = now() + FAILOVER_WAIT_MS;
  for (;;) {
    const admission = await admit(services, applicantOf(attempt), plan);
    if (admission.refused !== "busy") return admission.admitted;
    if (now() >= until || attempt.signal.aborted) return undefined;
    await pause(Math.min(admission.until, until) - now(), attempt.signal);
  }
}

/** An answer that comes within this costs no event more. */
const PROMPT_ANSWER_MS = 5 * SECOND_MS;

/** An attempt's lease, which grows when a server that has the whole mail takes its time to answer. */
class Lease {
  readonly #extend: (ms: number) => Promise<void>;
  #until: Instant;
  #timer: NodeJS.Timeout | undefined;
  #extending: Promise<void> | undefined;

  constructor(services: JobServices, { stream, n }: Attempt, context: CommandContext, until: Instant) {
    const { commands, logger, now, newId } = services;
    this.#until = until;
    this.#extend = async (ms) => {
      const command = { type: "ExtendLease", at: now(), n, leaseMs: ms + RECORD_MS } as const;
      try {
        const own = { ...context, commandId: newId() };
        const { state } = await commands.execute(deliveryDecider, stream, command, own);
        if (state.status === "sending") this.#until = state.leaseUntil;
      } catch (error) {
        logger.warn({ stream, reason: messageOf(error) }, "attempt: lease not extended; it may be repeated");
      }
    };
  }

  extendSoon(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#extending = this.#extend(ms);
    }, PROMPT_ANSWER_MS);
  }

  /** The attempt goes on with another provider. */
  moveTo(until: Instant): void {
    clearTimeout(this.#timer);
    this.#until = until;
  }

  /** Returns when it ends. */
  async end(): Promise<Instant> {
    clearTimeout(this.#timer);
    await this.#extending;
    return this.#until;
  }
}

/** The errors of a host, or its name server, that keeps an attempt waiting. */
const NO_ANSWER: readonly string[] = ["timeout", "dns_failure"];

/** When our own side gave up, the target may or may not have accepted it. */
function interrupted(outcome: AttemptOutcome, signal: AbortSignal): AttemptOutcome {
  if (!signal.aborted || outcome.error?.code !== "cancelled") return outcome;
  const error = { code: "interrupted", message: "The server stopped while the attempt was under way" };
  return { ...outcome, outcome: "unknown", error };
}

/** A channel that throws is a fault of ours. Whether anything was sent before is unknown. */
const unexpected =
  ({ logger }: JobServices, { provider }: AttemptPlan) =>
  (error: unknown): AttemptOutcome => {
    logger.error({ err: error, provider }, "attempt: channel threw an unexpected error; recorded as unknown");
    return { ...emptyResult(provider), outcome: "unknown", error: INTERNAL };
  };
const INTERNAL = { code: "internal", message: "The attempt ended in an unexpected error" };

/** Retries until the lease ends. An outcome that is not recorded by then counts as unknown, and the delivery is repeated. */
async function record(
  { commands, logger, now, random }: JobServices,
  { job, stream, n, policy }: Attempt,
  { outcome, context, until }: { outcome: AttemptOutcome; context: CommandContext; until: Instant },
): Promise<void> {
  for (let failures = 1; ; failures += 1) {
    const command = { type: "RecordOutcome", at: now(), n, outcome, policy, random: random() } as const;
    try {
      await commands.execute(deliveryDecider, stream, command, context);
      return;
    } catch (error) {
      if (isRefusal(error) || now() > until) throw error;
      const wait = backoffMs(failures);
      const about = { job: job.id, failures, reason: messageOf(error) };
      logger.warn(about, `attempt: outcome not recorded; retrying in ${Math.round(wait)} ms`);
      await sleep(wait);
    }
  }
}
