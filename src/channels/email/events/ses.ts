// channels/email/events/ses.ts: SES's events through SNS: a message signed by Amazon's certificate, of one topic alone.
import { verify, X509Certificate } from "node:crypto";
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { isObject, parseJson } from "../../../contract/json.ts";
import { DELIVERY_HEADER } from "../../../contract/providers.ts";
import { DAY_MS, SECOND_MS } from "../../../contract/time.ts";
import type { MailReport } from "../../../domain/delivery-reports.ts";
import { maxEntries } from "../../../platform/bounded.ts";
import { isSameSecret } from "../../../platform/secrets.ts";
import type { AddressGuard } from "../../guard.ts";
import { createHttpClient } from "../../outgoing-http.ts";
import { type BounceCode, bounceCode } from "./bounce-codes.ts";
import { deliveryIn, HookRefused, type HookRequest, instantOf, jsonOf, lenient, reportOf, text } from "./vendor.ts";

const MessageSchema = z.object({
  Type: z.enum(["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]),
  ...{ MessageId: z.string().min(1).max(256), TopicArn: z.string(), Message: z.string(), Timestamp: z.string() },
  ...{ SignatureVersion: z.enum(["1", "2"]), Signature: z.string(), SigningCertURL: z.string() },
  ...{ Subject: z.string().optional(), Token: z.string().optional(), SubscribeURL: z.string().optional() },
});
type SnsMessage = z.output<typeof MessageSchema>;

/** Fetches from Amazon, past no guard. Rejects when it cannot be had now. */
export type FetchAmazon = (url: URL) => Promise<Uint8Array>;

const CLIENT_BOUNDS = { connectTimeoutMs: 5 * SECOND_MS, bodyTimeoutMs: 5 * SECOND_MS, maxResponseBytes: 65_536 };
const FETCH_MS = 10 * SECOND_MS;

/** Fetches what Amazon answers with 200. Disposing it closes its connections. */
export function createAmazonClient(guard: AddressGuard): AsyncDisposable & { readonly fetch: FetchAmazon } {
  const http = createHttpClient({ guard, ...CLIENT_BOUNDS });
  return {
    async fetch(url) {
      const request = { method: "GET", url, headers: { accept: "*/*" }, body: null } as const;
      const { status, body } = await http.exchange(request, AbortSignal.timeout(FETCH_MS));
      if (status !== 200) throw new Error(`Amazon answered ${status}`);
      return body;
    },
    [Symbol.asyncDispose]: () => http[Symbol.asyncDispose](),
  };
}

/** Certificates are kept by their address: Amazon gives a new one a new address. */
const MAX_CERTIFICATES = 50;
const certificates = new LRUCache<string, X509Certificate>({ ...maxEntries(MAX_CERTIFICATES), ttl: DAY_MS });

const SNS_HOST = /^sns\.[a-z0-9-]{2,32}\.amazonaws\.com(?:\.cn)?$/;

/** A URL of SNS itself. Throws HookRefused. */
function amazonUrl(text: string): URL {
  const url = text.length > 2_048 ? null : URL.parse(text);
  // fence: hook-ses-host
  if (
    url === null ||
    url.protocol !== "https:" ||
    !SNS_HOST.test(url.hostname) ||
    url.port !== "" ||
    url.username !== ""
  )
    throw new HookRefused("forged", "the address is none of Amazon's");
  return url;
}

/** The events of a request; of a confirmation none, once it is confirmed. Throws HookRefused. */
export async function sesEvents(
  { body }: HookRequest,
  topicArn: string | null,
  fetch: FetchAmazon,
): Promise<readonly MailReport[]> {
  if (topicArn === null) throw new HookRefused("unconfigured", "the provider has no sns_topic_arn");
  const known = MessageSchema.safeParse(jsonOf(body));
  if (!known.success) throw new HookRefused("forged", "it is no message of SNS");
  const message = known.data;
  // fence: hook-ses-topic
  if (!isSameSecret(message.TopicArn, topicArn)) throw new HookRefused("forged", "it is of another topic");
  const certificate = await certificateOf(amazonUrl(message.SigningCertURL), fetch);
  const algorithm = message.SignatureVersion === "2" ? "sha256" : "sha1";
  const signature = Buffer.from(message.Signature, "base64");
  // fence: hook-ses
  if (!verify(algorithm, Buffer.from(signedText(message)), certificate.publicKey, signature))
    throw new HookRefused("forged", "the signature is wrong");
  if (message.Type === "UnsubscribeConfirmation") return [];
  if (message.Type === "SubscriptionConfirmation") {
    await had(fetch(amazonUrl(message.SubscribeURL ?? "")));
    return [];
  }
  return reportsIn(message);
}

async function certificateOf(url: URL, fetch: FetchAmazon): Promise<X509Certificate> {
  const kept = certificates.get(url.href);
  if (kept !== undefined) return kept;
  const bytes = await had(fetch(url));
  try {
    const certificate = new X509Certificate(bytes);
    certificates.set(url.href, certificate);
    return certificate;
  } catch {
    throw new HookRefused("unavailable", "Amazon's certificate could not be read");
  }
}

/** SNS takes a 4xx as delivered: what cannot be had now must come again. */
async function had(fetched: Promise<Uint8Array>): Promise<Uint8Array> {
  try {
    return await fetched;
  } catch {
    throw new HookRefused("unavailable", "Amazon could not be reached");
  }
}

/** What is signed, in Amazon's order: each name and value on a line. */
function signedText(message: SnsMessage): string {
  const names =
    message.Type === "Notification"
      ? (["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"] as const)
      : (["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"] as const);
  return names.map((name) => (message[name] === undefined ? "" : `${name}\n${message[name]}\n`)).join("");
}

const recipient = z.object({ emailAddress: text, status: text, diagnosticCode: text });
const recipients = lenient(z.array(recipient).max(1_000));
const timestamp = { timestamp: text };
const EventSchema = z.object({
  ...{ eventType: text, notificationType: text },
  mail: z.object({ messageId: text, tags: z.unknown().optional(), headers: z.unknown().optional() }),
  bounce: lenient(z.object({ bounceType: text, bounceSubType: text, bouncedRecipients: recipients, ...timestamp })),
  complaint: lenient(z.object({ complainedRecipients: recipients, complaintSubType: text, ...timestamp })),
  delivery: lenient(z.object({ recipients: lenient(z.array(z.string()).max(1_000)), ...timestamp })),
  reject: lenient(z.object({ reason: text })),
  deliveryDelay: lenient(z.object({ delayType: text, delayedRecipients: recipients, ...timestamp })),
  open: lenient(z.object(timestamp)),
  click: lenient(z.object(timestamp)),
});
type Event = z.output<typeof EventSchema>;

/** The delivery that the mail carried, as a tag or a header. */
function deliveryOf({ tags, headers }: Event["mail"]): string | null {
  const byTag = deliveryIn(tags);
  if (byTag !== null || !Array.isArray(headers)) return byTag;
  const own = headers.find((one) => isObject(one) && String(one.name).toLowerCase() === DELIVERY_HEADER.toLowerCase());
  return isObject(own) && typeof own.value === "string" ? own.value : null;
}

/** One report for each recipient, in order: their ids are the message's with their number. */
function reportsIn({ Message, MessageId }: SnsMessage): readonly MailReport[] {
  let value: unknown;
  try {
    value = parseJson(Message);
  } catch {
    return []; // a text of Amazon's, such as the one that tries a new topic
  }
  const known = EventSchema.safeParse(value);
  if (!known.success) return [];
  const { mail } = known.data;
  const about = { delivery: deliveryOf(mail), providerMessageId: mail.messageId };
  return meaningsOf(known.data).map((meaning, index) =>
    reportOf({ id: `${MessageId}:${index}`, kind: "delivered", ...about, ...meaning }),
  );
}

function meaningsOf(event: Event): readonly Partial<MailReport>[] {
  const { bounce, complaint, delivery, deliveryDelay, reject } = event;
  switch (event.eventType ?? event.notificationType) {
    case "Bounce":
      return (bounce?.bouncedRecipients ?? []).map(({ emailAddress, status, diagnosticCode }) => ({
        ...bounceMeaning(bounce?.bounceType ?? null, bounce?.bounceSubType ?? null, status, diagnosticCode),
        ...{ address: emailAddress, message: diagnosticCode, happenedAt: instantOf(bounce?.timestamp ?? null) },
      }));
    case "Complaint":
      return (complaint?.complainedRecipients ?? []).map(({ emailAddress }) => ({
        ...{ kind: "complained", address: emailAddress, happenedAt: instantOf(complaint?.timestamp ?? null) },
      }));
    case "Delivery":
      return (delivery?.recipients ?? []).map((address) => ({
        ...{ kind: "delivered", address, happenedAt: instantOf(delivery?.timestamp ?? null) },
      }));
    case "DeliveryDelay":
      return (deliveryDelay?.delayedRecipients ?? []).map(({ emailAddress, status, diagnosticCode }) => ({
        ...{ kind: "deferred", address: emailAddress, code: bounceCode(status, diagnosticCode) },
        ...{ message: diagnosticCode, happenedAt: instantOf(deliveryDelay?.timestamp ?? null) },
      }));
    case "Reject":
      return [{ kind: "bounced", bounce: "rejected", code: "rejected", message: reject?.reason ?? null }];
    case "Open":
      return [{ kind: "opened", happenedAt: instantOf(event.open?.timestamp ?? null) }];
    case "Click":
      return [{ kind: "clicked", happenedAt: instantOf(event.click?.timestamp ?? null) }];
    case "Subscription":
      return [{ kind: "unsubscribed" }];
    default:
      return [];
  }
}

const BY_SUBTYPE: Readonly<Record<string, BounceCode>> = {
  MailboxFull: "mailbox_full",
  MessageTooLarge: "message_too_large",
  ContentRejected: "content",
  AttachmentRejected: "content",
  NoEmail: "unknown_recipient",
};

function bounceMeaning(
  type: string | null,
  subType: string | null,
  status: string | null,
  diagnostic: string | null,
): Partial<MailReport> {
  const code = BY_SUBTYPE[subType ?? ""] ?? bounceCode(status, diagnostic);
  if (type !== "Permanent") return { kind: "bounced", bounce: "soft", code };
  // What Amazon did not even try, as it knows the address from before.
  const dropped = subType === "Suppressed" || subType === "OnAccountSuppressionList";
  return { kind: "bounced", bounce: dropped ? "rejected" : "hard", code: dropped ? "rejected" : code };
}
