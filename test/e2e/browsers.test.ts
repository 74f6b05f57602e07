// A page on another origin gets nowhere: foreign hosts, foreign origins, and what CORS lets through.
import { request } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { type Api, newClient, tokenOf } from "./support/api.ts";
import { folderWithCluster, type Running, startServer } from "./support/server.ts";

const stack = new AsyncDisposableStack();
let server: Running;
let api: Api;

beforeAll(async () => {
  const folder = stack.use(await folderWithCluster());
  server = stack.use(await startServer({ dataDir: folder.path }));
  api = await newClient(server.url);
});
afterAll(() => stack.disposeAsync());

/** A request with headers that fetch would not let through. */
const raw = (method: string, path: string, headers: Record<string, string>, body?: string) =>
  new Promise<{ status: number; body: string; headers: Record<string, unknown> }>((resolve, reject) => {
    const call = request(`${server.url}${path}`, { method, headers }, async (response) => {
      let text = "";
      for await (const bytes of response) text += String(bytes);
      resolve({ status: response.statusCode ?? 0, body: text, headers: response.headers });
    });
    call.on("error", reject);
    call.end(body);
  });
const upgrade = (headers: Record<string, string>, path = "/ws") =>
  new Promise<number>((resolve) => {
    const socket = new WebSocket(`${server.url.replace("http", "ws")}${path}`, { headers });
    socket.on("error", () => undefined);
    socket.on("unexpected-response", (_request, response) => resolve(response.statusCode ?? 0));
    socket.on("open", () => {
      resolve(101);
      socket.close();
    });
  });
const clients = async () => (await raw("GET", "/dev/mailbox", { accept: "application/json" })).status;

test("a foreign Host is 421, on upgrades too", async () => {
  for (const host of ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "169.254.169.254"]) {
    const answer = await raw("GET", "/api/v1/clients/me", { host, authorization: `Bearer ${api.key}` });
    expect([host, answer.status]).toEqual([host, 421]);
    expect(JSON.parse(answer.body).code).toBe("unknown_host");
    expect(await upgrade({ host, authorization: `Bearer ${await tokenOf(api, "alice")}` })).toBe(421);
  }
  const port = new URL(server.url).port;
  expect((await raw("GET", "/livez", { host: `localhost:${port}` })).status).toBe(200);
});

test("a foreign Origin on the socket is 403; loopback pages and programs are let in", async () => {
  const authorization = `Bearer ${await tokenOf(api, "alice")}`;
  for (const origin of ["https://evil.example", "null", "http://localhost.evil.example"]) {
    expect([origin, await upgrade({ origin, authorization })]).toEqual([origin, 403]);
    expect([origin, await upgrade({ origin, authorization }, "/api/v1/ws")]).toEqual([origin, 403]);
  }
  expect(await upgrade({ origin: "http://localhost:3000", authorization })).toBe(101);
  expect(await upgrade({ authorization })).toBe(101);
});

test("registration and development writes from a foreign page are 403, and nothing is written", async () => {
  const headers = { origin: "https://evil.example", "content-type": "application/json" };
  const registered = await raw("POST", "/api/v1/clients", headers, JSON.stringify({ name: "Evil" }));
  expect([registered.status, JSON.parse(registered.body).code]).toEqual([403, "forbidden"]);
  expect((await raw("DELETE", "/dev/mailbox", headers)).status).toBe(403);
  expect(
    (await raw("POST", "/api/v1/clients", { ...headers, origin: server.url }, JSON.stringify({ name: "Own page" })))
      .status,
  ).toBe(201);
  expect(await clients()).toBe(200);
});

test("CORS: preflights without a key, bearer only, never for registration", async () => {
  const preflight = {
    origin: "https://app.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type",
  };
  const allowed = await raw("OPTIONS", "/api/v1/rooms", preflight);
  expect(allowed.status).toBe(204);
  expect(allowed.headers).toMatchObject({ "access-control-max-age": "600" });
  expect(allowed.headers["access-control-allow-origin"]).toMatch(/\*|https:\/\/app\.example/);
  expect(allowed.headers["access-control-allow-credentials"]).toBeUndefined();
  const read = await raw("GET", "/api/v1/rooms", { origin: "https://app.example", authorization: `Bearer ${api.key}` });
  expect(String(read.headers["access-control-expose-headers"]).toLowerCase()).toContain("position");
  const registration = await raw("OPTIONS", "/api/v1/clients", preflight);
  expect(registration.headers["access-control-allow-origin"]).toBeUndefined();
});
