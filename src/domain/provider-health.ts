// domain/provider-health.ts: whether a provider takes mail: its circuit, as the client's events open and close it.
import { z } from "zod";
import { type Instant, MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import { event } from "./event.ts";

/** For how long a circuit opens at first. It doubles with each probe that fails. */
const FIRST_OPEN_MS = 30 * SECOND_MS;
const MAX_OPEN_MS = 10 * MINUTE_MS;
/** So many failures of transport in a row open a circuit. */
export const FAILURES_TO_OPEN = 3;

/** Why a provider is down: it refused the account, or could not be reached. */
const ProviderFaultSchema = z.enum(["account", "transport"]);
export type ProviderFault = z.infer<typeof ProviderFaultSchema>;

// Events of the client's stream. A storage format.
export const healthEvents = {
  /** The provider gets no mail until then, when one attempt tries it again. `reason`: the code of the attempt's error. */
  ProviderDown: event({
    data: z.object({
      name: z.string(),
      fault: ProviderFaultSchema,
      reason: z.string(),
      message: z.string(),
      until: z.number(),
    }),
  }),
  ProviderUp: event({ data: z.object({ name: z.string(), reason: z.string() }) }),
} as const;
type DownData = z.infer<(typeof healthEvents)["ProviderDown"]["data"]>;

// State.
export type ProviderHealth = {
  readonly since: Instant;
  readonly lastError: { readonly code: string; readonly message: string } | null;
  /** Null: it is up. `openings`: how often it opened in a row. */
  readonly circuit: { readonly fault: ProviderFault; readonly until: Instant; readonly openings: number } | null;
};

/** A provider of whose settings nothing is known yet. */
export const healthySince = (since: Instant): ProviderHealth => ({ since, lastError: null, circuit: null });

export function downSince({ since, circuit }: ProviderHealth, data: DownData, at: Instant): ProviderHealth {
  const { fault, reason: code, message, until } = data;
  const openings = (circuit?.openings ?? 0) + 1;
  return { since: circuit === null ? at : since, lastError: { code, message }, circuit: { fault, until, openings } };
}

export const upSince = (health: ProviderHealth, at: Instant): ProviderHealth => ({
  ...health,
  ...(health.circuit === null ? {} : { since: at, circuit: null }),
});

/** Until when a circuit opens now; null: it is open already. */
export function opensUntil({ circuit }: ProviderHealth, at: Instant): Instant | null {
  if (circuit !== null && /* fence: circuit-open */ circuit.until > at) return null;
  return at + Math.min(FIRST_OPEN_MS * 2 ** (circuit?.openings ?? 0), MAX_OPEN_MS);
}
