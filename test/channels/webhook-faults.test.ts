// Webhook receivers that do not answer, or answer what no HTTP server would, and targets that are none of ours.

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type AddressGuard, createAddressGuard } from "../../src/channels/guard.ts";
import { createWebhookChannel } from "../../src/channels/webhook.ts";
import { closedPort, httpServer, socketServer, until } from "./servers.ts";

const development = createAddressGuard({ allow: [], allowLoopback: true });
const secrets = [`whsec_${Buffer.alloc(32, 7).toString("base64")}`];
const request = (url: string) => ({ url, id: "dlv_1", timestamp: Date.now(), body: "{}", secrets });
const local = (port: number) => request(`http://127.0.0.1:${port}/`);

async function send(url: string, guard: AddressGuard = development) {
  await using channel = createWebhookChannel({ guard, connectTimeoutMs: 400, attemptTimeoutMs: 800 });
  return await channel.send(request(url));
}

describe("a receiver", () => {
  test("that refuses the connection", async () => {
    const result = await send(`http://127.0.0.1:${await closedPort()}/`);
    const nothing = { response: null, retryAfterMs: null, providerMessageId: null, recipients: [] };
    expect(result).toMatchObject({ outcome: "transient", error: { code: "connection_refused" }, ...nothing });
  });

  test.each(["127.0.0.1", "[::1]"])("address in a refusal is not repeated: %s", async (host) => {
    const result = await send(`http://${host}:${await closedPort()}/`);
    expect(result.error?.message).not.toMatch(/127\.|::1/);
  });

  test("that never answers is given up after the attempt's time, and its connection closed", async () => {
    await using server = await httpServer(() => {});
    await using channel = createWebhookChannel({ guard: development, attemptTimeoutMs: 300 });
    const result = await channel.send(local(server.port));
    expect(result).toMatchObject({ outcome: "transient", response: null, error: { code: "timeout" } });
    await until(() => server.open() === 0);
  });

  test("that sends a 2xx and then its body byte by byte has said it: the body is not waited for", async () => {
    await using server = await httpServer(async (_request, response) => {
      response.writeHead(200);
      while (!response.destroyed) {
        response.write(".");
        await sleep(20);
      }
    });
    await using channel = createWebhookChannel({ guard: development, bodyTimeoutMs: 200 });
    const result = await channel.send(local(server.port));
    expect(result).toMatchObject({ outcome: "succeeded", response: { status: 200 }, error: null });
    expect(result.response?.body).toMatch(/^\.+$/);
    await until(() => server.open() === 0);
  });

  test("that sends its headers byte by byte has said its status", async () => {
    await using server = await socketServer(async (socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      while (!socket.destroyed) {
        socket.write("x-slow: 1\r\n");
        await sleep(20);
      }
    });
    await using channel = createWebhookChannel({ guard: development, attemptTimeoutMs: 300 });
    expect(await channel.send(local(server.port))).toMatchObject({ outcome: "succeeded", response: { status: 200 } });
    await until(() => server.open() === 0);
  });

  test.each([
    [
      "an unasked 100 before it",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
      200,
      "ok",
    ],
    [
      "interim answers before a folded line",
      "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nx: 1\r\n 2\r\n\r\n",
      200,
      "",
    ],
    ["a blank behind Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 2 \r\n\r\nok", 200, "ok"],
    ["a folded header line", "HTTP/1.1 200 OK\r\nx-note: one\r\n two\r\ncontent-length: 2\r\n\r\nok", 200, "ok"],
    ["a length that is none", "HTTP/1.1 202 OK\r\ncontent-length: -1\r\n\r\n", 202, ""],
    [
      "both ways to frame a body",
      "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
      200,
      "ok",
    ],
    ["a header without a name", "HTTP/1.1 410 Gone\r\n: x\r\n\r\n", 410, ""],
    ["bare line feeds", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok", 200, "ok"],
    ["a body of more than its length", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokay", 200, "ok"],
    ["a chunk that is none", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 200, ""],
    ["endless headers", `HTTP/1.1 503 No\r\nretry-after: 7\r\n${`x: ${"y".repeat(1000)}\r\n`.repeat(90)}`, 503, ""],
  ])("counts by its status with %s", async (_what, answer, status, body) => {
    let requests = 0;
    await using server = await socketServer((socket) => {
      socket.once("data", () => {
        requests += 1;
        socket.end(answer);
      });
    });
    const result = await send(`http://127.0.0.1:${server.port}/`);
    const outcome = status === 410 ? "permanent" : status < 300 ? "succeeded" : "transient";
    expect(result).toMatchObject({ outcome, response: { status, body } });
    expect(result.retryAfterMs).toBe(status === 503 ? 7_000 : null);
    expect(requests).toBe(1);
  });

  test("that closes at once", async () => {
    await using server = await socketServer((socket) => socket.end());
    expect(await send(`http://127.0.0.1:${server.port}/`)).toMatchObject({ error: { code: "connection_closed" } });
  });

  test("that resets in the middle of its body has said its status", async () => {
    await using server = await socketServer((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", () => socket.resetAndDestroy());
      });
    });
    const result = await send(`http://127.0.0.1:${server.port}/`);
    expect(result).toMatchObject({ outcome: "succeeded", response: { status: 200 }, error: null });
  });

  test.each(["SSH-2.0-OpenSSH_9.6\r\n", "220 mail.example ESMTP\r\n", "\0\0\0\0", "HTTP/1.1 abc OK\r\n\r\n"])(
    "that speaks no HTTP: %j",
    async (greeting) => {
      await using server = await socketServer((socket) => void socket.write(greeting));
      const result = await send(`http://127.0.0.1:${server.port}/`);
      expect(result).toMatchObject({ outcome: "transient", response: null, error: { code: "protocol_error" } });
      expect(JSON.stringify(result)).not.toMatch(/SSH|ESMTP/);
    },
  );

  test("that speaks no TLS, or stays silent in its handshake", async () => {
    await using plain = await httpServer((_request, response) => void response.end());
    expect(await send(`https://127.0.0.1:${plain.port}/`)).toMatchObject({ error: { code: "tls_failure" } });
    await using silent = await socketServer(() => {});
    expect(await send(`https://127.0.0.1:${silent.port}/`)).toMatchObject({ error: { code: "timeout" } });
  });

  test("whose name does not resolve, or takes too long to", async () => {
    const unknown = () => Promise.reject(Object.assign(new Error("no"), { code: "ENOTFOUND" }));
    const guard = createAddressGuard({ allow: [], allowLoopback: true, resolve: unknown });
    expect(await send("http://hooks.example/", guard)).toMatchObject({ error: { code: "dns_failure" } });
    const slow = createAddressGuard({ allow: [], allowLoopback: true, resolve: () => new Promise(() => {}) });
    expect(await send("http://hooks.example/", slow)).toMatchObject({ error: { code: "timeout" } });
  });
});

