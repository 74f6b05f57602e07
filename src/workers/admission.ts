// What an attempt needs before it may send: the probe of an open circuit, a slot at the host, a slot in the provider's rate.
import type { ClientId } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { pause } from "../platform/supervise.ts";
import type { AttemptPlan } from "./attempt-plans.ts";
import { HOST_WAIT_MS } from "./fairness.ts";
import type { JobServices } from "./job-services.ts";
import type { Probe } from "./provider-use.ts";

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
