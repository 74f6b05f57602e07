// Browsers: hosts that are ours, pages that may call, and what they may see.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostCheck, ownOriginCheck, socketOriginCheck } from "../../../src/api/http/origin.ts";
import { newClient } from "../../e2e/support/api.ts";
import { raw } from "../../support/raw.ts";
import { production, startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let key: string;
beforeAll(async () => {
  server = await startTestServer();
  key = `Bearer ${(await newClient(server.url)).key}`;
});
afterAll(() => server[Symbol.asyncDispose]());

const PAGE = "https://app.example.com";
const preflight = { origin: PAGE, "access-control-request-method": "POST" };
const corsOf = (headers: object) => Object.keys(headers).filter((name) => name.startsWith("access-control-"));

describe("CORS", () => {
  test("lets any page call the API, with what it needs of the answer", async () => {
    const answer = await raw(server.url, "/api/v1/clients/me", { headers: { authorization: key, origin: PAGE } });
    expect(answer.status).toBe(200);
    expect(answer.headers["access-control-allow-origin"]).toBe("*");
    expect(answer.headers["access-control-allow-credentials"]).toBeUndefined();
    const exposed = "Position ETag Location Retry-After Idempotent-Replayed RateLimit RateLimit-Policy X-Request-Id";
    expect(answer.headers["access-control-expose-headers"]).toBe(exposed.replaceAll(" ", ", "));
  });

  test("lets pages read errors too", async () => {
    for (const path of ["/api/v1/clients/me", "/api/v1/nowhere"]) {
      const answer = await raw(server.url, path, { headers: { origin: PAGE } });
      expect([answer.status, answer.headers["access-control-allow-origin"]]).toEqual([401, "*"]);
    }
  });

  test("answers a preflight without a key", async () => {
    const answer = await raw(server.url, "/api/v1/rooms", { method: "OPTIONS", headers: preflight });
    expect([answer.status, answer.text]).toEqual([204, ""]);
    expect(answer.headers["access-control-max-age"]).toBe("600");
    expect(answer.headers["access-control-allow-methods"]).toMatch(/GET.*POST.*PUT.*PATCH.*DELETE/);
    for (const header of ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Read-After"]) {
      expect(answer.headers["access-control-allow-headers"]).toContain(header);
    }
  });

  test("never covers registration, development pages and operators' paths", async () => {
    for (const path of [
      "/api/v1/clients",
      "/api/v1/clients/",
      "/dev/mailbox",
      "/metrics",
      "/livez",
      "/openapi.json",
      "/asyncapi.json",
    ]) {
      const asked = await raw(server.url, path, { method: "OPTIONS", headers: preflight });
      const got = await raw(server.url, path, { headers: { origin: PAGE } });
      expect([corsOf(asked.headers), corsOf(got.headers)], path).toEqual([[], []]);
    }
  });

  test("is for the origins of CORS_ORIGINS alone when these are named", async () => {
    await using named = await startTestServer({ config: { corsOrigins: [PAGE] } });
    const from = (origin: string) =>
      raw(named.url, "/api/v1/rooms", { method: "OPTIONS", headers: { ...preflight, origin } });
    const [ours, other] = [await from(PAGE), await from("https://other.example")];
    expect([ours.headers["access-control-allow-origin"], ours.headers.vary]).toEqual([PAGE, "Origin"]);
    expect([other.status, corsOf(other.headers), other.headers.vary]).toEqual([204, [], "Origin"]);
  });
});

describe("a page of another origin", () => {
  const register = (origin: string) =>
    raw(server.url, "/api/v1/clients", {
      method: "POST",
      headers: { origin, "content-type": "application/json" },
      body: '{"name":"Stolen"}',
    });

  test("registers no client and empties no mailbox", async () => {
    const tail = await server.services.store.tail();
    for (const origin of [PAGE, "null", "http://localhost:1", `${server.url}.evil.example`, "file://"]) {
      const answers = [
        await register(origin),
        await raw(server.url, "/dev/mailbox", { method: "DELETE", headers: { origin } }),
      ];
      for (const answer of answers) expect([answer.status, answer.body.code], origin).toEqual([403, "forbidden"]);
    }
    expect(await server.services.store.tail()).toBe(tail);
  });

  test("is not one of the server's own", async () => {
    expect((await register(server.url)).status).toBe(201);
    const emptied = await raw(server.url, "/dev/mailbox", { method: "DELETE", headers: { origin: server.url } });
    expect(emptied.status).toBe(204);
  });
});

describe("hosts", () => {
  const checks = (headers: Record<string, string>) => raw(server.url, "/livez", { headers });

  test("of development mode are loopback's", async () => {
    for (const host of [
      "localhost",
      "localhost:80",
      "127.0.0.1:9999",
      "127.9.9.9",
      "[::1]:8000",
      "LOCALHOST.",
      "a.localhost",
    ]) {
      expect((await checks({ host })).status, host).toBe(200);
    }
    for (const host of [
      "evil.example",
      "127.0.0.1.evil.example",
      "localhost.evil.example:80",
      "10.0.0.1",
      "[fe80::1]",
      "a b",
      "localhost@evil.example",
    ]) {
      const answer = await checks({ host });
      expect([answer.status, answer.body?.code], host).toEqual([421, "unknown_host"]);
    }
  });

  const config = { development: false, publicUrl: undefined, allowedHosts: [] };
  test("outside development mode are any, until one variable is set", () => {
    expect(hostCheck(config)("anything.example")).toBe(true);
    const isOurs = hostCheck({
      ...config,
      publicUrl: "https://Chat.example.com:8443",
      allowedHosts: ["internal", "b:81"],
    });
    for (const host of ["chat.example.com", "CHAT.example.com:443", "internal:9", "b:81", "localhost"]) {
      expect(isOurs(host), host).toBe(true);
    }
    for (const host of ["example.com", "b:82", "b", "evil.example", "", undefined])
      expect(isOurs(host), host).toBe(false);
  });

  test("make an origin the server's own", () => {
    const own = ownOriginCheck({ ...config, publicUrl: "https://chat.example.com" });
    expect(own("https://chat.example.com", "10.0.0.1:8000")).toBe(true);
    expect(own("http://localhost:8000", "LOCALHOST:8000")).toBe(true);
    expect(own("http://localhost:8001", "localhost:8000")).toBe(false);
    expect(own("ftp://localhost:8000", "localhost:8000")).toBe(false);
    expect(own("null", "localhost")).toBe(false);
  });
});

test("sockets are opened by no page outside CORS_ORIGINS, or, in development mode, outside loopback", () => {
  const cases: [boolean, readonly string[] | undefined, string | undefined, boolean][] = [
    [true, undefined, undefined, true],
    [true, undefined, "http://localhost:3000", true],
    [true, undefined, "http://[::1]:3000", true],
    [true, undefined, PAGE, false],
    [true, undefined, "null", false],
    [true, [PAGE], PAGE, true],
    [false, undefined, PAGE, true],
    [false, [PAGE], PAGE, true],
    [false, [PAGE], "https://other.example", false],
    [false, [PAGE], "http://localhost:3000", false],
    [false, [PAGE], undefined, true],
  ];
  for (const [development, corsOrigins, origin, allowed] of cases) {
    expect(socketOriginCheck({ development, corsOrigins })(origin), `${development} ${origin}`).toBe(allowed);
  }
});

test("production refuses hosts as soon as PUBLIC_URL is set, and names errors there", async () => {
  await using named = await startTestServer({ config: { ...production, publicUrl: "https://chat.example.com" } });
  expect((await raw(named.url, "/livez", { headers: { host: "evil.example" } })).status).toBe(421);
  const answer = await raw(named.url, "/api/v1/rooms", { headers: { host: "chat.example.com" } });
  expect([answer.status, answer.body.type]).toEqual([401, "https://chat.example.com/docs/errors#unauthenticated"]);
});