describe("an attempt that is cancelled", () => {
  test("by its signal ends at once as cancelled", async () => {
    await using server = await httpServer(() => {});
    await using channel = createWebhookChannel({ guard: development });
    const controller = new AbortController();
    const result = channel.send({ ...local(server.port), signal: controller.signal });
    await until(() => server.open() === 1);
    controller.abort();
    expect(await result).toMatchObject({ outcome: "transient", error: { code: "cancelled" } });
    await until(() => server.open() === 0);
  });

  test("by closing the channel ends too", async () => {
    await using server = await httpServer(() => {});
    const channel = createWebhookChannel({ guard: development });
    const result = channel.send(local(server.port));
    await until(() => server.open() === 1);
    await channel[Symbol.asyncDispose]();
    expect(await result).toMatchObject({ outcome: "transient", error: { code: "cancelled" } });
    expect(await channel.send(local(server.port))).toMatchObject({ error: { code: "cancelled" } });
  });
});

describe("a target that is not public", () => {
  const production = createAddressGuard({ allow: [], allowLoopback: false });

  test.each(["127.0.0.1", "127.1", "0x7f000001", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::]"])(
    "is never connected to: %s",
    async (host) => {
      await using server = await httpServer((_request, response) => void response.end("inner"));
      const result = await send(`http://${host}:${server.port}/`, production);
      expect(result).toMatchObject({ outcome: "transient", response: null, error: { code: "address_not_allowed" } });
      expect(server.connections()).toBe(0);
    },
  );

  test("is not connected to when its name changed after it was set", async () => {
    await using server = await httpServer((_request, response) => void response.end("inner"));
    let address = "93.184.215.14";
    const resolve = async () => [{ address, family: 4 }];
    const guard = createAddressGuard({ allow: [], allowLoopback: false, resolve });
    const url = `http://rebind.example:${server.port}/`;
    expect(guard.checkUrl(url)).toEqual({ ok: true });
    address = "127.0.0.1";
    expect(await send(url, guard)).toMatchObject({ error: { code: "address_not_allowed" } });
    expect(server.connections()).toBe(0);
  });

  test("is not connected to when its name answers differently each time: the address checked is the one used", async () => {
    await using server = await httpServer((_request, response) => void response.end("right"));
    let asked = 0;
    const resolve = async () => {
      asked += 1;
      return [{ address: asked === 1 ? "127.0.0.1" : "169.254.169.254", family: 4 }];
    };
    const guard = createAddressGuard({ allow: [], allowLoopback: true, resolve });
    expect(await send(`http://rebind.example:${server.port}/`, guard)).toMatchObject({ outcome: "succeeded" });
    expect(asked).toBe(1);
  });

  test("is not connected to when one of its name's addresses is private", async () => {
    await using server = await httpServer((_request, response) => void response.end("inner"));
    const resolve = async () => [
      { address: "127.0.0.1", family: 4 },
      { address: "10.0.0.1", family: 4 },
    ];
    const guard = createAddressGuard({ allow: [], allowLoopback: true, resolve });
    const result = await send(`http://both.example:${server.port}/`, guard);
    expect(result).toMatchObject({ error: { code: "address_not_allowed" } });
    expect(server.connections()).toBe(0);
  });

  test.each(["ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "http://127.0.0.1:25/", "http://127.0.0.1/#x", "nonsense"])(
    "nor is a URL that could not be set: %s",
    async (url) => {
      expect(await send(url)).toMatchObject({ outcome: "transient", error: { code: "invalid_target" } });
    },
  );
});
