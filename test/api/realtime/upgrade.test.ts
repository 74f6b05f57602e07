// Before a socket is one: foreign hosts and origins, unknown paths, too many sockets; and the end of the server.
import { expect, test } from "vitest";
import { newClient, startLiveServer } from "../../support/live-server.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { upgrade } from "../../support/upgrade.ts";

test("development mode: pages of loopback and programs may open a socket, nobody else", async () => {
  await using server = await startLiveServer();
  const local = "http://localhost:3000";
  expect((await upgrade(server.port)).status).toBe(101);
  expect((await upgrade(server.port, { origin: local })).status).toBe(101);
  expect((await upgrade(server.port, { origin: local, host: "localhost" }, "/api/v1/ws/")).status).toBe(101);
  for (const origin of ["https://evil.example", "null", "http://localhost.evil.example"]) {
    const refused = await upgrade(server.port, { origin });
    expect([origin, refused.status]).toEqual([origin, 403]);
    expect(refused.headers["content-type"]).toMatch(/^application\/problem\+json/);
    expect(JSON.parse(refused.body)).toMatchObject({ status: 403, code: "forbidden" });
  }
  expect((await upgrade(server.port, { host: "evil.example" })).status).toBe(421);
  expect((await upgrade(server.port, {}, "/elsewhere")).status).toBe(404);
  expect((await upgrade(server.port, { "sec-websocket-key": "short" })).status).toBe(400);
  expect((await upgrade(server.port, { "x-request-id": "mine", host: "evil.example" })).headers["x-request-id"]).toBe(
    "mine",
  );
  expect(server.gateway.counts().sockets).toBe(0);
});

test("outside development mode CORS_ORIGINS and ALLOWED_HOSTS say who, and an address has 100 sockets", async () => {
  await using server = await startLiveServer({
    environment: {
      ...{ DATABASE_URL: "postgresql://unused", ADMIN_KEY: "a".repeat(32) },
      ...{ CORS_ORIGINS: "https://app.example", ALLOWED_HOSTS: "chat.example" },
    },
  });
  const host = "chat.example";
  expect((await upgrade(server.port, { host, origin: "https://app.example" })).status).toBe(101);
  expect((await upgrade(server.port, { host, origin: "http://localhost" })).status).toBe(403);
  expect((await upgrade(server.port, { host: "other.example" })).status).toBe(421);

  using open = new DisposableStack();
  const sockets = Array.from({ length: 100 }, () => open.use(new SocketClient(`${server.url}/ws`, { host })));
  await Promise.all(sockets.map((socket) => socket.opened()));
  const refused = await upgrade(server.port, { host });
  expect(refused.status).toBe(429);
  expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
  sockets[0]?.cut();
  while ((await upgrade(server.port, { host })).status !== 101) await new Promise((resolve) => setTimeout(resolve, 10));
});

test("when the server ends, every socket is closed with 4000, also one that does not answer", async () => {
  const server = await startLiveServer({ timings: { closeMs: 300 } });
  await using closing = server;
  const client = await newClient(closing);
  using polite = await SocketClient.connect(server.url, client.key);
  using silent = await SocketClient.connect(server.url, client.key);
  using unknown = new SocketClient(`${server.url}/ws`);
  await unknown.opened();
  silent.socket.pause();
  await server.gateway[Symbol.asyncDispose]();
  expect(await polite.closed()).toBe(4000);
  expect(await unknown.closed()).toBe(4000);
  expect(server.gateway.counts().sockets).toBe(0);
  expect((await upgrade(server.port)).status).toBe(503);
});
