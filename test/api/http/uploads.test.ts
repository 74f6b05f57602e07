// Uploads that stall: they end, and fill the share of who sends them alone.
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { HTTP_TIMINGS } from "../../../src/api/http/hardening.ts";
import { type Api, apiOf, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

const MIB = 1024 * 1024;
const STALLED = 66;

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer({ bounds: { http: { ...HTTP_TIMINGS, bodyMs: 3_000 } } });
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

/** Begins a body of 1 MiB; what comes back is in `heard`. */
function begin(token: string, heard: string[]): Socket {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.on("error", () => undefined);
  socket.on("data", (data) => heard.push(data.toString("latin1")));
  const head = `POST /api/v1/rooms HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n`;
  socket.write(`${head}Content-Type: application/json\r\nContent-Length: ${MIB}\r\n\r\n`);
  return socket;
}

/** Sends a body but for its last byte. */
function stall(token: string, heard: string[]): Socket {
  const socket = begin(token, heard);
  socket.write(Buffer.alloc(MIB - 1, " "));
  return socket;
}

/** Sends a body as slowly as may be, and some more, until it is ended. */
function trickle(token: string, heard: string[]): Socket {
  const socket = begin(token, heard);
  const sending = setInterval(() => socket.write(Buffer.alloc(9 * 1024, " ")), 1_000);
  socket.once("close", () => clearInterval(sending));
  return socket;
}

test("66 of one user leave room for its tenant's key, its other users and other tenants, and end with 408", async () => {
  const others = [api, apiOf(server.url, await tokenOf(api, "bob")), await newClient(server.url)];
  const token = await tokenOf(api, "ann");
  const heard: string[] = [];
  // It began before them: what ends every upload in time would end it first.
  const answered: string[] = [];
  const slow = trickle(await tokenOf(api, "carol"), answered);
  const sockets = Array.from({ length: STALLED }, () => stall(token, heard));
  const ended = Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve))));
  const refused = () => heard.filter((answer) => answer.startsWith("HTTP/1.1 429 ")).length;
  // Once the share is full, all the others stay in it until they end.
  await expect.poll(refused, { timeout: 30_000 }).toBeGreaterThan(1);
  await new Promise((resolve) => setTimeout(resolve, 300));
  for (const one of others) {
    const answer = await one.post("/rooms", { name: "R", description: "x".repeat(2_000) });
    expect(answer.status).toBe(201);
  }
  await ended;
  expect(answered).toEqual([]);
  expect(slow.closed).toBe(false);
  slow.destroy();
  const late = heard.filter((answer) => answer.startsWith("HTTP/1.1 408 "));
  expect(late.length).toBeGreaterThan(0);
  expect(late[0]).toMatch(/Connection: close[\s\S]*request_timeout/i);
  expect((await apiOf(server.url, token).post("/rooms", { name: "Mine" })).status).toBe(201);
});

test("users of many tenants leave room for everybody else", async () => {
  const heard: string[] = [];
  const tokens = await Promise.all(Array.from({ length: 6 }, async () => tokenOf(await newClient(server.url), "eve")));
  const sockets = tokens.flatMap((token) => Array.from({ length: 40 }, () => stall(token, heard)));
  await expect.poll(() => heard.some((answer) => answer.startsWith("HTTP/1.1 429 ")), { timeout: 30_000 }).toBe(true);
  expect((await api.post("/rooms", { name: "R" })).status).toBe(201);
  expect(heard.filter((answer) => answer.startsWith("HTTP/1.1 503 "))).toEqual([]);
  for (const socket of sockets) socket.destroy();
});
