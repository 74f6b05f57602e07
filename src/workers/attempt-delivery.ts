// One attempt: its start is in the log before anything leaves, its outcome in one append with what follows from it.

import { type Instant, SECOND_MS } from "../contract/time.ts";
import { type Client, clientDecider, clientStream } from "../domain/client.ts";
import {
  type AttemptOutcome,
  type Delivery,
  deliveryDecider,
  deliveryStream,
  hasEnded,
  type KnownDelivery,
} from "../domain/delivery.ts";
import { notificationDecider, notificationStream } from "../domain/notification.ts";
import { isRefusal } from "../event-store/stream-writer.ts";
import { failpoint } from "../platform/failpoint.ts";
import { backoffMs, messageOf, pause } from "../platform/supervise.ts";
import type { AttemptPlan } from "./attempt-plan.ts";
import { planEmail } from "./email-attempt.ts";
import type { TakenJob } from "./job-store.ts";
import type { Cause, Work } from "./jobs.ts";
import { type AttemptParts, causeOf, contextOf } from "./parts.ts";
import { PLACE_WAIT_MS } from "./places.ts";
import { wasRedriven } from "./redriven.ts";
import { planWebhook } from "./webhook-attempt.ts";
import { again, DONE, type Verdict } from "./worker.ts";

/** An attempt that found no place at its host comes again after this, and up to as much again. */
const NO_PLACE_WAIT_MS = SECOND_MS;

/**
 * What an attempt's outcome has, beyond the sending, to come into the log: a database that is started again takes
 * seconds. A lease is no longer than that: so long does a delivery wait whose worker died at it.
 */
const RECORD_MS = 15 * SECOND_MS;

type AttemptWork = Extract<Work, { kind: "attempt" }>;

/** Attempts a delivery, if this attempt is the one that is due. */
export async function attemptDelivery(
  parts: AttemptParts,
  job: TakenJob,
  work: AttemptWork,
  signal: AbortSignal,
): Promise<Verdict> {
  const stream = deliveryStream(work.delivery);
  const { due: delivery, verdict } = await look(parts, stream, work);
  if (delivery === undefined) return verdict;
  const cause = await causeOf(parts, job, stream);
  const { plan, stopped } = await planOf(parts, job, work, delivery);
  if (stopped) {
    const cancel = { type: "Cancel", at: parts.now() } as const;
    await parts.commands.execute(deliveryDecider, stream, cancel, contextOf(job.client, cause, parts.newId()));
    return DONE;
  }
  const opening = { job, work, stream, n: delivery.n, plan, cause, signal };
  if (plan.place === null) return open(parts, { ...opening, leave: () => {} });
  const leave = await parts.places.enter({ ...plan.place, client: job.client, waitMs: PLACE_WAIT_MS, signal });
  if (leave === undefined) return again(parts.now() + Math.round(NO_PLACE_WAIT_MS * (1 + parts.random())));
  try {
    const wait = plan.pace === null ? 0 : parts.pace.take(plan.place.host, plan.pace, parts.now(), PLACE_WAIT_MS);
    if (wait > PLACE_WAIT_MS) return again(parts.now() + wait);
    if (wait > 0) await pause(wait, signal);
    if (signal.aborted) return again(parts.now());
    return await open(parts, { ...opening, leave });
  } finally {
    leave();
  }
}

/** The delivery when this attempt of it is due; otherwise what becomes of the job. */
type Look =
  | { readonly due: KnownDelivery; readonly verdict?: never }
  | { readonly due?: never; readonly verdict: Verdict };

async function look(parts: AttemptParts, stream: string, work: AttemptWork): Promise<Look> {
  const known = parts.commands.known(deliveryDecider, stream);
  const before = known === undefined ? undefined : lookAt(known, work, parts.now());
  // Only the log may say that nothing is to be done; that something is, the start of the attempt finds out.
  if (/* fence: attempt-known-due */ before?.due !== undefined) return before;
  const { state } = await parts.commands.load(deliveryDecider, stream);
  return lookAt(state, work, parts.now());
}

function lookAt(delivery: Delivery, work: AttemptWork, now: Instant): Look {
  if (delivery.status === "none" || hasEnded(delivery.status)) return { verdict: DONE };
  const { request, n, status, leaseUntil, nextAt } = delivery;
  if (request.channel === "websocket" || (work.n !== null && work.n !== n)) return { verdict: DONE };
  const dueAt = status === "sending" ? leaseUntil : nextAt;
  return dueAt > now ? { verdict: again(dueAt) } : { due: delivery };
}

