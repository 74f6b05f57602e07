// What a mail's outcome says of its provider: whether it is down or up again, and whether the next one is tried.
import type { ClientId } from "../contract/ids.ts";
import { clientDecider, clientStream } from "../domain/client.ts";
import type { AttemptOutcome } from "../domain/delivery.ts";
import { FAILURES_TO_OPEN, type ProviderFault } from "../domain/provider.ts";
import type { CommandContext } from "../event-store/envelope.ts";
import { messageOf } from "../platform/supervise.ts";
import type { AdmittedPlan } from "./admission.ts";
import type { JobServices } from "./job-services.ts";

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
