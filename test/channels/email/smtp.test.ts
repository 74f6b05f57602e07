// Mails by SMTP as a real server takes them.

import type { SMTPServerOptions } from "smtp-server";
import { describe, expect, test } from "vitest";
import type { MailContent } from "../../../src/channels/email/message.ts";
import { createSmtpChannel } from "../../../src/channels/email/smtp.ts";
import type { SmtpProvider } from "../../../src/channels/email/smtp-connection.ts";
import { createAddressGuard } from "../../../src/channels/guard.ts";
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
      refusal: null,
      retryAfterMs: null,
      providerMessageId: "<dlv_1@app.example>",
      recipients: [],
    });
    expect(received).toMatchObject([{ from: "noreply@app.example", to: ["user@example.com"] }]);
    expect(received[0]?.mail).toMatchObject({ subject: "Welcome!", messageId: "<dlv_1@app.example>" });
    expect(received[0]?.mail.text?.trim()).toBe("Welcome");
  });

  test("keeps no password that the server's answer quotes", async () => {
    const onData: SMTPServerOptions["onData"] = (stream, _session, done) => {
      stream.resume().once("end", () => done(null, "queued for app with secret"));
    };
    await using server = await mailServer({ onAuth, allowInsecureAuth: true, onData });
    await using channel = createSmtpChannel({ guard });
    const account = { ...at(server.port), username: "app", password: "secret" };
    const { outcome, response } = await channel.send(account, mail);
    expect({ outcome, response }).toEqual({
      outcome: "succeeded",
      response: { status: 250, body: "250 queued for app with [redacted]" },
    });
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
