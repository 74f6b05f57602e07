// SMTP servers that are slow, broken or none at all, and hosts that may not be connected to.

import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { createSmtpChannel } from "../../../src/channels/email/smtp.ts";
import type { SmtpProvider } from "../../../src/channels/email/smtp-connection.ts";
import { type AddressGuard, createAddressGuard } from "../../../src/channels/guard.ts";
import { closedPort, socketServer, until } from "../servers.ts";
import { mailServer } from "./mail-server.ts";

const development = createAddressGuard({ allow: [], allowLoopback: true });
const timeouts = { connectTimeoutMs: 300, greetingTimeoutMs: 300, silenceTimeoutMs: 400, attemptTimeoutMs: 2_000 };
const at = (port: number): SmtpProvider => {
  return { name: "main", host: "127.0.0.1", port, security: "none", fromEmail: "noreply@app.example" };
};
const mail = { deliveryId: "dlv_1", to: { email: "user@example.com" }, subject: "x", content: "y", at: Date.now() };

async function send(provider: SmtpProvider, guard: AddressGuard = development) {
  await using channel = createSmtpChannel({ guard, ...timeouts });
  return await channel.send(provider, mail);
}

/** Speaks SMTP by a script: what to answer to each command, by its first word. */
const script = (answers: Record<string, string>) => (socket: Socket) => {
  socket.write(answers.greeting ?? "220 test ESMTP\r\n");
  socket.setEncoding("utf8").on("data", (data: string) => {
    for (const line of data.split("\r\n")) {
      const answer = answers[line.split(" ")[0] ?? ""];
      if (answer !== undefined) socket.write(answer);
    }
  });
};
const willing = {
  EHLO: "250 test\r\n",
  MAIL: "250 ok\r\n",
  RCPT: "250 ok\r\n",
  DATA: "354 go\r\n",
  RSET: "250 ok\r\n",
};

describe("a server", () => {
  test("that refuses the connection", async () => {
    const result = await send(at(await closedPort()));
    expect(result).toMatchObject({ outcome: "transient", response: null, error: { code: "connection_refused" } });
  });

  test.each([
    "SSH-2.0-OpenSSH_9.6 internal\r\n",
    "-ERR internal redis\r\n",
    "220-internal\r\ngarbage\r\n",
    "\0\0\0internal\r\n\r\n",
  ])("that speaks no SMTP is not quoted: %j", async (greeting) => {
    await using server = await socketServer(
      script({ greeting, ...willing, EHLO: "500 internal?\r\n", HELO: "internal\r\n" }),
    );
    const result = await send(at(server.port));
    expect(result).toMatchObject({ outcome: "transient", response: null, error: { code: "protocol_error" } });
    expect(JSON.stringify(result)).not.toContain("internal");
  });

  test("that speaks another protocol with SMTP's numbers is not quoted either", async () => {
    const greeting = "220 internal FTP server\r\n";
    await using server = await socketServer(script({ greeting, EHLO: "500 internal\r\n", HELO: "502 internal\r\n" }));
    const result = await send(at(server.port));
    expect(result).toMatchObject({ response: { status: 502, body: "" }, error: { code: "server_refused" } });
    expect(JSON.stringify(result)).not.toContain("internal");
  });

  test("that never greets", async () => {
    await using server = await socketServer(() => {});
    expect(await send(at(server.port))).toMatchObject({ outcome: "transient", error: { code: "timeout" } });
    await until(() => server.open() === 0);
  });

  test.each(["MAIL", "RCPT", "DATA", "EHLO"])("that falls silent at %s", async (command) => {
    await using server = await socketServer(script({ ...willing, [command]: "" }));
    expect(await send(at(server.port))).toMatchObject({ outcome: "transient", error: { code: "timeout" } });
    await until(() => server.open() === 0);
  });

  test("that never finishes a reply is given up after the attempt's time", async () => {
    await using server = await socketServer(async (socket) => {
      socket.write("220 test\r\n");
      while (!socket.destroyed) {
        socket.write("250-more\r\n");
        await sleep(20);
      }
    });
    await using channel = createSmtpChannel({ guard: development, ...timeouts, attemptTimeoutMs: 300 });
    const result = await channel.send(at(server.port), mail);
    expect(result).toMatchObject({ outcome: "transient", error: { code: "timeout" } });
    const impatient = await channel.send({ ...at(server.port), timeoutSeconds: 0.1 }, mail);
    expect(impatient).toMatchObject({ error: { code: "timeout", message: "The mail was not taken within 0.1 s" } });
    await until(() => server.open() === 0);
  });

  test("with an endless reply", async () => {
    await using server = await socketServer((socket) => {
      socket.write("220 test\r\n");
      const more = () => {
        while (!socket.destroyed && socket.write("250-more\r\n".repeat(1000)));
      };
      socket.on("drain", more);
      more();
    });
    expect(await send(at(server.port))).toMatchObject({ outcome: "transient", error: { code: "protocol_error" } });
  });

  test("that closes before its greeting, or in the middle", async () => {
    await using early = await socketServer((socket) => socket.end());
    expect(await send(at(early.port))).toMatchObject({ outcome: "transient", error: { code: "connection_closed" } });
    await using late = await socketServer((socket) => {
      script({ ...willing, MAIL: "" })(socket);
      socket.on("data", (data) => `${data}`.startsWith("MAIL") && socket.destroy());
    });
    expect(await send(at(late.port))).toMatchObject({ outcome: "transient", error: { code: "connection_closed" } });
  });

  test("with more than the first KiB to say is cut short", async () => {
    const RCPT = `550 ${"€".repeat(1000)}\r\n`;
    await using server = await socketServer(script({ ...willing, RCPT }));
    const result = await send(at(server.port));
    expect(result).toMatchObject({ outcome: "permanent", response: { status: 550, body: `550 ${"€".repeat(340)}` } });
  });

  test("that is a plain one where TLS was asked for", async () => {
    await using server = await mailServer();
    const result = await send({ ...at(server.port), security: "tls" });
    expect(result).toMatchObject({ outcome: "transient", error: { code: "tls_failure" } });
  });
});

