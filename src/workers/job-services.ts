// What the handlers of jobs work with: the services, the states that they load, the commands and their context.
import type { Logger } from "pino";
import type { MailLinks } from "../app/mail-links.ts";
import type { Positions } from "../app/positions.ts";
import type { EmailChannel } from "../channels/email/channel.ts";
import type { WebhookChannel } from "../channels/webhook.ts";
import type { Channel } from "../contract/deliveries.ts";
import type { ClientId, DeliveryId, NotificationId } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { type AttemptOutcome, type DeliveryCommand, deliveryDecider } from "../domain/delivery.ts";
import { type DeliveryRequest, deliveryStream } from "../domain/delivery-state.ts";
import { notificationDecider, notificationStream } from "../domain/notification.ts";
import type { RetryPolicy } from "../domain/retry-policy.ts";
import { type CommandContext, decodeMetadata } from "../event-store/envelope.ts";
import type { EventStore } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import type { Keyring } from "../event-store/sealing.ts";
import type { ReadSide } from "../projections/read-side.ts";
import type { MemoryBudget } from "./attachments.ts";
import type { HostLimiter } from "./fairness.ts";
import type { Cause, TakenJob } from "./jobs.ts";
import type { ProviderUse } from "./provider-use.ts";

export type JobServices = {
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly commands: Commands;
  readonly readSide: ReadSide;
  readonly positions: Positions;
  readonly webhook: WebhookChannel;
  readonly email: EmailChannel;
  /** Where mails of clients without a provider go. Null: their attempts fail. */
  readonly mailbox: { readonly host: string; readonly port: number } | null;
  /** What mails carry. Without it none can be unsubscribed from. */
  readonly links?: MailLinks;
  readonly retryPolicy: RetryPolicy;
  readonly hostLimiter: HostLimiter;
  readonly providerUse: ProviderUse;
  readonly memoryBudget: MemoryBudget;
  /** How many WebSocket deliveries of one user may be open. Beyond that the oldest expire. */
  readonly maxOpenDeliveries: number;
  /** Called with each attempt that ended, and how long its sending took. */
  readonly onAttempt?: (attempted: {
    readonly channel: Channel;
    readonly source: "notification" | "endpoint";
    readonly outcome: AttemptOutcome["outcome"];
    readonly ms: number;
  }) => void;
  readonly logger: Logger;
  readonly now: () => Instant;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** A random UUID. */
  readonly newId: () => string;
};

/** The state of a delivery, as the log has it now. */
export const loadDelivery = async ({ commands }: JobServices, id: DeliveryId) =>
  (await commands.load(deliveryDecider, deliveryStream(id))).state;

/** The state of a notification, as the log has it now. */
export const loadNotification = async ({ commands }: JobServices, id: NotificationId) =>
  (await commands.load(notificationDecider, notificationStream(id))).state;

/** The notification that a delivery is of. Throws when it is an endpoint's. */
export function notificationOfRequest({ notification }: Pick<DeliveryRequest, "notification">): NotificationId {
  if (notification === null) throw new Error("a webhook endpoint's delivery has no notification");
  return notification;
}

export const executeOnDelivery = (
  { commands }: JobServices,
  id: DeliveryId,
  command: DeliveryCommand,
  context: CommandContext,
) => commands.execute(deliveryDecider, deliveryStream(id), command, context);

/** The context of a job's command. `commandId` is random where the same job may give it with another meaning later. */
export const contextOf = (client: ClientId, cause: Cause, commandId: string): CommandContext => ({
  ...{ client, actor: { type: "system", id: "worker" }, commandId },
  ...cause,
});

/** The context of the only command that a job gives to a stream. */
export const contextFor = async (services: JobServices, job: TakenJob, stream: string): Promise<CommandContext> =>
  contextOf(job.client, await causeOf(services, job, stream), services.newId());

/** A job's cause. For a job that a sweep made it is the last event of the stream that the job is about. */
export async function causeOf({ store, newId }: JobServices, job: TakenJob, stream: string): Promise<Cause> {
  if (job.cause !== null) return job.cause;
  const [last] = await store.readStream(stream, { direction: "backward", limit: 1 });
  if (last === undefined) return { correlation: newId(), causation: newId() };
  return { correlation: decodeMetadata(last).correlation, causation: last.id };
}
