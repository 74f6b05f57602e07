// Trying a provider's settings: how far they carry, and what is said about it.

import type { SMTPServerOptions } from "smtp-server";
import { describe, expect, test } from "vitest";
import { createSmtpChannel } from "../../../src/channels/email/smtp.ts";
import type { SmtpProvider } from "../../../src/channels/email/smtp-connection.ts";
import { type AddressGuard, createAddressGuard } from "../../../src/channels/guard.ts";
import { closedPort, socketServer, until } from "../servers.ts";
import { mailServer, reply } from "./mail-server.ts";

const development = createAddressGuard({ allow: [], allowLoopback: true });
const at = (port: number): SmtpProvider => {
  return { name: "main", host: "127.0.0.1", port, security: "none", fromEmail: "noreply@app.example" };
};
const onAuth: NonNullable<SMTPServerOptions["onAuth"]> = ({ password }, _session, callback) => {
  if (password === "secret") callback(null, { user: "app" });
  else callback(reply(535, `5.7.8 bad credentials ${"x".repeat(300)}`));
};

async function verify(provider: SmtpProvider, toEmail: string | null = null, guard: AddressGuard = development) {
  const timeouts = { connectTimeoutMs: 300, greetingTimeoutMs: 300, silenceTimeoutMs: 400, verifyTimeoutMs: 1_000 };
  await using channel = createSmtpChannel({ guard, ...timeouts });
  return await channel.verify(provider, toEmail);
}

describe("settings that work", () => {
  test.each(["none", "starttls", "tls"] as const)(
    "carry to the end of the login (%s), and send nothing",
    async (security) => {
      await using server = await mailServer({ onAuth, allowInsecureAuth: true, secure: security === "tls" });
      const provider = { ...at(server.port), security, username: "app", password: "secret" };
      expect(await verify(provider)).toEqual({ ok: true, stage: "auth", code: null, message: null });
      expect(server.received).toEqual([]);
      await until(() => server.open() === 0);
    },
  );

  test("carry a test mail", async () => {
    await using server = await mailServer();
    expect(await verify(at(server.port), "me@example.com")).toEqual({
      ok: true,
      stage: "send",
      code: null,
      message: null,
    });
    expect(server.received).toMatchObject([{ to: ["me@example.com"], mail: { subject: "ChatAPI test mail" } }]);
  });
});

