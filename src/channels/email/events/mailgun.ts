// channels/email/events/mailgun.ts: Mailgun's webhooks: an HMAC over timestamp and token, and one event.
import { createHmac } from "node:crypto";
import { z } from "zod";
import { HOUR_MS, MINUTE_MS, SECOND_MS } from "../../../contract/time.ts";
import type { MailReport } from "../../../domain/delivery-reports.ts";
import { isSameSecret } from "../../../platform/secrets.ts";
import { bounceCode } from "./bounce-codes.ts";
import {
  deliveryIn,
  derivedId,
  HookRefused,
  type HookRequest,
  instantOf,
  jsonOf,
  lenient,
  number,
  parsed,
  reportOf,
  text,
} from "./vendor.ts";

const SignatureSchema = z.object({
  signature: z.object({
    timestamp: z.string().regex(/^\d{1,12}$/),
    token: z.string().min(1).max(256),
    signature: z.string().max(256),
  }),
});
const EventSchema = z.object({
  "event-data": z.object({
    id: z.string().min(1).max(256),
    event: z.string(),
    timestamp: number,
    recipient: text,
    severity: text,
    reason: text,
    "delivery-status": lenient(z.object({ code: number, message: text, description: text, "enhanced-code": text })),
    message: lenient(z.object({ headers: lenient(z.object({ "message-id": text })) })),
    "user-variables": z.unknown().optional(),
  }),
});

/** For so long Mailgun tries again, with the same token. */
const MAX_AGE_MS = 9 * HOUR_MS;
/** How far its clock may be ahead of ours. */
const MAX_SKEW_MS = 10 * MINUTE_MS;

/**
 * The event of a request, and its token: since the signature covers no more than that, the token counts for one event
 * alone, whose fingerprint is given with it. Throws HookRefused.
 */
export function mailgunEvent(
  { body, now }: HookRequest,
  signingKey: string | null,
): { readonly reports: readonly MailReport[]; readonly token: string; readonly fingerprint: string } {
  if (signingKey === null) throw new HookRefused("unconfigured", "the provider has no webhook_signing_key");
  const value = jsonOf(body);
  const signed = SignatureSchema.safeParse(value);
  if (!signed.success) throw new HookRefused("forged", "the signature is missing");
  const { timestamp, token, signature } = signed.data.signature;
  const wanted = createHmac("sha256", signingKey)
    .update(timestamp + token)
    .digest("hex");
  // fence: hook-mailgun
  if (!isSameSecret(signature.toLowerCase(), wanted)) throw new HookRefused("forged", "the signature is wrong");
  const age = now - Number(timestamp) * SECOND_MS;
  // fence: hook-mailgun-age
  if (age > MAX_AGE_MS || age < -MAX_SKEW_MS) throw new HookRefused("forged", "the signature is too old");
  const data = parsed(EventSchema, value)["event-data"];
  const messageId = data.message?.headers?.["message-id"] ?? null;
  const delivery = deliveryIn(data["user-variables"]);
  const meaning = meaningOf(data);
  const report = reportOf({
    ...{ id: data.id, kind: "delivered", address: data.recipient, delivery },
    providerMessageId: messageId === null ? null : `<${messageId.replace(/^<|>$/g, "")}>`,
    happenedAt: instantOf(data.timestamp),
    ...meaning,
  });
  const fingerprint = derivedId(data.id, data.event, data.severity, data.recipient, messageId, delivery);
  return { reports: meaning === null ? [] : [report], token, fingerprint };
}

type Data = z.output<typeof EventSchema>["event-data"];

function meaningOf({ event, severity, reason, "delivery-status": status }: Data): Partial<MailReport> | null {
  switch (event) {
    case "delivered":
    case "opened":
    case "clicked":
    case "unsubscribed":
    case "complained":
      return { kind: event };
    case "rejected":
      return { kind: "bounced", bounce: "rejected", code: "rejected", message: reason };
    case "failed": {
      const message =
        [status?.message, status?.description].find((one) => one !== null && one !== undefined && one !== "") ?? null;
      const code = bounceCode(status?.["enhanced-code"] ?? null, message);
      if (severity !== "permanent") return { kind: "bounced", bounce: "soft", code, message };
      // Only of what bounced does Mailgun itself say that it is the address.
      const bounce = reason === "bounce" || reason === "hardfail" ? "hard" : "rejected";
      return { kind: "bounced", bounce, code: reason?.startsWith("suppress-") === true ? "rejected" : code, message };
    }
    default:
      return null;
  }
}
