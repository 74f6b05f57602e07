// How a delivery is to be attempted: through what, where it needs a place, and the sending itself.
import type { AttemptResult } from "../channels/attempt-result.ts";
import type { Instant } from "../contract/time.ts";
import type { AttemptOutcome } from "../domain/delivery.ts";

export type AttemptPlan = {
  /** The provider's name for email, `webhook` for webhooks. */
  readonly provider: string;
  /** The host that it reaches, and how many attempts may at once; null: it reaches none. */
  readonly place: { readonly host: string; readonly limit: number } | null;
  /** The longest that the sending takes; who opened the attempt is believed to be at it for this, and a margin. */
  readonly longestMs: number;
  /** How many a second the provider takes; null: no bound. */
  readonly pace: number | null;
  /** `at` is the attempt's time. */
  readonly send: (at: Instant, signal: AbortSignal) => Promise<AttemptResult | AttemptOutcome>;
};

/** What can no longer be sent, since whom or what it was about has been forgotten. */
export const ERASED = { code: "erased", message: "What this delivery needs has been erased" };

/** A plan whose attempt fails without reaching anything. */
export function impossible({
  provider,
  outcome,
  error,
}: Pick<AttemptOutcome, "provider" | "outcome" | "error">): AttemptPlan {
  const result = { outcome, provider, error, response: null, retryAfterMs: null, providerMessageId: null };
  return { provider, place: null, longestMs: 0, pace: null, send: async () => result };
}