describe("settings that do not work", () => {
  test("fail to resolve", async () => {
    const unknown = () => Promise.reject(Object.assign(new Error("no"), { code: "ENOTFOUND" }));
    const guard = createAddressGuard({ allow: [], allowLoopback: true, resolve: unknown });
    expect(await verify({ ...at(25), host: "mail.example" }, null, guard)).toMatchObject({
      ok: false,
      stage: "resolve",
      code: "dns_failure",
    });
  });

  test("are not tried on a private address", async () => {
    await using server = await mailServer();
    const guard = createAddressGuard({ allow: [], allowLoopback: false });
    const verdict = await verify(at(server.port), "me@example.com", guard);
    expect(verdict).toMatchObject({ ok: false, stage: "resolve", code: "address_not_allowed" });
    expect(server.connections()).toBe(0);
  });

  test("fail to connect", async () => {
    expect(await verify(at(await closedPort()))).toMatchObject({ stage: "connect", code: "connection_refused" });
    await using silent = await socketServer(() => {});
    expect(await verify(at(silent.port))).toMatchObject({ ok: false, stage: "connect", code: "timeout" });
    await using closing = await socketServer((socket) => socket.end());
    expect(await verify(at(closing.port))).toMatchObject({ ok: false, stage: "connect", code: "connection_closed" });
  });

  test("fail in TLS", async () => {
    await using plain = await mailServer({ hideSTARTTLS: true, disabledCommands: ["STARTTLS", "AUTH"] });
    expect(await verify({ ...at(plain.port), security: "tls" })).toMatchObject({ stage: "tls", code: "tls_failure" });
    expect(await verify({ ...at(plain.port), security: "starttls" })).toMatchObject({
      stage: "tls",
      code: "tls_failure",
    });
    const strict = createAddressGuard({ allow: ["127.0.0.0/8"], allowLoopback: false });
    await using untrusted = await mailServer();
    const verdict = await verify({ ...at(untrusted.port), security: "starttls" }, null, strict);
    expect(verdict).toMatchObject({ ok: false, stage: "tls", code: "tls_failure" });
  });

  test("fail to log in, in the server's words, at most 200 characters of them", async () => {
    await using server = await mailServer({ onAuth, allowInsecureAuth: true, hideSTARTTLS: true });
    const verdict = await verify({ ...at(server.port), username: "app", password: "wrong" });
    expect(verdict).toMatchObject({ ok: false, stage: "auth", code: "auth_failed" });
    expect(verdict.message).toContain("bad credentials");
    expect(verdict.message).toHaveLength(200);
  });

  test("fail when a login is set that the server does not offer, or lacks its password", async () => {
    await using server = await mailServer();
    const provider = { ...at(server.port), username: "app" };
    expect(await verify({ ...provider, password: "x" })).toMatchObject({
      ok: false,
      stage: "auth",
      code: "auth_failed",
    });
    expect(await verify(provider)).toMatchObject({ ok: false, stage: "auth", code: "auth_failed" });
  });

  test("fail to send", async () => {
    await using server = await mailServer({
      onMailFrom: (_address, _session, callback) => callback(reply(550, "not your domain")),
    });
    const verdict = await verify(at(server.port), "me@example.com");
    expect(verdict).toMatchObject({ ok: false, stage: "send", code: "sender_refused" });
    expect(verdict.message).toContain("not your domain");
    expect(await verify(at(server.port), "no address")).toMatchObject({ stage: "send", code: "invalid_message" });
  });

  test("fail to send when the recipient is refused, and leave no connection open", async () => {
    const closed = Promise.withResolvers<void>();
    await using server = await mailServer({
      onRcptTo: (_address, _session, callback) => callback(reply(550, "no such mailbox")),
      onClose: () => closed.resolve(),
    });
    const verdict = await verify(at(server.port), "nobody@example.com");
    expect(verdict).toMatchObject({ ok: false, stage: "send", code: "recipient_refused" });
    expect(verdict.message).toContain("no such mailbox");
    await closed.promise;
  });

  test.each(["SSH-2.0-OpenSSH_9.6 internal\r\n", "220 internal FTP\r\n", "internal", "-ERR internal\r\n"])(
    "never repeat what a server said that spoke no SMTP: %j",
    async (greeting) => {
      await using server = await socketServer((socket) => {
        socket.write(greeting);
        socket.on("data", () => socket.write("500 internal\r\n"));
      });
      const verdict = await verify(at(server.port), "me@example.com");
      expect(verdict).toMatchObject({ ok: false, stage: "connect" });
      expect(JSON.stringify(verdict)).not.toContain("internal");
    },
  );

  test.each(["554 5.7.1 blocked\r\n", "421 too many connections\r\n"])(
    "repeat a refusal in the form of SMTP: %j",
    async (greeting) => {
      await using server = await socketServer((socket) => void socket.write(greeting));
      const verdict = await verify(at(server.port));
      expect(verdict).toMatchObject({ ok: false, stage: "connect", code: "server_refused" });
      expect(verdict.message).toContain(greeting.trim());
    },
  );

  test("end in time, and send nothing afterwards", async () => {
    let mailFrom = 0;
    await using server = await socketServer((socket) => {
      setTimeout(() => socket.write("220 late\r\n"), 250);
      socket.on("data", (data) => {
        if (`${data}`.startsWith("MAIL")) mailFrom += 1;
        setTimeout(() => !socket.destroyed && socket.write("250 late\r\n"), 250);
      });
    });
    await using channel = createSmtpChannel({ guard: development, verifyTimeoutMs: 400 });
    const verdict = await channel.verify(at(server.port), "me@example.com");
    expect(verdict).toMatchObject({ ok: false, code: "timeout" });
    await until(() => server.open() === 0);
    expect(mailFrom).toBe(0);
  });
});
