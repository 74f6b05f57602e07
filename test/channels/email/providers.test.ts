// Every type of provider against a strict server of its vendor: what arrives, what refusals mean, and that no secret comes back.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createEmailChannel } from "../../../src/channels/email/channel.ts";
import type { MailContent } from "../../../src/channels/email/message.ts";
import { createAddressGuard } from "../../../src/channels/guard.ts";
import { NO_OPTIONS, type ProviderSettings, type TypedConfig } from "../../../src/domain/provider.ts";
import { authorizationOf } from "./fakes/aws-signature.ts";
import { type FakeApi, fromMime } from "./fakes/fake-api.ts";
import { mailgunApi } from "./fakes/mailgun.ts";
import { postmarkApi } from "./fakes/postmark.ts";
import { sendgridApi } from "./fakes/sendgrid.ts";
import { sesApi } from "./fakes/ses.ts";
import { type MailServer, mailServer } from "./mail-server.ts";

const channel = createEmailChannel({ guard: createAddressGuard({ allow: [], allowLoopback: true }) });
afterAll(() => channel[Symbol.asyncDispose]());

type ApiType = Exclude<TypedConfig["type"], "smtp">;
const configOf = (type: ApiType, base_url: string, key?: string): TypedConfig => {
  switch (type) {
    case "mailgun":
      return {
        type,
        config: {
          ...{ api_key: key ?? "key-mailgun-secret", domain: "mg.example.com", region: "us" },
          webhook_signing_key: null,
          base_url,
        },
      };
    case "sendgrid":
      return {
        type,
        config: { api_key: key ?? "SG.sendgrid-secret", region: "global", webhook_public_key: null, base_url },
      };
    case "postmark":
      return {
        type,
        config: {
          server_token: key ?? "postmark-secret",
          message_stream: "outbound",
          webhook_username: null,
          webhook_password: null,
          base_url,
        },
      };
    case "ses":
      return {
        type,
        config: {
          access_key_id: "AKIDEXAMPLE",
          secret_access_key: key ?? "ses-secret",
          region: "eu-central-1",
          configuration_set: null,
          sns_topic_arn: null,
          base_url,
        },
      };
  }
};
const settings = (typed: TypedConfig, options: Partial<ProviderSettings["options"]> = {}): ProviderSettings => ({
  ...{ ...typed, name: "main", fromEmail: "shop@example.com", fromName: "Bücher & Söhne", replyTo: null },
  options: { ...NO_OPTIONS, ...options },
});

const apis: Record<ApiType, FakeApi> = {} as Record<ApiType, FakeApi>;
let smtp: MailServer;
beforeAll(async () => {
  apis.mailgun = await mailgunApi();
  apis.sendgrid = await sendgridApi();
  apis.postmark = await postmarkApi();
  apis.ses = await sesApi();
  smtp = await mailServer({});
});
afterAll(async () => {
  for (const api of Object.values(apis)) await api[Symbol.asyncDispose]();
  await smtp[Symbol.asyncDispose]();
});

const mail: MailContent = {
  deliveryId: "dlv_1",
  to: { email: "jane@example.com", name: 'Jäne "J" Döe, Ltd.' },
  cc: [{ email: "cc@example.com", name: "Zoë" }],
  bcc: [{ email: "bcc@example.com" }],
  replyTo: "help@example.com",
  subject: "Grüße aus Köln ✓",
  content: '<p>Schöne Grüße</p><img src="cid:logo">',
  text: "Schöne Grüße",
  attachments: [
    { filename: "Überblick.pdf", contentType: "application/pdf", content: Buffer.from("%PDF"), contentId: null },
    { filename: "a.csv", contentType: "text/csv", content: Buffer.from("a;b"), contentId: null },
    { filename: "logo.png", contentType: "image/png", content: Buffer.from([137, 80, 78, 71]), contentId: "logo" },
  ],
  headers: { "X-Order": "4711" },
  tag: "welcome",
  unsubscribeUrl: "https://chat.example.com/u/abc",
  at: Date.now(),
};
const API_TYPES: readonly ApiType[] = ["mailgun", "sendgrid", "postmark", "ses"];
const IDS = { mailgun: "<20260203.1@mg.example.com>", sendgrid: "sg-1", postmark: "pm-1", ses: "ses-1" };

