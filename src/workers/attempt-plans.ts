// How a delivery is attempted now: through which provider, to which host, and what is sent.
import { emptyResult } from "../channels/attempt-result.ts";
import { type MailContent, senderDomain } from "../channels/email/message.ts";
import { type DeliveryId, DeliveryIdSchema, type NotificationId } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import type { ExistingClient } from "../domain/client.ts";
import type { AttemptOutcome } from "../domain/delivery.ts";
import type { KnownDelivery } from "../domain/delivery-state.ts";
import { reveal } from "../domain/event.ts";
import { mailCopies } from "../domain/mail-recipients.ts";
import type { Attachment, KnownNotification } from "../domain/notification.ts";
import { DEVELOPMENT_MAILBOX, NO_OPTIONS, type ProviderSettings, settingsOf } from "../domain/provider.ts";
import { type Candidate, chooseProviders, encodedMailBytes } from "../domain/provider-choice.ts";
import type { RetryPolicy } from "../domain/retry-policy.ts";
import { attachedBytes, loadAttachments } from "./attachments.ts";
import { type JobServices, notificationOfRequest } from "./job-services.ts";

export type AttemptPlan = {
  /** The provider's name for email, `webhook` for webhooks. */
  readonly provider: string;
  /** Of a mail through a provider of the client's: the seq of its settings, and whether it probes its open circuit. */
  readonly via: { readonly changedSeq: number; readonly probe: boolean } | null;
  /** The host that the attempt reaches, and how many attempts may reach it at once. Null: it reaches none. */
  readonly host: { readonly name: string; readonly limit: number } | null;
  /** The longest time that sending takes. */
  readonly maxMs: number;
  /** The rate that the provider accepts. Null: no bound. */
  readonly ratePerSecond: number | null;
  /** The sender's domain, of a mail. */
  readonly domain: string | null;
  /** Bytes that it holds in memory until it has ended: its content, and a mail's attachments. */
  readonly heldBytes: number;
  /** When not the server's own. */
  readonly retryPolicy?: RetryPolicy;
  /**
   * Sends it. `at` is the time of the attempt. `onHandedOver` is called when all of it has left and the answer alone is
   * missing, which may take so long.
   */
  readonly send: (at: Instant, signal: AbortSignal, onHandedOver: (ms: number) => void) => Promise<AttemptOutcome>;
};

/** What an attempt is made from. */
type Attempted = {
  readonly id: DeliveryId;
  readonly delivery: KnownDelivery;
  readonly notification: KnownNotification;
  readonly client: ExistingClient;
};

/** Of which one client gets half, and so on: see `HostLimiter`. */
const WEBHOOK_ATTEMPTS_PER_HOST = 40;
const MAILBOX_SENDER = "notifications@chatapi.localhost";

/** The error of an attempt whose recipient or content was erased. */
export const ERASED = { code: "erased", message: "What this delivery needs has been erased" };

/** A plan whose attempt fails without reaching a host. */
export function failing(
  provider: string,
  outcome: AttemptOutcome["outcome"],
  error: NonNullable<AttemptOutcome["error"]>,
): AttemptPlan {
  const result = { ...emptyResult(provider), outcome, error };
  return {
    provider,
    via: null,
    host: null,
    maxMs: 0,
    ratePerSecond: null,
    domain: null,
    heldBytes: 0,
    send: async () => result,
  };
}

export function planWebhook({ webhook, now }: JobServices, attempted: Attempted): AttemptPlan {
  const { id, delivery, client } = attempted;
  const provider = "webhook";
  const url = reveal(delivery.request.address);
  const body = webhookBody(attempted, notificationOfRequest(delivery.request));
  const headers = webhookHeaders(attempted.notification);
  const secrets = secretsAt(client, now());
  if (url === null || body === undefined || secrets.length === 0) return failing(provider, "permanent", ERASED);
  return {
    provider,
    via: null,
    host: { name: `webhook:${URL.parse(url)?.host ?? ""}`, limit: WEBHOOK_ATTEMPTS_PER_HOST },
    maxMs: webhook.attemptTimeoutMs,
    ratePerSecond: null,
    domain: null,
    heldBytes: /* fence: webhook-bytes */ Buffer.byteLength(body),
    send: (timestamp, signal) => webhook.send({ url, id, timestamp, body, headers, secrets, signal }),
  };
}

