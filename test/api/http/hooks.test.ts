// What the vendors post to a provider's path: recorded when it is signed as each documents it, and nothing else.
import { createHmac, createSign, generateKeyPairSync, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Services } from "../../../src/app/services.ts";
import { type Api, type Body, until as eventually, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

const SIGNING_KEY = "mailgun-signing-key";
const ecdsa = generateKeyPairSync("ec", { namedCurve: "prime256v1" });

let server: TestServer;
let api: Api & { readonly id: string };
let sent: Body[];
const paths: Record<string, string> = {};
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  // By the development mailbox, as long as there is no provider.
  sent = await Promise.all(Array.from({ length: 9 }, (_, n) => send(`jane${n}@example.com`)));
  const webhook_public_key = ecdsa.publicKey.export({ format: "der", type: "spki" }).toString("base64");
  await provider("mailgun", { api_key: "k", domain: "example.com", webhook_signing_key: SIGNING_KEY });
  await provider("sendgrid", { api_key: "k", webhook_public_key });
  await provider("postmark", { server_token: "k", webhook_username: "hook", webhook_password: "secret" });
});
afterAll(() => server[Symbol.asyncDispose]());

const send = async (to: string): Promise<Body> => {
  const about = { type: "email", to_email: to, subject: "Hello", content: "Hello" };
  const { body } = await api.post("/notifications", about);
  return notificationUntil(api, body.id, (one) => one.status === "sent");
};
const provider = async (type: string, config: object, name = type) => {
  const about = { type, config: { base_url: "http://127.0.0.1:4599", ...config }, from_email: "a@example.com" };
  const { status, body } = await api.put(`/email-providers/${name}`, about);
  expect(status, JSON.stringify(body)).toBe(201);
  paths[name] = new URL(body.events_url).pathname;
};
const post = async (name: string, body: string, headers: Record<string, string> = {}) => {
  const response = await fetch(server.url + (paths[name] ?? name), { method: "POST", body, headers });
  return { status: response.status, body: (await response.json()) as Body, headers: response.headers };
};
const deliveryOf = (n: number): string => sent[n].deliveries[0].id;
const read = async (n: number): Promise<Body> => (await api.get(`/notifications/${sent[n].id}`)).body.deliveries[0];
const until = async (n: number, status: string): Promise<Body> =>
  (await notificationUntil(api, sent[n].id, (one) => one.deliveries[0].status === status)).deliveries[0];

describe("Mailgun", () => {
  const event = (n: number, changes: object = {}) => ({
    ...{ id: randomUUID(), event: "delivered", timestamp: Date.now() / 1_000, recipient: `jane${n}@example.com` },
    ...{ "user-variables": { chatapi_delivery: deliveryOf(n) }, ...changes },
  });
  const signed = (data: object, token = randomUUID(), at = Date.now()) => {
    const timestamp = String(Math.floor(at / 1_000));
    const signature = createHmac("sha256", SIGNING_KEY)
      .update(timestamp + token)
      .digest("hex");
    return JSON.stringify({ signature: { timestamp, token, signature }, "event-data": data });
  };
  const FAILED = {
    ...{ event: "failed", severity: "permanent", reason: "bounce" },
    "delivery-status": { code: 550, message: "5.1.1 no such user", description: "" },
  };

  test("a permanent failure is a bounce; the delivery that comes after it changes nothing; twice is once", async () => {
    const bounce = signed(event(0, FAILED));
    expect((await post("mailgun", bounce)).body).toEqual({ recorded: 1, unknown: 0 });
    expect((await until(0, "bounced")).error).toMatchObject({ code: "unknown_recipient" });
    expect((await post("mailgun", bounce)).status).toBe(200);
    expect((await post("mailgun", signed(event(0)))).status).toBe(200);
    const reports = async () => {
      const { body } = await api.get(`/notifications/${sent[0].id}/timeline`);
      return body.data.filter((one: Body) => one.type === "DeliveryReported").length;
    };
    expect(await eventually(reports, (count) => count >= 2)).toBe(2);
    expect((await read(0)).status).toBe("bounced");
    expect((await api.get("/suppressions/jane0@example.com")).body.reason).toBe("bounced");
  });

  test("a token counts for one event, and for nine hours; a flipped bit for nothing", async () => {
    const token = randomUUID();
    expect((await post("mailgun", signed(event(1), token))).status).toBe(200);
    expect((await post("mailgun", signed(event(2, FAILED), token))).status).toBe(401);
    const old = Date.now() - 10 * 3_600_000;
    expect((await post("mailgun", signed(event(2, FAILED), randomUUID(), old))).status).toBe(401);
    const flipped = signed(event(2, FAILED)).replace(
      /"signature":"(.)/,
      (_, digit) => `"signature":"${digit === "0" ? 1 : 0}`,
    );
    expect((await post("mailgun", flipped)).status).toBe(401);
    expect((await read(2)).status).toBe("sent");
  });

  test("an unknown message is 200, and counted; another client's is unknown", async () => {
    const foreign = { "user-variables": { chatapi_delivery: "dlv_none" } };
    expect((await post("mailgun", signed(event(2, foreign)))).body).toEqual({ recorded: 0, unknown: 1 });
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toMatch(/chatapi_mail_reports_total\{provider="mailgun",outcome="unknown"\} [1-9]/);
  });
});

