// A provider before and after an attempt: what it needs before it may send, and what its outcome says of the provider.

import type { ClientId } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { clientDecider, clientStream } from "../domain/client.ts";
import type { AttemptOutcome } from "../domain/delivery.ts";
import { FAILURES_TO_OPEN, type ProviderFault } from "../domain/provider.ts";
import type { CommandContext } from "../event-store/envelope.ts";
import { messageOf, pause } from "../platform/supervise.ts";
import type { AttemptPlan } from "./attempt-plans.ts";
import { HOST_WAIT_MS } from "./fairness.ts";
import type { JobServices } from "./job-services.ts";
import type { Probe } from "./provider-use.ts";

// What an attempt needs before it may send: the probe of an open circuit, a slot at the host, a slot in the provider's rate.

/** A plan that may be sent now. `release` it once, saying whether the host answered; a second time does nothing. */
export type AdmittedPlan = {
  readonly plan: AttemptPlan;
  readonly probe: Probe | null;
  readonly release: (answered: boolean) => void;
};
/** `taken`: another attempt is the probe of its circuit. */
type Admission =
  | { readonly admitted: AdmittedPlan; readonly refused?: never }
  | { readonly admitted?: never; readonly refused: "taken" }
  | { readonly admitted?: never; readonly refused: "busy"; readonly until: Instant };

export type Applicant = { readonly client: ClientId; readonly critical: boolean; readonly signal: AbortSignal };

/** Waits at most a second for each of what it needs. */
export async function admit(services: JobServices, who: Applicant, plan: AttemptPlan): Promise<Admission> {
  const { providerUse, now } = services;
  const { host, via, provider, maxMs, heldBytes } = plan;
  const { client } = who;
  if (host === null) return { admitted: { plan, probe: null, release: () => {} } };
  const memory = services.memoryBudget.take(client, heldBytes);
  if (memory === undefined) return { refused: "busy", until: services.memoryBudget.putOff(client, heldBytes, now()) };
  const lease = maxMs + 2 * HOST_WAIT_MS;
  let probe: Probe | null = null;
  let admitted = false;
  try {
    probe = via?.probe === true ? await providerUse.takeProbe(client, provider, lease) : null;
    if (via?.probe === true && probe === null) return { refused: "taken" };
    const request = { host: host.name, limit: host.limit, client, critical: who.critical, signal: who.signal };
    const slot = await services.hostLimiter.acquire({ ...request, waitMs: HOST_WAIT_MS });
    if ("putOffUntil" in slot) return { refused: "busy", until: slot.putOffUntil };
    try {
      const wait = await slotIn(services, client, plan);
      if (wait > HOST_WAIT_MS) return { refused: "busy", until: now() + Math.ceil(wait) };
      if (wait > 0) await pause(wait, who.signal);
      if (who.signal.aborted) return { refused: "busy", until: now() };
      admitted = true;
      const release = (answered: boolean) => {
        slot.release(answered);
        memory[Symbol.dispose]();
      };
      return { admitted: { plan, probe, release } };
    } finally {
      if (!admitted) slot.release(true);
    }
  } finally {
    if (!admitted) memory[Symbol.dispose]();
    if (!admitted && probe !== null) await providerUse.endProbe(client, provider, probe, false);
  }
}

/** How long to wait for a slot in the provider's rate. */
async function slotIn({ providerUse }: JobServices, client: ClientId, { ratePerSecond, provider }: AttemptPlan) {
  if (ratePerSecond === null) return 0;
  return providerUse.takeSlot(client, provider, ratePerSecond, HOST_WAIT_MS);
}

/** Of a plan that is not sent after all: what it held is free for others. A second time does nothing. */
export async function giveBack(
  { providerUse }: JobServices,
  client: ClientId,
  { plan, probe, release }: AdmittedPlan,
): Promise<void> {
  release(true);
  if (probe !== null) await providerUse.endProbe(client, plan.provider, probe, false);
}

/** The errors of a provider that could not be reached, or ended the connection without an answer. */
const TRANSPORT: ReadonlySet<string> = new Set([
  ...["dns_failure", "connection_refused", "connection_closed", "unreachable"],
  ...["tls_failure", "timeout", "protocol_error", "network_failure"],
]);

/** Whose fault it is that the provider took no mail; null: it works. Undefined: nothing was found out. */
function faultOf({ outcome, refusal, error, response }: AttemptOutcome): ProviderFault | null | undefined {
  if (refusal === "account") return "account";
  if (outcome === "succeeded" || response !== null) return null;
  return TRANSPORT.has(error?.code ?? "") ? "transport" : undefined;
}

/**
 * Whether the same attempt goes on with the next provider: the account or the sender was refused, or the provider could
 * not be reached. Never once somebody may have the mail.
 */
export function failsOver(outcome: AttemptOutcome): boolean {
  const { refusal, recipients } = outcome;
  // fence: failover-unknown
  if (outcome.outcome === "unknown" || outcome.outcome === "succeeded") return false;
  if (recipients.some((one) => one.outcome === "taken")) return false;
  return refusal === "account" || refusal === "sender" || (refusal === null && faultOf(outcome) === "transport");
}

/** The last outcome of several, when no provider is left: it is not for good if one of them may take the mail later. */
export function outcomeOfAll(outcomes: readonly AttemptOutcome[], last: AttemptOutcome): AttemptOutcome {
  const mayTakeLater = outcomes.some(({ refusal }) => refusal !== "sender");
  return last.refusal === "sender" && mayTakeLater ? { ...last, outcome: "transient" } : last;
}

/**
 * Records in the client's stream what an outcome says of its provider: down, where it refuses the account or could not be
 * reached three times in a row; up, where the probe of its circuit found that it works. Never rejects.
 */
export async function noteHealth(
  services: JobServices,
  client: ClientId,
  { plan, probe }: AdmittedPlan,
  outcome: AttemptOutcome,
  context: CommandContext,
): Promise<void> {
  const { providerUse, commands, logger, now } = services;
  const { via, provider: name } = plan;
  if (via === null) return;
  const { changedSeq } = via;
  const fault = faultOf(outcome);
  try {
    if (fault === null) providerUse.noteSuccess(client, name);
    if (fault === "transport" && probe === null) {
      if ((await providerUse.countFailure(client, name)) < FAILURES_TO_OPEN) return;
    }
    const about = { name, changedSeq, at: now() };
    const error = outcome.error ?? { code: "failed", message: "the attempt failed" };
    if (fault === "account" || fault === "transport") {
      const down = { type: "MarkProviderDown", ...about, fault, error } as const;
      await commands.execute(clientDecider, clientStream(client), down, context);
    } else if (fault === null && probe !== null) {
      await commands.execute(clientDecider, clientStream(client), { type: "MarkProviderUp", ...about }, context);
    }
    if (probe !== null) await providerUse.endProbe(client, name, probe, fault === null);
  } catch (error) {
    logger.warn({ client, provider: name, reason: messageOf(error) }, "provider: health not recorded; the next tells");
  }
}