describe("an attempt", () => {
  test("that is cancelled ends at once, also while it waits for a connection", async () => {
    await using server = await socketServer(() => {});
    await using channel = createSmtpChannel({ guard: development, maxConnections: 1 });
    const controller = new AbortController();
    const both = [1, 2].map(() => channel.send(at(server.port), mail, controller.signal));
    await until(() => server.open() === 1);
    controller.abort();
    for (const result of await Promise.all(both)) {
      expect(result).toMatchObject({ outcome: "transient", error: { code: "cancelled" } });
    }
    await until(() => server.open() === 0);
  });

  test("under way when the channel closes ends as transient", async () => {
    await using server = await socketServer(() => {});
    const channel = createSmtpChannel({ guard: development });
    const result = channel.send(at(server.port), mail);
    await until(() => server.open() === 1);
    await channel[Symbol.asyncDispose]();
    expect(await result).toMatchObject({ outcome: "transient" });
    await until(() => server.open() === 0);
  });
});

describe("a host that is not public", () => {
  const production = createAddressGuard({ allow: [], allowLoopback: false });

  test.each(["127.0.0.1", "127.1", "2130706433", "localhost", "::1", "[::ffff:127.0.0.1]", "0.0.0.0", "127.0.0.1%lo"])(
    "is never connected to: %s",
    async (host) => {
      await using server = await mailServer();
      const result = await send({ ...at(server.port), host }, production);
      expect(result).toMatchObject({ outcome: "transient", response: null, error: { code: "address_not_allowed" } });
      expect(server.connections()).toBe(0);
    },
  );

  test("is not connected to when its name changed after it was set, nor by a pool that knew it", async () => {
    await using server = await mailServer({ socketTimeout: 400 });
    let address = "127.0.0.1";
    const guard = createAddressGuard({
      allow: ["127.0.0.1"],
      allowLoopback: false,
      resolve: async () => [{ address, family: 4 }],
    });
    await using channel = createSmtpChannel({ guard, ...timeouts });
    const provider = { ...at(server.port), host: "mail.example" };
    expect(await channel.send(provider, mail)).toMatchObject({ outcome: "succeeded" });
    await until(() => server.open() === 0);
    address = "127.0.0.2";
    expect(await channel.send(provider, mail)).toMatchObject({ error: { code: "address_not_allowed" } });
    expect(server.connections()).toBe(1);
  });

  test("by a name that does not resolve", async () => {
    const unknown = () => Promise.reject(Object.assign(new Error("no"), { code: "ENOTFOUND" }));
    const guard = createAddressGuard({ allow: [], allowLoopback: true, resolve: unknown });
    const result = await send({ ...at(25), host: "mail.example" }, guard);
    expect(result).toMatchObject({ outcome: "transient", error: { code: "dns_failure" } });
  });
});
