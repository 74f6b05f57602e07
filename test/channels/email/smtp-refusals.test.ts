// Mails that an SMTP server refuses, whole or for some of their recipients.

import type { SMTPServerOptions } from "smtp-server";
import { describe, expect, test } from "vitest";
import type { MailContent } from "../../../src/channels/email/message.ts";
import { createSmtpChannel } from "../../../src/channels/email/smtp.ts";
import type { SmtpProvider } from "../../../src/channels/email/smtp-connection.ts";
import { createAddressGuard } from "../../../src/channels/guard.ts";
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
