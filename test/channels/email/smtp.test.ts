// Mails by SMTP as a real server takes or refuses them.

import type { SMTPServerOptions } from "smtp-server";
import { describe, expect, test } from "vitest";
import { createAddressGuard } from "../../../src/channels/address-guard.ts";
import type { MailContent } from "../../../src/channels/email/message.ts";
import { createSmtpChannel, type SmtpProvider } from "../../../src/channels/email/smtp.ts";
import { until } from "../servers.ts";
import { mailServer, reply } from "./mail-server.ts";

const guard = createAddressGuard({ allow: [], allowLoopback: true });
const at = (port: number): SmtpProvider => {
  return { name: "main", host: "127.0.0.1", port, security: "none", fromEmail: "noreply@app.example" };
};
const mail: MailContent = {
  deliveryId: "dlv_1",
  to: { email: "user@example.com" },
  subject: "Welcome!",
  content: "<h1>Welcome</h1>",
  at: Date.now(),
};
const onAuth: NonNullable<SMTPServerOptions["onAuth"]> = ({ username, password }, _session, callback) => {
  if (username === "app" && password === "secret") callback(null, { user: "app" });
  else callback(reply(535, "5.7.8 bad credentials"));
};

async function sendTo(options: SMTPServerOptions, changes: Partial<MailContent> = {}) {
  await using server = await mailServer(options);
  await using channel = createSmtpChannel({ guard });
  return { result: await channel.send(at(server.port), { ...mail, ...changes }), received: server.received };
}

describe("a mail that the server takes", () => {
  test("succeeded, with the server's words and the Message-ID", async () => {
    const { result, received } = await sendTo({});
    expect(result).toEqual({
      outcome: "succeeded",
      provider: "main",
      response: { status: 250, body: "250 queued as 1" },
      error: null,
      retryAfterMs: null,
      providerMessageId: "<dlv_1@app.example>",
    });
    expect(received).toMatchObject([{ from: "noreply@app.example", to: ["user@example.com"] }]);
    expect(received[0]?.mail).toMatchObject({ subject: "Welcome!", messageId: "<dlv_1@app.example>" });
    expect(received[0]?.mail.text?.trim()).toBe("Welcome");
  });

  test("goes to copies and blind copies in one transaction", async () => {
    const copies = { cc: [{ email: "cc@example.com" }], bcc: [{ email: "bcc@example.com" }] };
    const { received } = await sendTo({}, copies);
    expect(received).toMatchObject([{ to: ["user@example.com", "cc@example.com", "bcc@example.com"] }]);
    expect(received[0]?.raw).not.toContain("bcc@");
  });

  test("shares its connections with others, never more than the provider may have", async () => {
    await using server = await mailServer();
    await using channel = createSmtpChannel({ guard, maxConnections: 2 });
    const many = Array.from({ length: 20 }, (_, n) =>
      channel.send(at(server.port), { ...mail, deliveryId: `dlv_${n}` }),
    );
    expect((await Promise.all(many)).every(({ outcome }) => outcome === "succeeded")).toBe(true);
    expect(server.received).toHaveLength(20);
    expect(server.connections()).toBeLessThanOrEqual(2);
    await channel[Symbol.asyncDispose]();
    await until(() => server.open() === 0);
    expect(await channel.send(at(server.port), mail)).toMatchObject({
      outcome: "transient",
      error: { code: "cancelled" },
    });
  });

  test("goes out though its provider's pool was pushed out by others, and connections stay bounded", async () => {
    await using server = await mailServer();
    await using channel = createSmtpChannel({ guard });
    const all = Array.from({ length: 230 }, (_, n) => channel.send({ ...at(server.port), password: `${n}` }, mail));
    const outcomes = new Set((await Promise.all(all)).map(({ outcome }) => outcome));
    expect([...outcomes]).toEqual(["succeeded"]);
    await until(() => server.open() <= 200);
    expect(server.connections()).toBe(230);
  });

  test("goes out although the server had closed the idle connection", async () => {
    await using server = await mailServer({ socketTimeout: 400 });
    await using channel = createSmtpChannel({ guard });
    expect(await channel.send(at(server.port), mail)).toMatchObject({ outcome: "succeeded" });
    await until(() => server.open() === 0);
    expect(await channel.send(at(server.port), mail)).toMatchObject({ outcome: "succeeded" });
  });

  test("logs in with the provider's name and password", async () => {
    await using server = await mailServer({ onAuth, allowInsecureAuth: true, hideSTARTTLS: true });
    await using channel = createSmtpChannel({ guard });
    const result = await channel.send({ ...at(server.port), username: "app", password: "secret" }, mail);
    expect(result.outcome).toBe("succeeded");
    expect(server.received).toMatchObject([{ user: "app" }]);
  });
});