describe("SendGrid", () => {
  const signed = (events: readonly object[]) => {
    const [body, timestamp] = [JSON.stringify(events), String(Math.floor(Date.now() / 1_000))];
    const signature = createSign("sha256")
      .update(timestamp + body)
      .sign(ecdsa.privateKey, "base64");
    const name = "X-Twilio-Email-Event-Webhook";
    return { body, headers: { [`${name}-Signature`]: signature, [`${name}-Timestamp`]: timestamp } };
  };
  const event = (n: number, changes: object) => ({
    ...{ email: `jane${n}@example.com`, timestamp: 1_700_000_000, sg_event_id: randomUUID() },
    ...{ sg_message_id: "id.filter0001", chatapi_delivery: deliveryOf(n), ...changes },
  });

  test("many events of one request, each counted", async () => {
    const { body, headers } = signed([
      event(3, { event: "delivered" }),
      event(3, { event: "open" }),
      event(4, { event: "spamreport" }),
      event(5, { event: "bounce", type: "blocked", status: "5.7.1", reason: "550 blocked" }),
      event(3, { event: "processed" }),
    ]);
    expect((await post("sendgrid", body, headers)).body).toEqual({ recorded: 4, unknown: 0 });
    await until(3, "delivered");
    const opened = await eventually(
      () => read(3),
      (one) => one.opened_at !== null,
    );
    expect(opened.opened_at).toBe("2023-11-14T22:13:20.000Z");
    expect((await until(4, "complained")).error.code).toBe("complained");
    expect((await until(5, "bounced")).error.code).toBe("blocked");
    expect((await api.get("/suppressions/jane5@example.com")).status).toBe(404);
  });

  test("another byte, or no signature, is refused", async () => {
    const { body, headers } = signed([event(2, { event: "spamreport" })]);
    expect((await post("sendgrid", `${body} `, headers)).status).toBe(401);
    expect((await post("sendgrid", body)).status).toBe(401);
    expect((await read(2)).status).toBe("sent");
  });
});

