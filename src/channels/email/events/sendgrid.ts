// channels/email/events/sendgrid.ts: SendGrid's event webhook: an ECDSA signature over timestamp and body, many events.
import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { z } from "zod";
import type { MailReport } from "../../../domain/delivery-reports.ts";
import { bounceCode } from "./bounce-codes.ts";
import {
  deliveryIn,
  derivedId,
  HookRefused,
  type HookRequest,
  instantOf,
  jsonOf,
  number,
  parsed,
  reportOf,
  text,
} from "./vendor.ts";

const SIGNATURE = "x-twilio-email-event-webhook-signature";
const TIMESTAMP = "x-twilio-email-event-webhook-timestamp";
/** Max events that are read of one request. */
const MAX_EVENTS = 5_000;

const EventsSchema = z
  .array(
    z.looseObject({
      ...{ event: z.string().catch(""), sg_event_id: text, sg_message_id: text, email: text, timestamp: number },
      ...{ reason: text, response: text, status: text, type: text },
    }),
  )
  .max(MAX_EVENTS);
type Event = z.output<typeof EventsSchema>[number];

/** The key as SendGrid shows it, its DER in base64, or as PEM. Null when it is none. */
export function sendgridKey(publicKey: string): KeyObject | null {
  try {
    if (publicKey.includes("-----BEGIN")) return createPublicKey(publicKey);
    return createPublicKey({ key: Buffer.from(publicKey, "base64"), format: "der", type: "spki" });
  } catch {
    return null;
  }
}

/** The events of a request. Throws HookRefused. */
export function sendgridEvents({ body, header }: HookRequest, publicKey: string | null): readonly MailReport[] {
  const key = publicKey === null ? null : sendgridKey(publicKey);
  if (key === null) throw new HookRefused("unconfigured", "the provider has no webhook_public_key");
  const [signature = "", timestamp = ""] = [header(SIGNATURE), header(TIMESTAMP)];
  const signed = Buffer.concat([Buffer.from(timestamp), body]);
  // fence: hook-sendgrid
  if (!verify("sha256", signed, key, Buffer.from(signature, "base64")))
    throw new HookRefused("forged", "the signature is wrong");
  return parsed(EventsSchema, jsonOf(body)).flatMap((event) => reportIn(event) ?? []);
}

function reportIn(event: Event): MailReport | null {
  const meaning = meaningOf(event);
  if (meaning === null) return null;
  const { sg_event_id: id, sg_message_id: messageId, email, timestamp } = event;
  return reportOf({
    id: id ?? derivedId(messageId, event.event, email, String(timestamp)),
    kind: "delivered",
    address: email,
    delivery: deliveryIn(event),
    // The id that it gave when it took the mail, before the first dot.
    providerMessageId: messageId?.split(".")[0] ?? null,
    happenedAt: instantOf(timestamp),
    ...meaning,
  });
}

function meaningOf({ event, reason, response, status, type }: Event): Partial<MailReport> | null {
  const message = reason ?? response;
  switch (event) {
    case "delivered":
      return { kind: "delivered" };
    case "open":
      return { kind: "opened" };
    case "click":
      return { kind: "clicked" };
    case "spamreport":
      return { kind: "complained" };
    case "unsubscribe":
    case "group_unsubscribe":
      return { kind: "unsubscribed" };
    case "deferred":
      return { kind: "deferred", code: bounceCode(status, message), message };
    case "dropped":
      return { kind: "bounced", bounce: "rejected", code: "rejected", message };
    case "bounce": {
      // A block is of this mail, a bounce of the address.
      const bounce = type === "blocked" ? "rejected" : "hard";
      return { kind: "bounced", bounce, code: bounceCode(status, message), message };
    }
    default:
      return null;
  }
}
