// Paths and connections: what is another path, what is no request for the API, and the order of answers.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, newClient } from "../../e2e/support/api.ts";
import { converse, raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let headers: Readonly<Record<string, string>>;
let room: string;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  headers = { authorization: `Bearer ${api.key}`, "content-type": "application/json" };
  const made = await raw(server.url, "/api/v1/rooms", {
    ...{ method: "POST", headers },
    body: '{"name":"Lobby","members":[{"user_id":"ann","role":"owner"},{"user_id":"bob"}]}',
  });
  room = `/api/v1/rooms/${made.body.id}`;
});
afterAll(() => server[Symbol.asyncDispose]());

describe("another path", () => {
  test.each(["/members/..", "/members/.", "/members/%2e%2e", "/members/.%2E", "/members/../", "/", "/members/bob/"])(
    "DELETE of a room's %s is 404, and nothing is done",
    async (below) => {
      for (const target of [room + below, `http://localhost${room}${below}`]) {
        const answer = await raw(server.url, target, { method: "DELETE", headers });
        expect([target, answer.status, answer.body.code]).toEqual([target, 404, "not_found"]);
      }
      const { body } = await raw(server.url, room, { headers });
      expect(body).toMatchObject({ name: "Lobby", member_count: 2 });
    },
  );

  test("a final slash is ignored on GET and HEAD alone", async () => {
    expect((await raw(server.url, `${room}/`, { headers })).status).toBe(200);
    expect((await raw(server.url, `${room}/`, { method: "HEAD", headers })).status).toBe(200);
    for (const [method, path] of [
      ["POST", "/api/v1/rooms/"],
      ["POST", "/api/v1/clients/"],
      ["PUT", `${room}/members/cat/`],
      ["PATCH", `${room}/`],
    ] as const) {
      const answer = await raw(server.url, path, { method, headers, body: '{"name":"x"}' });
      expect([method, path, answer.status, answer.body.code]).toEqual([method, path, 404, "not_found"]);
    }
  });

  test("no dot segment leads from one route to another", async () => {
    expect((await raw(server.url, "/api/v1/users/../rooms", { headers })).status).toBe(404);
    expect((await raw(server.url, "/api/v1/users/../rooms")).status).toBe(401);
    expect((await raw(server.url, "/docs/../livez")).status).toBe(404);
  });
});

test("a GET of the WebSocket's path without an upgrade is 426 with a hint", async () => {
  for (const path of ["/ws", "/ws/", "/api/v1/ws"]) {
    const answer = await raw(server.url, path);
    expect([path, answer.status, answer.body.code]).toEqual([path, 426, "upgrade_required"]);
    expect(answer.body.detail).toContain("proxy");
    expect(answer.headers.upgrade).toBe("websocket");
  }
});

test("a transfer coding beside chunked is refused", async () => {
  const request = (coding: string) =>
    converse(
      server.url,
      `POST /api/v1/clients HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n` +
        `Transfer-Encoding: ${coding}\r\n\r\nc\r\n{"name":"a"}\r\n0\r\n\r\n`,
    );
  expect(await request("chunked")).toMatch(/^HTTP\/1\.1 201 /);
  expect(await request("gzip, chunked")).toMatch(/^HTTP\/1\.1 400 .*malformed_request/s);
});

describe("an upgrade behind other requests", () => {
  const plain = `GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n`;
  const upgrade = (host: string) =>
    `GET /ws HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
    `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
  const statuses = (heard: string) => [...heard.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
  const list = () => `GET /api/v1/rooms HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${api.key}\r\n\r\n`;

  test("that is refused is answered after them", async () => {
    expect(statuses(await converse(server.url, list() + plain + upgrade("evil.example")))).toEqual([200, 200, 421]);
  });

  test("is carried out after them", async () => {
    const closing = Buffer.from([0x88, 0x80, 0, 0, 0, 0]);
    expect(statuses(await converse(server.url, list() + plain + upgrade("localhost"), closing))).toEqual([
      200, 200, 101,
    ]);
  });
});