describe("Postmark", () => {
  const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString("base64")}` });
  test("is let in by its password", async () => {
    const record = {
      RecordType: "Delivery",
      MessageID: "m",
      Recipient: "jane6@example.com",
      DeliveredAt: "2026-01-01T00:00:00Z",
    };
    const body = JSON.stringify({ ...record, Metadata: { chatapi_delivery: deliveryOf(6) } });
    expect((await post("postmark", body)).status).toBe(401);
    expect((await post("postmark", body, basic("hook:wrong"))).status).toBe(401);
    expect((await post("postmark", body, basic("hook:secret"))).body).toEqual({ recorded: 1, unknown: 0 });
    await until(6, "delivered");
  });
});

describe("Amazon SES", () => {
  const fixture = (name: string) => readFileSync(new URL(`../../channels/email/fixtures/${name}`, import.meta.url));
  const sns_topic_arn = "arn:aws:sns:eu-west-1:123456789012:mails";
  const message = (version: string, event: object, id = randomUUID()): string => {
    const signedText = { Message: JSON.stringify(event), MessageId: id, Timestamp: "2026-11-30T12:00:00.000Z" };
    const fields = { ...signedText, TopicArn: sns_topic_arn, Type: "Notification" };
    const text = Object.entries(fields).map(([name, value]) => `${name}\n${value}\n`);
    const Signature = createSign(version === "2" ? "sha256" : "sha1")
      .update(text.join(""))
      .sign(fixture("sns-key.pem"), "base64");
    const SigningCertURL = `https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-${version}.pem`;
    return JSON.stringify({ ...fields, SignatureVersion: version, Signature, SigningCertURL });
  };

  test.each([
    ["1", 7],
    ["2", 8],
  ] as const)("a bounce with a signature of version %s, once; a changed one is 401", async (version, n) => {
    const fetched: string[] = [];
    const fetchAmazon: Services["fetchAmazon"] = async (url) => {
      fetched.push(url.href);
      return fixture("sns-cert.pem");
    };
    Object.assign(server.services, { fetchAmazon });
    const config = { access_key_id: "k", secret_access_key: "k", region: "eu-west-1", sns_topic_arn };
    await provider("ses", config, `ses-${version}`);
    const bouncedRecipients = [{ emailAddress: `jane${n}@example.com`, status: "5.1.1", diagnosticCode: "unknown" }];
    const bounce = { bounceType: "Permanent", bounceSubType: "General", bouncedRecipients };
    const tags = { chatapi_delivery: [deliveryOf(n)] };
    const event = message(version, { eventType: "Bounce", bounce, mail: { messageId: "ses-1", tags } });
    // SNS posts it as text.
    const headers = { "content-type": "text/plain; charset=UTF-8" };
    expect((await post(`ses-${version}`, event.replace("5.1.1", "5.2.2"), headers)).status).toBe(401);
    expect((await read(n)).status).toBe("sent");
    expect((await post(`ses-${version}`, event, headers)).body).toEqual({ recorded: 1, unknown: 0 });
    expect((await until(n, "bounced")).error).toMatchObject({ code: "unknown_recipient" });
    expect((await post(`ses-${version}`, event, headers)).status).toBe(200);
    const { body } = await api.get(`/notifications/${sent[n].id}/timeline`);
    expect(body.data.filter((one: Body) => one.type === "DeliveryReported")).toHaveLength(1);
    expect(fetched).toHaveLength(1);
  });
});

describe("a path", () => {
  test("without its secret configured takes nothing, but Postmark's", async () => {
    const about = { access_key_id: "AKIA", secret_access_key: "k", region: "eu-west-1" };
    await provider("mailgun", { api_key: "k", domain: "example.com" }, "bare-mailgun");
    await provider("sendgrid", { api_key: "k" }, "bare-sendgrid");
    await provider("ses", about, "bare-ses");
    await provider("postmark", { server_token: "k" }, "bare-postmark");
    for (const name of ["bare-mailgun", "bare-sendgrid", "bare-ses"]) expect((await post(name, "{}")).status).toBe(403);
    const record = { RecordType: "Delivery", MessageID: "nobody's" };
    expect((await post("bare-postmark", JSON.stringify(record))).body).toEqual({ recorded: 0, unknown: 1 });
  });

  test("is one provider's of one client: another one, or a changed one, is not found", async () => {
    const [, , , token = ""] = (paths.mailgun ?? "").split("/");
    const [tail, name, mac = ""] = token.split(".");
    const flipped = mac.startsWith("0") ? `1${mac.slice(1)}` : `0${mac.slice(1)}`;
    for (const wrong of [
      `${tail}.sendgrid.${mac}`,
      `${tail}.${name}.${flipped}`,
      `${tail}.${name}`,
      "x",
      `${token}.x`,
    ]) {
      expect((await post(`/hooks/email/${wrong}`, "{}")).status).toBe(404);
    }
  });

  test("is under no CORS, and takes no more than a mebibyte, nor what is no JSON", async () => {
    const { status, headers } = await post("bare-postmark", "{", { origin: "https://page.example" });
    expect(status).toBe(400);
    expect(headers.get("access-control-allow-origin")).toBeNull();
    expect((await post("bare-postmark", "x".repeat(1_100_000))).status).toBe(413);
    expect((await post("bare-postmark", "[]")).status).toBe(400);
  });
});
