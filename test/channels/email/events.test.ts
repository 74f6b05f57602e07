// What the vendors post: their documented samples, and each signature that is wrong.
import { createSign } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { bounceCode } from "../../../src/channels/email/events/bounce-codes.ts";
import { postmarkEvents } from "../../../src/channels/email/events/postmark.ts";
import { sesEvents } from "../../../src/channels/email/events/ses.ts";

const fixture = (name: string) => readFileSync(new URL(`./fixtures/${name}`, import.meta.url));
const TOPIC = "arn:aws:sns:eu-west-1:123456789012:mails";
const CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123.pem";
const requestOf = (value: unknown) => ({ body: Buffer.from(JSON.stringify(value)), header: () => undefined, now: 0 });

function signed(message: object, version: "1" | "2" = "2", more: Record<string, string> = {}) {
  const fields: Record<string, string> = {
    ...{ Type: "Notification", MessageId: "m-1", TopicArn: TOPIC, Message: JSON.stringify(message) },
    ...{ Timestamp: "2026-11-30T12:00:00.000Z", ...more },
  };
  const names =
    fields.Type === "Notification"
      ? ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
      : ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
  const text = names.map((name) => (fields[name] === undefined ? "" : `${name}\n${fields[name]}\n`)).join("");
  const Signature = createSign(version === "2" ? "sha256" : "sha1")
    .update(text)
    .sign(fixture("sns-key.pem"), "base64");
  return { ...fields, SignatureVersion: version, Signature, SigningCertURL: CERTIFICATE };
}
const fetched: string[] = [];
const amazon = async (url: URL) => {
  fetched.push(url.href);
  return fixture("sns-cert.pem");
};
const BOUNCE = {
  eventType: "Bounce",
  bounce: {
    ...{ bounceType: "Permanent", bounceSubType: "General", timestamp: "2026-11-30T11:59:00.000Z" },
    bouncedRecipients: [
      { emailAddress: "jane@example.com", status: "5.1.1", diagnosticCode: "smtp; 550 5.1.1 unknown" },
    ],
  },
  mail: { messageId: "ses-1", tags: { chatapi_delivery: ["dlv_a"] } },
};

describe("SES through SNS", () => {
  test.each(["1", "2"] as const)("a bounce with a signature of version %s", async (version) => {
    expect(await sesEvents(requestOf(signed(BOUNCE, version)), TOPIC, amazon)).toEqual([
      {
        ...{ id: "m-1:0", kind: "bounced", bounce: "hard", code: "unknown_recipient", address: "jane@example.com" },
        ...{ message: "smtp; 550 5.1.1 unknown", delivery: "dlv_a", providerMessageId: "ses-1" },
        happenedAt: Date.parse("2026-11-30T11:59:00.000Z"),
      },
    ]);
  });
  test("a subscription to the topic is confirmed by itself, at Amazon alone", async () => {
    const SubscribeURL = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t";
    const about = { Type: "SubscriptionConfirmation", Token: "t", SubscribeURL };
    expect(await sesEvents(requestOf(signed({}, "2", about)), TOPIC, amazon)).toEqual([]);
    expect(fetched).toContain(SubscribeURL);
    const elsewhere = signed({}, "2", { ...about, SubscribeURL: "https://evil.example/" });
    await expect(sesEvents(requestOf(elsewhere), TOPIC, amazon)).rejects.toMatchObject({ reason: "forged" });
  });
  test.each<[string, object]>([
    ["another topic", { TopicArn: `${TOPIC}x` }],
    ["a changed message", { Message: "{}" }],
    ["a certificate of another host", { SigningCertURL: "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem" }],
    ["a certificate without TLS", { SigningCertURL: CERTIFICATE.replace("https", "http") }],
  ])("%s is refused", async (_name, changes) => {
    const request = requestOf({ ...signed(BOUNCE), ...changes });
    await expect(sesEvents(request, TOPIC, amazon)).rejects.toMatchObject({ reason: "forged" });
  });
  test("a message of somebody else's topic, with Amazon's signature, is refused", async () => {
    const request = requestOf(signed(BOUNCE, "1", { TopicArn: `${TOPIC}x` }));
    await expect(sesEvents(request, TOPIC, amazon)).rejects.toMatchObject({ reason: "forged" });
  });
  test("without a topic nothing is taken; a certificate that cannot be had now makes it come again", async () => {
    const request = requestOf(signed(BOUNCE));
    await expect(sesEvents(request, null, amazon)).rejects.toMatchObject({ reason: "unconfigured" });
    const other = requestOf({ ...signed(BOUNCE), SigningCertURL: CERTIFICATE.replace("0123", "4567") });
    const away = () => Promise.reject(new Error("away"));
    await expect(sesEvents(other, TOPIC, away)).rejects.toMatchObject({ reason: "unavailable" });
  });
});

test.each([
  ["HardBounce", "bounced", "hard"],
  ["SoftBounce", "bounced", "soft"],
  ["SpamNotification", "bounced", "rejected"],
  ["SpamComplaint", "complained", null],
  ["Unsubscribe", "unsubscribed", null],
])("a bounce of Postmark's type %s", (Type, kind, bounce) => {
  const record = { RecordType: "Bounce", ID: 42, Type, MessageID: "pm-1", Email: "jane@example.com" };
  const anyone = { username: null, password: null };
  expect(postmarkEvents(requestOf(record), anyone)).toMatchObject([{ kind, bounce, id: "Bounce:42" }]);
});

test.each([
  ["5.1.1", "", "unknown_recipient"],
  [null, "550 5.1.1 The email account that you tried to reach does not exist", "unknown_recipient"],
  ["4.2.2", "552 4.2.2 over quota", "mailbox_full"],
  ["5.0.0", "554 mailbox full", "mailbox_full"],
  ["5.7.1", "550 5.7.1 Client host blocked using Spamhaus", "blocked"],
  ["5.7.1", "550 5.7.1 Message rejected as spam", "spam"],
  ["5.7.26", "unauthenticated mail is prohibited", "policy"],
  ["5.7.1", "not allowed here", "policy"],
  ["5.1.2", "", "unknown_domain"],
  ["5.3.4", "", "message_too_large"],
  ["4.4.7", "", "expired"],
  ["5.4.1", "Recipient address rejected: Access denied", "unknown_recipient"],
  ["5.0.0", "something else", "bounced"],
  [null, null, "bounced"],
])("of %s %s the code is %s", (status, text, code) => expect(bounceCode(status, text)).toBe(code));
