// What a webhook looks like to its receiver, and what the receiver's answer comes to.

import { createHmac, randomBytes } from "node:crypto";
import type { IncomingHttpHeaders, RequestListener } from "node:http";
import { Webhook } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import { createAddressGuard } from "../../src/channels/guard.ts";
import { createWebhookChannel } from "../../src/channels/webhook.ts";
import { DAY_MS } from "../../src/contract/time.ts";
import { bodyOf, httpServer, httpsServer, socketServer, until } from "./servers.ts";

const guard = createAddressGuard({ allow: [], allowLoopback: true });
const secret = `whsec_${randomBytes(32).toString("base64")}`;
const body = JSON.stringify({ type: "notification", data: { content: "Grüße €" } });

const request = (port: number, path = "/hook?a=1") => {
  return { url: `http://127.0.0.1:${port}${path}`, id: "dlv_1", timestamp: Date.now(), body, secrets: [secret] };
};

async function answerTo(listener: RequestListener) {
  await using server = await httpServer(listener);
  await using channel = createWebhookChannel({ guard });
  return await channel.send(request(server.port));
}

describe("what is sent", () => {
  test("is a signed POST that standardwebhooks verifies with either secret", async () => {
    const received: {
      headers: IncomingHttpHeaders;
      url: string | undefined;
      method: string | undefined;
      body: string;
    }[] = [];
    await using server = await httpServer(async (message, response) => {
      const { headers, url, method } = message;
      received.push({ headers, url, method, body: await bodyOf(message) });
      response.end("thanks");
    });
    await using channel = createWebhookChannel({ guard });
    const older = `whsec_${randomBytes(32).toString("base64")}`;
    const timestamp = Date.now();
    const result = await channel.send({ ...request(server.port), timestamp, secrets: [secret, older] });

    expect(result).toEqual({
      outcome: "succeeded",
      provider: "webhook",
      response: { status: 200, body: "thanks" },
      error: null,
      retryAfterMs: null,
      providerMessageId: null,
      recipients: [],
      refusal: null,
    });
    const [first] = received;
    expect(first).toMatchObject({ method: "POST", url: "/hook?a=1", body });
    const headers = Object.fromEntries(Object.entries(first?.headers ?? {}).map(([name, value]) => [name, `${value}`]));
    expect(headers).toMatchObject({
      "content-type": "application/json",
      "user-agent": "ChatAPI-Webhook/1",
      "webhook-id": "dlv_1",
      "webhook-timestamp": `${Math.floor(timestamp / 1000)}`,
    });
    for (const known of [secret, older]) expect(new Webhook(known).verify(body, headers)).toEqual(JSON.parse(body));
    expect(() => new Webhook(`whsec_${randomBytes(32).toString("base64")}`).verify(body, headers)).toThrow();
    const key = Buffer.from(secret.slice("whsec_".length), "base64");
    const content = `dlv_1.${headers["webhook-timestamp"]}.${body}`;
    expect(headers["webhook-signature"]?.split(" ")[0]).toBe(
      `v1,${createHmac("sha256", key).update(content).digest("base64")}`,
    );
  });

  test("has the signature of the test vector that other implementations share", async () => {
    let signature: unknown;
    await using server = await httpServer((message, response) => {
      signature = message.headers["webhook-signature"];
      response.end();
    });
    await using channel = createWebhookChannel({ guard });
    const vector = {
      secrets: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
      id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
      timestamp: 1_614_265_330_000,
      body: '{"test": 2432232314}',
    };
    await channel.send({ ...request(server.port), ...vector });
    expect(signature).toBe("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
  });

  test("never leaves unsigned", async () => {
    await using channel = createWebhookChannel({ guard });
    await expect(channel.send({ ...request(9), secrets: [] })).rejects.toThrow(RangeError);
  });

  test("shares connections when attempts follow each other", async () => {
    await using server = await httpServer((_request, response) => void response.end("ok"));
    await using channel = createWebhookChannel({ guard });
    for (let n = 0; n < 20; n += 1) expect((await channel.send(request(server.port))).outcome).toBe("succeeded");
    expect(server.connections()).toBeLessThanOrEqual(2);
  });

  test("goes over TLS; loopback's certificate is taken unchecked in development mode only", async () => {
    await using server = await httpsServer((_request, response) => void response.end("ok"));
    const url = `https://localhost:${server.port}/`;
    await using channel = createWebhookChannel({ guard });
    expect(await channel.send({ ...request(0), url })).toMatchObject({ outcome: "succeeded" });

    const open = createAddressGuard({ allow: ["127.0.0.0/8", "::1"], allowLoopback: false });
    await using strict = createWebhookChannel({ guard: open });
    expect(await strict.send({ ...request(0), url })).toMatchObject({
      outcome: "transient",
      response: null,
      error: { code: "tls_failure" },
    });
  });
});

describe("an answer", () => {
  test.each([200, 201, 202, 204, 299])("of %i succeeded", async (status) => {
    const result = await answerTo((_request, response) => void response.writeHead(status).end());
    expect(result).toMatchObject({ outcome: "succeeded", response: { status, body: "" }, error: null });
  });

  test.each([300, 304, 400, 401, 404, 408, 409, 422, 429, 500, 503])("of %i is transient", async (status) => {
    const result = await answerTo((_request, response) => void response.writeHead(status).end("no"));
    expect(result).toMatchObject({ outcome: "transient", error: { code: "unexpected_status" }, retryAfterMs: null });
    expect(result.response?.status).toBe(status);
  });

  test("of 410 is permanent", async () => {
    const result = await answerTo(
      (_request, response) => void response.writeHead(410, { "retry-after": "5" }).end("no"),
    );
    const gone = { outcome: "permanent", response: { status: 410, body: "no" }, error: { code: "gone" } };
    expect(result).toMatchObject({ ...gone, retryAfterMs: null });
  });

  test("is kept as its first KiB of text, without what PostgreSQL refuses", async () => {
    const bytes = Buffer.concat([Buffer.from("a\0b"), Buffer.from([0xff]), Buffer.from("€".repeat(1000))]);
    const { response } = await answerTo((_request, answer) => void answer.writeHead(500).end(bytes));
    expect(response?.body).toBe(`ab\u{fffd}${"€".repeat(340)}`);
  });

  test.each([301, 302, 303, 307, 308])("that redirects (%i) is not followed", async (status) => {
    let reached = false;
    await using inner = await httpServer((_request, response) => {
      reached = true;
      response.end("inner");
    });
    const location = `http://127.0.0.1:${inner.port}/`;
    const result = await answerTo((_request, response) => void response.writeHead(status, { location }).end());
    expect(result).toMatchObject({ outcome: "transient", response: { status } });
    expect(reached).toBe(false);
  });

  test.each([429, 503, 500, 302])("of %i may say when to come again", async (status) => {
    const result = await answerTo(
      (_request, response) => void response.writeHead(status, { "retry-after": "120" }).end(),
    );
    expect(result).toMatchObject({ outcome: "transient", retryAfterMs: 120_000 });
  });

  test.each([
    ["0", 0],
    ["30", 30_000],
    [" 30 ", 30_000],
    ["86400", DAY_MS],
    ["86401", DAY_MS],
    ["9".repeat(400), DAY_MS],
    ["Wed, 21 Oct 2026 07:29:00 GMT", 60_000],
    ["Wed, 21 Oct 2026 07:27:00 GMT", 0],
    ["Wed, 21 Oct 2099 07:28:00 GMT", DAY_MS],
    ["-5", null],
    ["1.5", null],
    ["soon", null],
    ["", null],
  ])("with Retry-After %j asks for %j ms", async (value, wait) => {
    await using server = await socketServer((socket) => {
      socket.once("data", () => socket.end(`HTTP/1.1 503 Busy\r\nretry-after: ${value}\r\ncontent-length: 0\r\n\r\n`));
    });
    await using channel = createWebhookChannel({ guard });
    const result = await channel.send({ ...request(server.port), timestamp: Date.parse("2026-10-21T07:28:00Z") });
    expect(result.retryAfterMs).toBe(wait);
  });
});

describe("an endless answer", () => {
  const endless: RequestListener = (_request, response) => {
    const more = () => {
      while (!response.destroyed && response.write(Buffer.alloc(16_384, "x")));
    };
    response.on("drain", more);
    more();
  };

  test("to a 2xx counts as the 2xx, and its connection is cut", async () => {
    await using server = await httpServer(endless);
    await using channel = createWebhookChannel({ guard });
    const result = await channel.send(request(server.port));
    expect(result).toMatchObject({ outcome: "succeeded", response: { status: 200, body: "x".repeat(1024) } });
    await until(() => server.open() === 0);
  });

  test("to an error is the error", async () => {
    await using server = await httpServer((message, response) => {
      response.statusCode = 500;
      endless(message, response);
    });
    await using channel = createWebhookChannel({ guard });
    expect(await channel.send(request(server.port))).toMatchObject({ outcome: "transient", response: { status: 500 } });
    await until(() => server.open() === 0);
  });
});