async function planOf(
  parts: AttemptParts,
  job: TakenJob,
  work: AttemptWork,
  delivery: KnownDelivery,
): Promise<{ plan: AttemptPlan; stopped: boolean }> {
  const [notification, client] = await Promise.all([
    parts.commands.load(notificationDecider, notificationStream(delivery.request.notification)),
    parts.commands.load(clientDecider, clientStream(job.client)),
  ]);
  if (notification.state.status === "none" || !isLive(client.state)) {
    throw new Error(`delivery ${work.delivery} is of no notification or client`);
  }
  const planFor = delivery.request.channel === "email" ? planEmail : planWebhook;
  const plan = planFor(parts, work.delivery, delivery, notification.state, client.state);
  // The stop may still be on its way to the delivery.
  // fence: attempt-after-stop
  const stopped = notification.state.stopRequested && delivery.status !== "sending";
  return { plan, stopped: stopped && !(await wasRedriven(parts, work.delivery)) };
}

const isLive = (client: Client) => client.status === "live";

type Opening = {
  readonly job: TakenJob;
  readonly work: AttemptWork;
  readonly stream: string;
  readonly n: number;
  readonly plan: AttemptPlan;
  readonly cause: Cause;
  readonly signal: AbortSignal;
  /** Gives up the place at the host, once. */
  readonly leave: () => void;
};

/** Opens the attempt, makes it, and records what it came to. */
async function open(parts: AttemptParts, opening: Opening): Promise<Verdict> {
  const { job, work, stream, n, plan, cause, signal } = opening;
  const at = parts.now();
  const start = { type: "StartAttempt", at, n, provider: plan.provider, leaseMs: plan.longestMs + RECORD_MS } as const;
  const retrying = { policy: parts.retryPolicy, random: parts.random() };
  const context = contextOf(job.client, cause, parts.newId());
  const { state, events } = await parts.commands.execute(deliveryDecider, stream, { ...start, ...retrying }, context);
  const started = events.find((event) => event.type === "DeliveryAttemptStarted");
  if (started === undefined) {
    // Expired, or given up as unknown: what follows from that has a job of its own.
    if (events.length > 0) return DONE;
    // Others were at it, or the clock was set back. The state is the log's now: it says whether anything is due.
    // fence: attempt-clock-back
    return lookAt(state, work, at).verdict ?? /* fence: attempt-again */ again(at);
  }
  failpoint("attempt-started/send");
  const outcome = interrupted(await plan.send(at, signal).catch(unexpected(parts, plan)), signal);
  failpoint("send/outcome");
  // The host is done with: nobody need wait for our log.
  opening.leave();
  const outcomeCause = { correlation: cause.correlation, causation: started.id };
  await record(parts, job, stream, n, outcome, outcomeCause, started.data.leaseUntil);
  failpoint("outcome/job-done");
  return DONE;
}

/** When our own side gave up, the target may or may not have taken it. */
function interrupted(outcome: AttemptOutcome, signal: AbortSignal): AttemptOutcome {
  if (!signal.aborted || outcome.error?.code !== "cancelled") return outcome;
  const error = { code: "interrupted", message: "The server stopped while the attempt was under way" };
  return { ...outcome, outcome: "unknown", error };
}

/** A channel that throws is a fault of ours: what left before it did, nobody knows. */
const unexpected =
  ({ logger }: AttemptParts, { provider }: AttemptPlan) =>
  (error: unknown): AttemptOutcome => {
    logger.error({ err: error, provider }, "an attempt ended in an unexpected error");
    const fault = { code: "internal", message: "The attempt ended in an unexpected error" };
    return { outcome: "unknown", provider, response: null, error: fault, retryAfterMs: null, providerMessageId: null };
  };

/** Tries until the lease ends: an outcome that is not recorded by then counts as unknown, and the delivery is repeated. */
async function record(
  parts: AttemptParts,
  job: TakenJob,
  stream: string,
  n: number,
  outcome: AttemptOutcome,
  cause: Cause,
  until: number,
): Promise<void> {
  const context = contextOf(job.client, cause, parts.newId());
  for (let failures = 1; ; failures += 1) {
    const command = { type: "RecordOutcome", at: parts.now(), n, outcome } as const;
    const retrying = { policy: parts.retryPolicy, random: parts.random() };
    try {
      await parts.commands.execute(deliveryDecider, stream, { ...command, ...retrying }, context);
      return;
    } catch (error) {
      if (isRefusal(error) || parts.now() > until) throw error;
      parts.logger.warn({ job: job.id, failures, reason: messageOf(error) }, "an outcome could not be recorded yet");
      await pause(backoffMs(failures), new AbortController().signal);
    }
  }
}
