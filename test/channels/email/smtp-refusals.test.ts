// Mails that an SMTP server refuses, whole or for some of their recipients.

import type { SMTPServerOptions } from "smtp-server";
import { describe, expect, test } from "vitest";
import type { MailContent } from "../../../src/channels/email/message.ts";
import { createSmtpChannel } from "../../../src/channels/email/smtp.ts";
import type { SmtpProvider } from "../../../src/channels/email/smtp-connection.ts";
import { createAddressGuard } from "../../../src/channels/guard.ts";
import { socketServer } from "../servers.ts";
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
  ] as const)("of the recipient with %i is %s", async (code, outcome) => {
    const refuse = reply(code, "no such user here");
    const { result } = await sendTo({ onRcptTo: (_address, _session, callback) => callback(refuse) });
    expect(result).toMatchObject({
      outcome,
      provider: "main",
      refusal: outcome === "permanent" ? "recipient" : null,
      response: { status: code },
      providerMessageId: null,
      recipients: [],
    });
    expect(result.error?.code).toBe("recipient_refused");
    expect(result.response?.body).toContain("no such user here");
  });

  test.each([
    [451, "transient"],
    [553, "permanent"],
  ] as const)("of the sender with %i is %s", async (code, outcome) => {
    const { result } = await sendTo({ onMailFrom: (_address, _session, callback) => callback(reply(code, "not you")) });
    const refusal = outcome === "permanent" ? "sender" : null;
    expect(result).toMatchObject({ outcome, refusal, response: { status: code }, error: { code: "sender_refused" } });
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
    expect(result).toMatchObject({ outcome, refusal: null, error: { code: "message_refused" } });
    expect(result.response?.status).toBe(code);
  });

  test("of the password is the account's, and transient", async () => {
    await using server = await mailServer({ onAuth, allowInsecureAuth: true, hideSTARTTLS: true });
    await using channel = createSmtpChannel({ guard });
    const result = await channel.send({ ...at(server.port), username: "app", password: "wrong" }, mail);
    expect(result).toMatchObject({ outcome: "transient", refusal: "account", error: { code: "auth_failed" } });
    expect(result.response?.status).toBe(535);
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

  const outcomes = (result: { recipients: readonly { outcome: string; status: number | null }[] }) =>
    result.recipients.map(({ outcome, status }) => [outcome, status]);

  test("that are deferred are tried again, and their recipient is not", async () => {
    let later = true;
    await using server = await mailServer({
      onRcptTo: ({ address }, _session, callback) => {
        callback(address.startsWith("bad") && later ? reply(451, "later") : null);
      },
    });
    await using channel = createSmtpChannel({ guard });
    const first = await channel.send(at(server.port), { ...mail, cc });
    expect(first).toMatchObject({
      outcome: "transient",
      response: { status: 451 },
      error: { code: "recipient_refused" },
      providerMessageId: "<dlv_1@app.example>",
    });
    expect(outcomes(first)).toEqual([
      ["taken", 250],
      ["taken", 250],
      ["deferred", 451],
    ]);
    later = false;
    // By another process as well: what is settled comes from the log.
    await using another = createSmtpChannel({ guard });
    const second = await another.send(at(server.port), { ...mail, cc, settled: [0, 1] });
    expect(second).toMatchObject({ outcome: "succeeded", recipients: [{ index: 2, outcome: "taken", status: 250 }] });
    const to = server.received.map((received) => received.to);
    expect(to).toEqual([["user@example.com", "cc@bücher.example"], ["bad@example.com"]]);
    expect(server.received[1]?.mail.to).toMatchObject([{ address: "user@example.com" }]);
  });

  test("that are refused for good are recorded, and change nothing", async () => {
    const { result, received } = await sendTo(refusing("bad", 550), { cc });
    expect(result).toMatchObject({ outcome: "succeeded", error: null });
    expect(outcomes(result)).toEqual([
      ["taken", 250],
      ["taken", 250],
      ["refused", 550],
    ]);
    expect(received).toMatchObject([{ to: ["user@example.com", "cc@bücher.example"] }]);
  });

  test.each([
    [450, "transient"],
    [550, "permanent"],
  ])("that are taken do not hide that the recipient was refused (%i)", async (code, outcome) => {
    const { result } = await sendTo(refusing("user", code), { cc });
    expect(result).toMatchObject({ outcome, response: { status: code }, error: { code: "recipient_refused" } });
    expect(outcomes(result)).toEqual([
      [code === 450 ? "deferred" : "refused", code],
      ["taken", 250],
      ["taken", 250],
    ]);
    expect(result.providerMessageId).toBeNull();
  });

  test("of a mail that nobody took are each what the server said", async () => {
    const { result } = await sendTo(
      {
        onRcptTo: ({ address }, _session, callback) => callback(reply(address.startsWith("user") ? 550 : 451, "no")),
      },
      { cc },
    );
    expect(result).toMatchObject({ outcome: "transient", response: { status: 451 } });
    expect(outcomes(result).map(([outcome]) => outcome)).toEqual(["refused", "deferred", "deferred"]);
  });
});