describe.each(API_TYPES)("%s", (type) => {
  const provider = (key?: string, options: Partial<ProviderSettings["options"]> = {}) =>
    channel.provider(settings(configOf(type, apis[type].origin, key), options));
  const told = async (answer: FakeApi["answer"], options: Partial<ProviderSettings["options"]> = {}) => {
    apis[type].answer = answer;
    try {
      return await provider(undefined, options).send(mail);
    } finally {
      apis[type].answer = null;
    }
  };

  test("is given the same parts as an SMTP server", async () => {
    const { host, port } = { host: "127.0.0.1", port: smtp.port };
    const config = { host, port, username: null, password: null, security: "none" as const, dkim: null };
    await channel.provider(settings({ type: "smtp", config })).send(mail);
    const received = smtp.received.at(-1);
    const expected = await fromMime(received?.raw ?? "", received?.to ?? [], { tag: "welcome", argument: "dlv_1" });
    expect(expected).toMatchObject({
      bcc: ["bcc@example.com"],
      messageId: "<dlv_1@example.com>",
      cc: [{ name: "Zoë" }],
    });
    expect(expected.attachments).toHaveLength(3);
    const result = await provider().send(mail);
    expect(result).toMatchObject({ outcome: "succeeded", error: null, refusal: null, providerMessageId: IDS[type] });
    expect(result.recipients.map(({ outcome }) => outcome)).toEqual(["taken", "taken", "taken"]);
    expect(apis[type].taken.at(-1)).toEqual(expected);
  });

  test("is given only those who do not have the mail yet", async () => {
    const result = await provider().send({ ...mail, settled: [0, 1] });
    expect(result.recipients).toEqual([{ index: 2, outcome: "taken", status: expect.any(Number) }]);
    const taken = apis[type].taken.at(-1);
    const all = JSON.stringify([taken?.to, taken?.bcc]);
    expect(all).toContain("bcc@example.com");
    if (type === "sendgrid" || type === "postmark") expect(all).not.toContain("jane@example.com");
  });

  test.each([
    [400, "permanent", null],
    [413, "permanent", null],
    [401, "transient", "account"],
    [403, "transient", "account"],
    [408, "transient", null],
    [425, "transient", null],
    [429, "transient", null],
    [302, "transient", null],
    [500, "transient", null],
    [503, "transient", null],
  ] as const)("answers %i: %s, the fault of %s", async (status, outcome, refusal) => {
    expect(await told({ status, body: {} })).toMatchObject({ outcome, refusal, response: { status } });
  });

  test("says how long to wait", async () => {
    const result = await told({ status: 429, headers: { "retry-after": "120" }, body: {} });
    expect(result).toMatchObject({ outcome: "transient", retryAfterMs: 120_000 });
  });

  test("that says nothing, or closes the connection, may have the mail", async () => {
    expect(await told("hang", { timeoutSeconds: 1 })).toMatchObject({ outcome: "unknown", error: { code: "timeout" } });
    expect(await told("cut")).toMatchObject({ outcome: "unknown", error: { code: "connection_closed" } });
  });

  test("is verified by a key that may only send, and with a mail", async () => {
    const before = apis[type].taken.length;
    expect(await provider().verify(null)).toEqual({ ok: true, stage: "auth", code: null, message: null });
    expect(apis[type].taken).toHaveLength(before);
    expect(await provider().verify("me@example.com")).toEqual({ ok: true, stage: "send", code: null, message: null });
    expect(apis[type].taken).toHaveLength(before + 1);
    expect(await provider("wrong-key").verify(null)).toMatchObject({ ok: false, stage: "auth", code: "auth_failed" });
    expect(await provider("wrong-key").send(mail)).toMatchObject({ outcome: "transient", refusal: "account" });
  });

  test("does not give its key back when it quotes it", async () => {
    const quoted = (key: string) =>
      `bad key ${key}, ${encodeURIComponent(key)}, ${Buffer.from(key).toString("base64")}`;
    const key = "top/secret+key";
    const sending = channel.provider(settings(configOf(type, apis[type].origin, key)));
    apis[type].answer = { status: 401, body: { message: quoted(key), errors: [{ message: quoted(key) }] } };
    const said = JSON.stringify([await sending.send(mail), await sending.verify(null)]);
    apis[type].answer = null;
    expect(said).toContain("[redacted]");
    for (const form of [key, encodeURIComponent(key), Buffer.from(key).toString("base64").slice(0, 16)])
      expect(said).not.toContain(form);
  });
});

