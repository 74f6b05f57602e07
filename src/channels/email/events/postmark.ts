// channels/email/events/postmark.ts: Postmark's webhooks: basic authentication, and one record.
import { z } from "zod";
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

const RecordSchema = z.object({
  ...{ RecordType: z.string(), MessageID: text, Recipient: text, Email: text, Metadata: z.unknown().optional() },
  ...{ ID: number, Type: text, Details: text, Description: text, OriginalLink: text, Origin: text },
  ...{ BouncedAt: text, DeliveredAt: text, ReceivedAt: text, ChangedAt: text },
  ...{ SuppressSending: lenient(z.boolean()), SuppressionReason: text },
});
type PostmarkRecord = z.output<typeof RecordSchema>;

type PostmarkCredentials = { readonly username: string | null; readonly password: string | null };

/** The event of a request. Without credentials its secret path alone lets it in. Throws HookRefused. */
export function postmarkEvents(
  { body, header }: HookRequest,
  { username, password }: PostmarkCredentials,
): readonly MailReport[] {
  if (username !== null || password !== null) {
    const wanted = `Basic ${Buffer.from(`${username ?? ""}:${password ?? ""}`).toString("base64")}`;
    // fence: hook-postmark
    if (!isSameSecret(header("authorization") ?? "", wanted)) throw new HookRefused("forged", "the password is wrong");
  }
  const record = parsed(RecordSchema, jsonOf(body));
  const meaning = meaningOf(record);
  if (meaning === null) return [];
  const { RecordType: type, MessageID: messageId, ID: id, OriginalLink: link } = record;
  const address = record.Recipient ?? record.Email;
  const at = record.BouncedAt ?? record.DeliveredAt ?? record.ReceivedAt ?? record.ChangedAt;
  return [
    reportOf({
      id: id === null || id === 0 ? derivedId(type, messageId, address, at, link) : `${type}:${id}`,
      kind: "delivered",
      ...{ address, delivery: deliveryIn(record.Metadata), providerMessageId: messageId, happenedAt: instantOf(at) },
      ...meaning,
    }),
  ];
}

const HARD: readonly string[] = ["HardBounce", "BadEmailAddress"];
const SOFT: readonly string[] = ["SoftBounce", "Transient", "DnsError"];
/** Answers of people and programs to a mail that arrived. */
const ANSWERS: readonly string[] = ["AutoResponder", "AddressChange", "ChallengeVerification", "Subscribe"];

function meaningOf({ RecordType: record, ...about }: PostmarkRecord): Partial<MailReport> | null {
  switch (record) {
    case "Delivery":
      return { kind: "delivered" };
    case "Open":
      return { kind: "opened" };
    case "Click":
      return { kind: "clicked" };
    case "SpamComplaint":
      return { kind: "complained" };
    case "SubscriptionChange":
      // Bounces and complaints come as records of their own.
      return about.SuppressSending === true && about.SuppressionReason === "ManualSuppression"
        ? { kind: "unsubscribed" }
        : null;
    case "Bounce":
      return bounceOf(about);
    default:
      return null;
  }
}

function bounceOf({
  Type: type,
  Details: details,
  Description: description,
}: Pick<PostmarkRecord, "Type" | "Details" | "Description">): Partial<MailReport> | null {
  if (type === "SpamComplaint") return { kind: "complained" };
  if (type === "Unsubscribe") return { kind: "unsubscribed" };
  if (type === null || ANSWERS.includes(type)) return null;
  const message = details ?? description;
  const bounce = HARD.includes(type) ? "hard" : SOFT.includes(type) ? "soft" : "rejected";
  const found = bounceCode(null, message);
  const byType =
    type === "SpamNotification" ? "spam" : type === "Blocked" ? "blocked" : type === "DMARCPolicy" ? "policy" : null;
  const code = byType ?? (found === "bounced" && bounce === "hard" ? "unknown_recipient" : found);
  return { kind: "bounced", bounce, code, message };
}