describe("a server's words", () => {
  test.each([
    ["the greeting", "554 5.7.1 Client host blocked\r\n", {}, "554 5.7.1 Client host blocked"],
    [
      "EHLO",
      "220 mx.example ESMTP\r\n",
      { EHLO: "550 5.7.1 Invalid EHLO name\r\n", HELO: "550 Invalid HELO name\r\n" },
      "Invalid HELO name",
    ],
    [
      "the sender",
      "220 mx\r\n",
      { EHLO: "250 mx\r\n", MAIL: "530 Authentication required\r\n" },
      "530 Authentication required",
    ],
  ])("at %s are kept", async (_stage, greeting, answers: Record<string, string>, words) => {
    await using server = await socketServer((socket) => {
      socket.write(greeting);
      socket.on("data", (data) => {
        const answer = answers[`${data}`.slice(0, 4)];
        if (answer !== undefined) socket.write(answer);
      });
    });
    await using channel = createSmtpChannel({ guard });
    expect((await channel.send(at(server.port), mail)).response?.body).toContain(words);
  });

  test("are asked for by the name that is set", async () => {
    const names: string[] = [];
    await using server = await mailServer({
      onMailFrom: (_address, session, callback) => {
        names.push(session.hostNameAppearsAs || "");
        callback();
      },
    });
    await using channel = createSmtpChannel({ guard, ehloName: "chat.example.com" });
    await channel.send(at(server.port), mail);
    expect(names).toEqual(["chat.example.com"]);
  });
});

describe("a server with room for few", () => {
  test("teaches the pool how many connections it allows", async () => {
    let refusals = 0;
    let open = 0;
    await using server = await mailServer({
      onConnect: (_session, callback) => {
        open += 1;
        if (open <= 3) return callback();
        refusals += 1;
        callback(reply(421, "4.7.0 too many connections"));
      },
      onClose: () => {
        open -= 1;
      },
      onRcptTo: (_address, _session, callback) => void setTimeout(callback, 20),
    });
    await using channel = createSmtpChannel({ guard });
    const all = Array.from({ length: 40 }, (_, n) =>
      channel.send(at(server.port), { ...mail, deliveryId: `dlv_${n}` }),
    );
    expect(new Set((await Promise.all(all)).map(({ outcome }) => outcome))).toEqual(new Set(["succeeded"]));
    expect(server.received).toHaveLength(40);
    expect(refusals).toBeLessThanOrEqual(5);
  });

  test("that allows none at all refuses each mail", async () => {
    await using server = await mailServer({ onConnect: (_session, callback) => callback(reply(421, "busy")) });
    await using channel = createSmtpChannel({ guard });
    const all = await Promise.all([1, 2, 3, 4, 5, 6].map(() => channel.send(at(server.port), mail)));
    expect(all.map(({ outcome, error }) => [outcome, error?.code])).toEqual(
      all.map(() => ["transient", "server_refused"]),
    );
  });
});

describe("the answer to a whole mail", () => {
  const slow = (ms: number): SMTPServerOptions => ({
    onData: (stream, _session, callback) => {
      stream.resume().once("end", () => void setTimeout(() => callback(null, "taken at last"), ms));
    },
  });

  test("is waited for beyond the time of the attempt and of any other silence", async () => {
    await using server = await mailServer(slow(900));
    await using channel = createSmtpChannel({ guard, silenceTimeoutMs: 300, attemptTimeoutMs: 400 });
    const waits: number[] = [];
    const result = await channel.send(at(server.port), mail, undefined, (ms) => waits.push(ms));
    expect(result).toMatchObject({ outcome: "succeeded", response: { body: "250 taken at last" } });
    expect(waits).toEqual([600_000]);
  });

  test("that never comes leaves it unknown whether the mail was taken", async () => {
    await using server = await mailServer(slow(5_000));
    await using channel = createSmtpChannel({ guard, acceptTimeoutMs: 200 });
    expect(await channel.send(at(server.port), mail)).toMatchObject({ outcome: "unknown", error: { code: "timeout" } });
  });

  test("that breaks off leaves it unknown too", async () => {
    await using server = await socketServer((socket) => {
      socket.write("220 mx ESMTP\r\n");
      socket.on("data", (data) => {
        if (`${data}`.endsWith("\r\n.\r\n")) socket.destroy();
        else socket.write(`${data}`.startsWith("DATA") ? "354 go\r\n" : "250 ok\r\n");
      });
    });
    await using channel = createSmtpChannel({ guard });
    const result = await channel.send(at(server.port), mail);
    expect(result).toMatchObject({ outcome: "unknown", response: null, error: { code: "connection_closed" } });
  });
});