describe("TLS", () => {
  const strict = createAddressGuard({ allow: ["127.0.0.0/8", "::1"], allowLoopback: false });

  test.each(["starttls", "tls"] as const)("by %s secures the mail", async (security) => {
    await using server = await mailServer({ secure: security === "tls" });
    await using channel = createSmtpChannel({ guard });
    expect(await channel.send({ ...at(server.port), security }, mail)).toMatchObject({ outcome: "succeeded" });
    expect(server.received).toMatchObject([{ secure: true }]);
  });

  test.each(["starttls", "tls"] as const)("by %s checks the certificate outside development mode", async (security) => {
    await using server = await mailServer({ secure: security === "tls" });
    await using channel = createSmtpChannel({ guard: strict });
    const result = await channel.send({ ...at(server.port), host: "localhost", security }, mail);
    expect(result).toMatchObject({ outcome: "transient", response: null, error: { code: "tls_failure" } });
    expect(server.received).toEqual([]);
  });

  test("that is asked for and not offered stops the mail", async () => {
    await using server = await mailServer({ hideSTARTTLS: true, disabledCommands: ["STARTTLS", "AUTH"] });
    await using channel = createSmtpChannel({ guard });
    const result = await channel.send({ ...at(server.port), security: "starttls" }, mail);
    expect(result).toMatchObject({ outcome: "permanent", error: { code: "tls_failure" } });
    expect(server.received).toEqual([]);
  });

  test("without the setting is not used", async () => {
    await using server = await mailServer();
    await using channel = createSmtpChannel({ guard: strict });
    expect(await channel.send(at(server.port), mail)).toMatchObject({ outcome: "succeeded" });
    expect(server.received).toMatchObject([{ secure: false }]);
  });
});

describe("a refusal", () => {
  test.each([
    [450, "transient"],
    [550, "permanent"],
  ])("of the recipient with %i is %s", async (code, outcome) => {
    const refuse = reply(code, "no such user here");
    const { result } = await sendTo({ onRcptTo: (_address, _session, callback) => callback(refuse) });
    expect(result).toMatchObject({ outcome, provider: "main", response: { status: code }, providerMessageId: null });
    expect(result.error?.code).toBe("recipient_refused");
    expect(result.response?.body).toContain("no such user here");
  });

  test.each([
    [451, "transient"],
    [553, "permanent"],
  ])("of the sender with %i is %s", async (code, outcome) => {
    const { result } = await sendTo({ onMailFrom: (_address, _session, callback) => callback(reply(code, "not you")) });
    expect(result).toMatchObject({ outcome, response: { status: code }, error: { code: "sender_refused" } });
  });

  test.each([
    [452, "transient"],
    [554, "permanent"],
  ])("of the message with %i is %s", async (code, outcome) => {
    const { result } = await sendTo({
      onData: (stream, _session, callback) => {
        stream.resume().once("end", () => callback(reply(code, "spam")));
      },
    });
    expect(result).toMatchObject({ outcome, response: { status: code }, error: { code: "message_refused" } });
  });

  test("of the password is permanent", async () => {
    await using server = await mailServer({ onAuth, allowInsecureAuth: true, hideSTARTTLS: true });
    await using channel = createSmtpChannel({ guard });
    const result = await channel.send({ ...at(server.port), username: "app", password: "wrong" }, mail);
    expect(result).toMatchObject({ outcome: "permanent", response: { status: 535 }, error: { code: "auth_failed" } });
    expect(JSON.stringify(result)).not.toContain("wrong");
  });

  test("of the connection is what its code says", async () => {
    const refuse = (code: number) => sendTo({ onConnect: (_session, callback) => callback(reply(code, "go away")) });
    expect((await refuse(421)).result).toMatchObject({ outcome: "transient", error: { code: "server_refused" } });
    expect((await refuse(554)).result).toMatchObject({ outcome: "permanent", error: { code: "server_refused" } });
  });

  test("does not cost the next mail its connection", async () => {
    await using server = await mailServer({
      onRcptTo: ({ address }, _session, callback) => callback(address.startsWith("bad") ? reply(550, "no") : null),
    });
    await using channel = createSmtpChannel({ guard });
    await channel.send(at(server.port), { ...mail, to: { email: "bad@example.com" } });
    expect(await channel.send(at(server.port), mail)).toMatchObject({ outcome: "succeeded" });
  });

  test("of an address that is none is ours, and permanent", async () => {
    const { result } = await sendTo({}, { to: { email: "a@b.example, c@d.example" } });
    expect(result).toMatchObject({ outcome: "permanent", response: null, error: { code: "invalid_message" } });
  });
});

describe("copies", () => {
  const cc = [{ email: "cc@Bücher.example" }, { email: "bad@example.com" }];
  const refusing = (name: string, code: number): SMTPServerOptions => ({
    onRcptTo: ({ address }, _session, callback) => callback(address.startsWith(name) ? reply(code, "no") : null),
  });

  test.each([450, 550])("that are refused (%i) change nothing", async (code) => {
    const { result, received } = await sendTo(refusing("bad", code), { cc });
    expect(result).toMatchObject({ outcome: "succeeded", error: null });
    expect(received).toMatchObject([{ to: ["user@example.com", "cc@bücher.example"] }]);
  });

  test.each([
    [450, "transient"],
    [550, "permanent"],
  ])("that are taken do not hide that the recipient was refused (%i)", async (code, outcome) => {
    const { result } = await sendTo(refusing("user", code), { cc });
    expect(result).toMatchObject({ outcome, response: { status: code }, error: { code: "recipient_refused" } });
  });

  test("that are taken while the recipient is refused are not sent again", async () => {
    let greylisted = true;
    await using server = await mailServer({
      onRcptTo: ({ address }, _session, callback) => {
        callback(address.startsWith("user") && greylisted ? reply(450, "later") : null);
      },
    });
    await using channel = createSmtpChannel({ guard });
    const first = await channel.send(at(server.port), { ...mail, cc });
    expect(first).toMatchObject({ outcome: "transient", response: { status: 450 } });
    await channel.send(at(server.port), { ...mail, cc });
    greylisted = false;
    expect(await channel.send(at(server.port), { ...mail, cc })).toMatchObject({ outcome: "succeeded" });
    const to = server.received.map((received) => received.to);
    expect(to).toEqual([["cc@bücher.example", "bad@example.com"], ["user@example.com"]]);
  });
});
