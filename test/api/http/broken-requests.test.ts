// What is no HTTP, or not meant for this server, gets its problem too; and no answer is taken for another's.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, newClient } from "../../e2e/support/api.ts";
import { converse, raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const HOST = "Host: localhost";
const head = (...lines: string[]) => `${lines.join("\r\n")}\r\n\r\n`;
const post = (...lines: string[]) =>
  head("POST /api/v1/rooms HTTP/1.1", HOST, `X-API-Key: ${api.key}`, "Content-Type: application/json", ...lines);
const room = (name: string) => {
  const body = JSON.stringify({ name });
  return post(`Content-Length: ${body.length}`) + body;
};

/** Status, media type and code of each answer in what came back. */
const answersIn = (heard: string) =>
  [...heard.matchAll(/HTTP\/1\.1 (\d+) .*?Content-Type: ([^;\r]+).*?\r\n\r\n(\{.*?\})(?=HTTP|$)/gs)].map(
    ([, status, type, body = "{}"]) => [Number(status), type, JSON.parse(body).code],
  );
const problem = (status: number, code: string) => [status, "application/problem+json", code];
const malformed = problem(400, "malformed_request");

describe("is told so, and the connection ends", () => {
  test.each<readonly [string, () => string, readonly unknown[]]>([
    ["no HTTP at all", () => "x".repeat(100), malformed],
    ["a line that goes on in the next", () => head("GET /livez HTTP/1.1", HOST, "X-A: b", " c"), malformed],
    ["two lengths", () => `${post("Content-Length: 2", "Content-Length: 3")}{}`, malformed],
    ["a length beside chunks", () => `${post("Content-Length: 5", "Transfer-Encoding: chunked")}0\r\n\r\n`, malformed],
    ["chunks of no size", () => `${post("Transfer-Encoding: chunked")}zz\r\n{}\r\n0\r\n\r\n`, malformed],
    ["an endless chunk extension", () => `${post("Transfer-Encoding: chunked")}2;${"a".repeat(20_000)}`, malformed],
    ["another coding than chunks", () => `${post("Transfer-Encoding: xchunked")}0\r\n\r\n`, malformed],
    ["a tunnel", () => head("CONNECT localhost:80 HTTP/1.1", HOST), malformed],
    [
      "headers over their bound",
      () => head("GET / HTTP/1.1", HOST, `X-A: ${"a".repeat(20_000)}`),
      problem(431, "headers_too_large"),
    ],
  ])("%s", async (_name, bytes, expected) => {
    expect(answersIn(await converse(server.url, bytes()))).toEqual([expected]);
  });
});

test("an answer that is under way is not taken for that of the nonsense behind it", async () => {
  const made = [201, "application/json", undefined];
  for (const last of ["nonsense\r\n\r\n", head("CONNECT localhost:80 HTTP/1.1", HOST)]) {
    const heard = await converse(server.url, `${room("first")}${room("second")}${last}`);
    expect(answersIn(heard)).toEqual([made, made, malformed]);
  }
});

test("a body that breaks after its problem ends the connection", async () => {
  const long = 2 * 1024 * 1024;
  const chunk = `${long.toString(16)}\r\n${"x".repeat(long)}\r\n`;
  const heard = await converse(server.url, `${post("Transfer-Encoding: chunked")}${chunk}`, "zz\r\n");
  expect(answersIn(heard)).toEqual([problem(413, "body_too_large")]);
});

describe("a target", () => {
  const get = (target: string, ...lines: string[]) =>
    converse(server.url, head(`GET ${target} HTTP/1.1`, "Connection: close", ...lines)).then(answersIn);

  test("with a host of its own is meant for that", async () => {
    expect(await get("http://localhost/livez", "Host: evil.example")).toEqual([[200, "application/json", undefined]]);
    expect(await get("http://evil.example/livez", HOST)).toEqual([problem(421, "unknown_host")]);
  });

  test.each(["http://[::1/", "http://", "ftp://localhost/", "HTTP://localhost:99999/"])(
    "that is none: %s",
    async (target) => {
      expect(await get(target, HOST)).toEqual([malformed]);
    },
  );

  test("has exactly one host", async () => {
    expect(await get("/livez")).toEqual([malformed]);
    expect(await get("/livez", HOST, "Host: evil.example")).toEqual([malformed]);
  });
});

test("of two credentials neither counts", async () => {
  const path = "/api/v1/clients/me";
  const lines = [`GET ${path} HTTP/1.1`, HOST, "Connection: close", `Authorization: Bearer ${api.key}`];
  const heard = await converse(server.url, head(...lines, "Authorization: Bearer x"));
  expect(answersIn(heard)).toEqual([problem(401, "unauthenticated")]);
});

test("an expectation other than 100-continue is not met", async () => {
  const { status, body } = await raw(server.url, "/livez", { headers: { expect: "a miracle" } });
  expect([status, body.code]).toEqual([417, "expectation_failed"]);
  const asked = { method: "POST", headers: { expect: "100-continue", "content-type": "application/json" }, body: "{}" };
  expect((await raw(server.url, "/api/v1/clients", asked)).status).toBe(422);
});

describe("an upgrade", () => {
  const upgrade = (method: string, ...lines: string[]) =>
    converse(server.url, head(`${method} /ws HTTP/1.1`, HOST, "Connection: Upgrade", "Upgrade: websocket", ...lines));

  test("that is none is told so", async () => {
    expect(answersIn(await upgrade("POST", "Content-Length: 0"))).toEqual([problem(405, "method_not_allowed")]);
    for (const lines of [[], ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 99"]]) {
      const heard = await upgrade("GET", ...lines);
      expect(answersIn(heard)).toEqual([malformed]);
      expect(heard).toContain("Sec-WebSocket-Version: 13\r\n");
    }
  });
});