describe("what a vendor documents of its own", () => {
  const aws = (type: string, message = "") => ({ headers: { "x-amzn-errortype": type }, body: { message } });
  test.each([
    ["mailgun", 404, { body: { message: "Domain not found: mg.example.com" } }, "transient", "account"],
    [
      "mailgun",
      400,
      { body: { message: "to parameter is not a valid address. please check" } },
      "permanent",
      "recipient",
    ],
    [
      "sendgrid",
      403,
      { body: { errors: [{ message: "not a verified Sender", field: "from" }] } },
      "permanent",
      "sender",
    ],
    [
      "sendgrid",
      400,
      { body: { errors: [{ message: "x", field: "personalizations.0.to.0.email" }] } },
      "permanent",
      "recipient",
    ],
    ["postmark", 422, { body: { ErrorCode: 406, Message: "inactive" } }, "permanent", "recipient"],
    ["postmark", 422, { body: { ErrorCode: 400, Message: "no signature" } }, "permanent", "sender"],
    ["postmark", 422, { body: { ErrorCode: 405, Message: "no credits" } }, "transient", "account"],
    ["postmark", 422, { body: { ErrorCode: 300, Message: "Invalid 'Cc' address" } }, "permanent", null],
    ["ses", 400, aws("AccountSuspendedException"), "transient", "account"],
    ["ses", 400, aws("SendingPausedException"), "transient", "account"],
    ["ses", 400, aws("MailFromDomainNotVerifiedException"), "permanent", "sender"],
    ["ses", 400, aws("MessageRejected", "Email address is not verified: shop@example.com"), "permanent", "sender"],
    ["ses", 400, aws("MessageRejected", "Email address is not verified: jane@example.com"), "transient", "account"],
    ["ses", 400, aws("MessageRejected", "virus"), "permanent", null],
    ["ses", 400, aws("LimitExceededException"), "transient", null],
  ] as const)("%s: %i %j is %s, the fault of %s", async (type, status, answer, outcome, refusal) => {
    apis[type].answer = { status, ...answer };
    const result = await channel.provider(settings(configOf(type, apis[type].origin))).send(mail);
    apis[type].answer = null;
    expect(result).toMatchObject({ outcome, refusal });
  });

  test("Postmark's inactive copies are refused, and the mail is sent", async () => {
    const Message = "Message OK, but will not deliver to these inactive addresses: cc@example.com";
    apis.postmark.answer = { status: 200, body: { ErrorCode: 0, Message, MessageID: "pm-2" } };
    const result = await channel.provider(settings(configOf("postmark", apis.postmark.origin))).send(mail);
    apis.postmark.answer = null;
    expect(result.outcome).toBe("succeeded");
    expect(result.recipients.map(({ outcome }) => outcome)).toEqual(["taken", "refused", "taken"]);
  });

  test("an address that is not public is not reached", async () => {
    await using strict = createEmailChannel({ guard: createAddressGuard({ allow: [], allowLoopback: false }) });
    const result = await strict.provider(settings(configOf("ses", apis.ses.origin))).send(mail);
    expect(result).toMatchObject({ outcome: "transient", error: { code: "address_not_allowed" } });
  });
});

describe("the fake of SES checks signatures as AWS publishes them", () => {
  // Of AWS's Signature Version 4 test suite.
  const key = {
    id: "AKIDEXAMPLE",
    secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    region: "us-east-1",
    service: "service",
  };
  const headers = { host: "example.amazonaws.com", "x-amz-date": "20150830T123600Z" };
  test.each([
    ["get-vanilla", "GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"],
    ["post-vanilla", "POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"],
    [
      "get-vanilla-query-order-key-case",
      "GET",
      "/?Param2=value2&Param1=value1",
      "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ],
  ])("%s", (_name, method, path, signature) => {
    expect(authorizationOf({ method, path, headers, body: "" }, key)).toContain(`Signature=${signature}`);
  });
});