/** The current secret first, then the previous one while its grace lasts. */
function secretsAt({ secret, previousSecret }: ExistingClient, at: Instant): readonly string[] {
  const previous =
    previousSecret !== null && /* fence: webhook-secret-grace */ previousSecret.until > at
      ? reveal(previousSecret.secret)
      : null;
  return [reveal(secret), previous].filter((one) => one !== null);
}

function webhookHeaders({ data: { headers, authorization } }: KnownNotification): Readonly<Record<string, string>> {
  const credential = reveal(authorization);
  const further = (reveal(headers) ?? []).map(({ name, value }) => [name, value]);
  return { ...Object.fromEntries(further), ...(credential === null ? {} : { authorization: credential }) };
}

/** The same bytes on each attempt. Undefined when the content was erased. */
function webhookBody({ id, notification: { data, createdAt } }: Attempted, notificationId: NotificationId) {
  if (!("open" in data.content)) return undefined;
  return JSON.stringify({
    type: data.eventType,
    timestamp: new Date(Math.max(createdAt, data.sendAt ?? createdAt)).toISOString(),
    data: {
      notification_id: notificationId,
      delivery_id: id,
      subject: reveal(data.subject),
      content: data.content.open,
      meta: reveal(data.meta) ?? {},
      priority: data.priority,
      room_id: data.roomId,
    },
  });
}

const NOT_CONFIGURED = {
  code: "email_provider_not_configured",
  message: "No email provider is configured for this mail",
};
const NO_PROVIDER = {
  code: "no_provider",
  message: "No email provider may send from this address, or takes a mail of this size",
};
const ALL_DOWN = { code: "provider_down", message: "Every email provider for this mail is down for now" };

/**
 * The ways to send a mail, first choice first. What ends the list fails without a provider: it is for when none of them
 * may be tried now.
 */
export function planEmail(services: JobServices, attempted: Attempted): readonly AttemptPlan[] {
  const { mailbox, links, now, random } = services;
  const { delivery, client } = attempted;
  const mail = mailOf(attempted, links, now());
  const files = filesOf(attempted);
  if (mail === undefined || files === undefined) return [failing("none", "permanent", ERASED)];
  const { provider } = attempted.notification.data;
  const demand = { bulk: delivery.request.bulk, from: mail.from?.email ?? null, provider, bytes: sizeOf(mail, files) };
  const choice = chooseProviders(client.providers, demand, now(), random);
  if (choice.none === "no_provider") return [failing("none", "permanent", NO_PROVIDER)];
  if (choice.none === "down") return [failing("none", "transient", ALL_DOWN)];
  const ways =
    choice.none === undefined
      ? choice.candidates.flatMap((candidate) => wayThrough(candidate) ?? [])
      : mailbox === null
        ? []
        : [{ settings: mailboxSettings(mailbox, client), via: null }];
  const [first] = ways;
  if (first === undefined) return [failing("none", "transient", NOT_CONFIGURED)];
  // All attempts share the Message-ID, whichever provider sends it.
  const domain = delivery.domain ?? senderDomain(mail.from?.email ?? first.settings.fromEmail);
  const plans = ways.map((way) => planMail(services, { ...mail, domain }, files, way));
  return [...plans, failing("none", "transient", ALL_DOWN)];
}

/** A provider with its settings opened. */
type Way = { readonly settings: ProviderSettings; readonly via: AttemptPlan["via"] };

