// What the jobs' handlers work with, and how what they do is signed.
import type { Logger } from "pino";
import type { SmtpChannel } from "../channels/email/smtp.ts";
import type { WebhookChannel } from "../channels/webhook.ts";
import type { ClientId } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import type { RetryPolicy } from "../domain/retry-policy.ts";
import { type CommandContext, decodeMetadata } from "../event-store/envelope.ts";
import type { EventStore } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import type { Keyring } from "../event-store/sealing.ts";
import type { ReadSide } from "../projections/read-side.ts";
import type { Cause } from "./jobs.ts";
import type { Pace, Places } from "./places.ts";

export type HandlerParts = {
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly commands: Commands;
  readonly readSide: Pick<ReadSide, "readAs">;
  readonly webhook: WebhookChannel;
  readonly smtp: SmtpChannel;
  /** Where mails go of clients without a provider; null: they fail. */
  readonly mailbox: { readonly host: string; readonly port: number } | null;
  readonly retryPolicy: RetryPolicy;
  readonly logger: Logger;
  readonly now: () => Instant;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** A random UUID. */
  readonly newId: () => string;
};

/** What attempts share in this process, beside the parts. */
export type AttemptParts = HandlerParts & {
  readonly places: Places;
  readonly pace: Pace;
};

const ACTOR = { type: "system", id: "worker" } as const;

/** The context of a command that a job gives. `commandId` is random where the command may come again with another meaning. */
export const contextOf = (client: ClientId, cause: Cause, commandId: string): CommandContext => ({
  client,
  actor: ACTOR,
  commandId,
  ...cause,
});

/** A job's cause; for one that a sweep found: the last event of the stream that it is about. */
export async function causeOf(
  { store, newId }: Pick<HandlerParts, "store" | "newId">,
  job: { readonly cause: Cause | null },
  stream: string,
): Promise<Cause> {
  if (job.cause !== null) return job.cause;
  const [last] = await store.readStream(stream, { direction: "backward", limit: 1 });
  if (last === undefined) return { correlation: newId(), causation: newId() };
  return { correlation: decodeMetadata(last).correlation, causation: last.id };
}
