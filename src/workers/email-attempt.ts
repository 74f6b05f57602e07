// An email attempt: which provider it goes through, and the mail as it is on every attempt.
import type { MailContent } from "../channels/email/message.ts";
import type { SmtpProvider } from "../channels/email/smtp-connection.ts";
import type { DeliveryId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import type { LiveClient, ProviderData } from "../domain/client.ts";
import type { KnownDelivery } from "../domain/delivery.ts";
import { reveal } from "../domain/event.ts";
import type { KnownNotification } from "../domain/notification.ts";
import { type AttemptPlan, ERASED, impossible } from "./attempt-plan.ts";
import type { HandlerParts } from "./parts.ts";

const MAILBOX_SENDER = "notifications@chatapi.localhost";
/** An attempt must end well within its lease, whatever a provider's options say. */
const MAX_TIMEOUT_SECONDS = 45;
/**
 * Twice as many as the channel keeps connections, so that the next attempts are in the log when one comes free. Who
 * waits longer, waits where turns are given by client, and not yet as an attempt.
 */
const PLACES_PER_SERVER = 10;

/** The first provider, by order, that a client uses for this kind of mail. */
export function chooseProvider(providers: readonly ProviderData[], bulk: boolean): ProviderData | undefined {
  const fitting = providers.filter((provider) => provider.useFor.includes(bulk ? "bulk" : "single"));
  return fitting.toSorted((a, b) => a.order - b.order)[0];
}

type TimedProvider = SmtpProvider & { readonly timeoutSeconds: number };

function smtpProvider(data: ProviderData): TimedProvider | undefined {
  const config = reveal(data.config);
  if (config === null) return undefined;
  const { name, fromEmail, fromName, replyTo, options } = data;
  const timeoutSeconds = Math.min(options.timeoutSeconds ?? MAX_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS);
  return { ...config, name, fromEmail, fromName, replyTo, timeoutSeconds };
}

const mailboxProvider = (mailbox: { host: string; port: number }, client: LiveClient): TimedProvider => ({
  name: "development-mailbox",
  ...mailbox,
  security: "none",
  fromEmail: MAILBOX_SENDER,
  fromName: client.name,
  timeoutSeconds: MAX_TIMEOUT_SECONDS,
});

/** How an email delivery is to be attempted now. */
export function planEmail(
  { mailbox, smtp, now }: Pick<HandlerParts, "mailbox" | "smtp" | "now">,
  id: DeliveryId,
  delivery: KnownDelivery,
  notification: KnownNotification,
  client: LiveClient,
): AttemptPlan {
  const chosen = chooseProvider(client.providers, delivery.request.bulk);
  const fallback = mailbox === null ? undefined : mailboxProvider(mailbox, client);
  const provider = chosen === undefined ? fallback : smtpProvider(chosen);
  if (provider === undefined) {
    const error = { code: "email_provider_not_configured", message: "No email provider is configured for this mail" };
    return impossible({ provider: chosen?.name ?? "none", outcome: "transient", error });
  }
  const mail = mailOf(id, delivery, notification, client, now());
  if (mail === undefined) return impossible({ provider: provider.name, outcome: "permanent", error: ERASED });
  return {
    provider: provider.name,
    place: { host: `smtp:${provider.host}:${provider.port}:${provider.username ?? ""}`, limit: PLACES_PER_SERVER },
    longestMs: provider.timeoutSeconds * SECOND_MS,
    pace: chosen === undefined ? null : (chosen.options.ratePerSecond ?? null),
    send: (at, signal) => smtp.send(provider, { ...mail, at }, signal),
  };
}

/** The mail; undefined when what it needs was erased. */
function mailOf(
  deliveryId: DeliveryId,
  { request }: KnownDelivery,
  { data }: KnownNotification,
  client: LiveClient,
  at: Instant,
): MailContent | undefined {
  const email = reveal(request.address);
  const own = request.fallbackOf === null ? null : data.fallback;
  const ownContent = reveal(own?.content);
  const content = ownContent ?? reveal(data.content);
  if (email === null || typeof content !== "string") return undefined;
  // Copies share the one mail of a single recipient.
  const copies = request.fallbackOf === null && data.recipients.length === 1;
  const addresses = (sealed: typeof data.cc) => (copies ? (reveal(sealed) ?? []) : []).map((one) => ({ email: one }));
  return {
    deliveryId,
    to: { email, name: reveal(request.name) },
    cc: addresses(data.cc),
    bcc: addresses(data.bcc),
    replyTo: reveal(data.replyTo),
    subject: reveal(own?.subject) ?? reveal(data.subject) ?? `Notification from ${client.name}`,
    content,
    text: ownContent === null ? reveal(data.text) : null,
    at,
  };
}
