// One attempt. Its start is in the log before anything is sent, its outcome in one append with what follows from it.
import { setTimeout as sleep } from "node:timers/promises";
import { emptyResult } from "../channels/attempt-result.ts";
import type { Channel } from "../contract/deliveries.ts";
import type { DeliveryId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { clientDecider, clientStream } from "../domain/client.ts";
import { type AttemptOutcome, deliveryDecider } from "../domain/delivery.ts";
import { type Delivery, deliveryStream, hasEnded, type KnownDelivery } from "../domain/delivery-state.ts";
import { notificationDecider, notificationStream } from "../domain/notification.ts";
import type { CommandContext } from "../event-store/envelope.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { isRefusal } from "../event-store/stream-writer.ts";
import { failpoint } from "../platform/failpoint.ts";
import { backoffMs, messageOf, pause } from "../platform/supervise.ts";
import { type AttemptPlan, planEmail, planWebhook } from "./attempt-plans.ts";
import { HOST_WAIT_MS } from "./fairness.ts";
import { causeOf, contextOf, type JobServices } from "./job-services.ts";
import { type Cause, DONE, retryLater, type TakenJob, type Verdict, type Work } from "./jobs.ts";

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
  readonly plan: AttemptPlan;
  readonly cause: Cause;
  readonly signal: AbortSignal;
  /** Releases the host, once, saying whether it answered. */
  readonly releaseHost: (answered: boolean) => void;
};

/** Attempts a delivery, if this attempt is the one that is due. */
export async function attemptDelivery(
  services: JobServices,
  job: TakenJob,
  work: AttemptWork,
  signal: AbortSignal,
): Promise<Verdict> {
  const { hostLimiter, rateLimiter, now } = services;
  const stream = deliveryStream(work.delivery);
  const { due: delivery, verdict } = await findDue(services, stream, work);
  if (delivery === undefined) return verdict;
  const cause = await causeOf(services, job, stream);
  const { plan, stopped } = await planOf(services, job, work, delivery);
  if (stopped) {
    const cancel = { type: "Cancel", at: now() } as const;
    await services.commands.execute(deliveryDecider, stream, cancel, contextOf(job.client, cause, services.newId()));
    return DONE;
  }
  const { channel } = delivery.request;
  const attempt = { job, work, stream, n: delivery.n, channel, plan, cause, signal };
  const { host, ratePerSecond } = plan;
  if (host === null) return run(services, { ...attempt, releaseHost: () => {} });
  const critical = delivery.request.priority === "critical";
  const request = { host: host.name, limit: host.limit, client: job.client, critical, waitMs: HOST_WAIT_MS, signal };
  const slot = await hostLimiter.acquire(request);
  if ("putOffUntil" in slot) return retryLater(slot.putOffUntil);
  try {
    const wait = ratePerSecond === null ? 0 : rateLimiter.take(host.name, ratePerSecond, now(), HOST_WAIT_MS);
    if (wait > HOST_WAIT_MS) return retryLater(now() + wait);
    if (wait > 0) await pause(wait, signal);
    if (signal.aborted) return retryLater(now());
    return await run(services, { ...attempt, releaseHost: slot.release });
  } finally {
    slot.release(true);
  }
}

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
  const { request, n, status, leaseUntil, nextAt } = delivery;
  if (request.channel === "websocket" || (work.n !== null && work.n !== n)) return { verdict: DONE };
  const dueAt = status === "sending" ? leaseUntil : nextAt;
  return dueAt > now ? { verdict: retryLater(dueAt) } : { due: delivery };
}

async function planOf(
  services: JobServices,
  job: TakenJob,
  { delivery: id }: AttemptWork,
  delivery: KnownDelivery,
): Promise<{ plan: AttemptPlan; stopped: boolean }> {
  const [{ state: notification }, { state: client }] = await Promise.all([
    services.commands.load(notificationDecider, notificationStream(delivery.request.notification)),
    services.commands.load(clientDecider, clientStream(job.client)),
  ]);
  if (notification.status === "none" || client.status !== "live") {
    throw new Error(`delivery ${id} has no notification or no live client`);
  }
  const planFor = delivery.request.channel === "email" ? planEmail : planWebhook;
  const plan = planFor(services, { id, delivery, notification, client });
  // The stop may not have reached the delivery yet.
  // fence: attempt-after-stop
  const stopped = notification.stopRequested && delivery.status !== "sending";
  return { plan, stopped: stopped && !(await wasRedriven(services, id)) };
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

/** Starts the attempt, sends, and records the outcome. */
async function run(services: JobServices, attempt: Attempt): Promise<Verdict> {
  const { job, work, stream, n, plan, cause, signal } = attempt;
  const { commands, retryPolicy: policy, now, random, newId } = services;
  const at = now();
  const { state, events } = await commands.execute(
    deliveryDecider,
    stream,
    {
      ...{ type: "StartAttempt", at, n, provider: plan.provider, domain: plan.domain, leaseMs: plan.maxMs + RECORD_MS },
      ...{ policy, random: random() },
    },
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
  const lease = new Lease(services, attempt, { ...context, commandId: newId() }, started.data.leaseUntil);
  const sentAt = performance.now();
  const sending = plan.send(at, signal, (ms) => lease.extendSoon(ms)).catch(unexpected(services, plan));
  const outcome = interrupted(await sending, signal);
  services.onAttempt?.(attempt.channel, outcome.outcome, performance.now() - sentAt);
  failpoint("send/outcome");
  // The host is free again: other attempts need not wait for our log.
  attempt.releaseHost(!NO_ANSWER.includes(outcome.error?.code ?? ""));
  if (outcome.outcome !== "succeeded") {
    const { code = null } = outcome.error ?? {};
    const about = { client: job.client, delivery: work.delivery, n, provider: outcome.provider, code };
    services.logger.debug({ ...about, outcome: outcome.outcome }, "attempt: refused");
  }
  await record(services, attempt, { outcome, context, until: await lease.end() });
  failpoint("outcome/job-done");
  return DONE;
}

/** An answer that comes within this costs no event more. */
const PROMPT_ANSWER_MS = 5 * SECOND_MS;

/** An attempt's lease, which grows when a server that has the whole mail takes its time to answer. */
class Lease {
  readonly #extend: (ms: number) => Promise<void>;
  #until: Instant;
  #timer: NodeJS.Timeout | undefined;
  #extending: Promise<void> | undefined;

  constructor({ commands, logger, now }: JobServices, { stream, n }: Attempt, context: CommandContext, until: Instant) {
    this.#until = until;
    this.#extend = async (ms) => {
      const command = { type: "ExtendLease", at: now(), n, leaseMs: ms + RECORD_MS } as const;
      try {
        const { state } = await commands.execute(deliveryDecider, stream, command, context);
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
  { commands, retryPolicy: policy, logger, now, random }: JobServices,
  { job, stream, n }: Attempt,
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