/** Undefined: its settings were erased. */
function wayThrough({ provider, probe }: Candidate): Way | undefined {
  const settings = settingsOf(provider);
  return settings === null ? undefined : { settings, via: { changedSeq: provider.changedSeq, probe } };
}

function planMail(
  services: JobServices,
  mail: MailContent & { readonly domain: string },
  files: readonly Attachment[],
  { settings, via }: Way,
): AttemptPlan {
  const { name, account, attemptsAtOnce, maxMs, send } = services.email.provider(settings);
  const returnPath = returnPathOf(services, mail.deliveryId, settings);
  return {
    ...{ provider: name, via, ratePerSecond: settings.options.ratePerSecond, maxMs, domain: mail.domain },
    host: { name: account, limit: attemptsAtOnce },
    heldBytes: attachedBytes(files) + Buffer.byteLength(mail.content) + Buffer.byteLength(mail.text ?? ""),
    async send(at, signal, onHandedOver) {
      const attachments = await loadAttachments(services, files);
      if (attachments === undefined) return { ...emptyResult(name), outcome: "permanent", error: ERASED };
      return send({ ...mail, returnPath, attachments, at }, signal, onHandedOver);
    },
  };
}

/** Where receiving servers report what became of a mail: an address of its own. Null: the sender's. */
const returnPathOf = ({ links }: JobServices, id: string, { type, options }: ProviderSettings): string | null => {
  const known = DeliveryIdSchema.safeParse(id);
  if (type !== "smtp" || options.returnPath === null || !known.success) return null;
  return links?.returnPath(known.data, options.returnPath) ?? null;
};

/** A fallback's mail has none. Undefined when they were erased. */
const filesOf = ({ delivery, notification }: Attempted): readonly Attachment[] | undefined =>
  delivery.request.fallbackOf === null ? (reveal(notification.data.attachments) ?? undefined) : [];

/** About how many bytes a mail has when it is sent. */
const sizeOf = ({ content, text }: MailContent, files: readonly Attachment[]): number =>
  encodedMailBytes(
    Buffer.byteLength(content) + Buffer.byteLength(text ?? ""),
    files.map(({ size }) => size),
  );

const mailboxSettings = (mailbox: { host: string; port: number }, client: ExistingClient): ProviderSettings => ({
  name: DEVELOPMENT_MAILBOX,
  type: "smtp",
  config: { ...mailbox, username: null, password: null, security: "none", dkim: null },
  fromEmail: MAILBOX_SENDER,
  fromName: client.name,
  replyTo: null,
  options: NO_OPTIONS,
});

/** The mail. Undefined when its recipient or content was erased. */
function mailOf(
  { id, delivery, notification, client }: Attempted,
  links: JobServices["links"],
  at: Instant,
): MailContent | undefined {
  const { request } = delivery;
  const { data } = notification;
  const email = reveal(request.address);
  const own = request.fallbackOf === null ? null : data.fallback;
  const ownContent = reveal(own?.content);
  const content = ownContent ?? reveal(data.content);
  if (email === null || typeof content !== "string") return undefined;
  const copies = mailCopies(request, data);
  const addresses = (emails: readonly string[]) => emails.map((one) => ({ email: one }));
  return {
    deliveryId: id,
    to: { email, name: reveal(request.name) },
    cc: addresses(copies.cc),
    bcc: addresses(copies.bcc),
    replyTo: reveal(data.replyTo),
    from: reveal(data.sender),
    headers: Object.fromEntries((reveal(data.headers) ?? []).map(({ name, value }) => [name, value])),
    tag: data.tag,
    unsubscribeUrl: data.unsubscribe && data.category !== null ? (links?.unsubscribeUrl(id) ?? null) : null,
    subject: reveal(own?.subject) ?? reveal(data.subject) ?? `Notification from ${client.name}`,
    content,
    contentType: ownContent === null ? data.contentType : null,
    text: ownContent === null ? reveal(data.text) : null,
    domain: delivery.domain,
    settled: [...delivery.taken, ...delivery.refused],
    at,
  };
}
