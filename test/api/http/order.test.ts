// The order in which a request is checked: of two faults, the one that comes first is answered.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, newClient, tokenOf } from "../../e2e/support/api.ts";
import { type RawRequest, raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let token: string;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  token = await tokenOf(api, "alice");
});
afterAll(() => server[Symbol.asyncDispose]());

const send = (path: string, request: RawRequest = {}) => raw(server.url, `/api/v1${path}`, request);
const key = () => ({ authorization: `Bearer ${api.key}` });
const json = { "content-type": "application/json" };

/** Each fault beats all that stand below it. */
test("host, credential, path, method, access, size, type, JSON, input, then the thing itself", async () => {
  const big = "x".repeat(1024 * 1024 + 1);
  const text = { "content-type": "text/plain" };
  const evil = { host: "evil.example" };
  const steps: [string, string, RawRequest, number, string][] = [
    ["host", "/nowhere", { method: "PUT", headers: { ...evil, ...text }, body: big }, 421, "unknown_host"],
    ["credential", "/nowhere", { method: "PUT", headers: text, body: big }, 401, "unauthenticated"],
    ["path", "/nowhere", { method: "PUT", headers: { ...key(), ...text }, body: big }, 404, "not_found"],
    ["method", "/users/bob", { method: "POST", headers: { ...key(), ...text }, body: big }, 405, "method_not_allowed"],
    [
      "access",
      "/users/bob",
      { method: "PUT", headers: { authorization: `Bearer ${token}`, ...text }, body: big },
      403,
      "forbidden",
    ],
    ["size", "/users/bob", { method: "PUT", headers: { ...key(), ...text }, body: big }, 413, "body_too_large"],
    ["type", "/users/bob", { method: "PUT", headers: { ...key(), ...text }, body: "{" }, 415, "unsupported_media_type"],
    ["JSON", "/users/bob", { method: "PUT", headers: { ...key(), ...json }, body: "{" }, 400, "malformed_json"],
    [
      "input",
      "/users/nobody",
      { method: "PATCH", headers: { ...key(), ...json }, body: '{"name":5}' },
      422,
      "validation_failed",
    ],
    [
      "id",
      "/users/nobody",
      { method: "PATCH", headers: { ...key(), ...json }, body: '{"name":"x"}' },
      404,
      "not_found",
    ],
  ];
  for (const [what, path, request, status, code] of steps) {
    const answer = await send(path, request);
    expect([answer.status, answer.body?.code], what).toEqual([status, code]);
    expect(answer.headers["content-type"], what).toMatch(/^application\/problem\+json/);
  }
  const { body } = await api.get("/users?limit=100");
  expect(body.data.map((user: { id: string }) => user.id)).toEqual(["alice"]);
});

describe("problems", () => {
  test("have a type, title, status, detail, code and the request's id", async () => {
    const answer = await send("/users/nobody", { headers: { ...key(), "x-request-id": "my.request-1" } });
    expect(answer.body).toEqual({
      type: `${server.url}/docs/errors#not_found`,
      title: "Not found",
      status: 404,
      detail: expect.any(String),
      code: "not_found",
      request_id: "my.request-1",
    });
    expect(answer.headers["x-request-id"]).toBe("my.request-1");
  });

  test("name the methods that a path has", async () => {
    const answer = await send("/users/bob", { method: "POST", headers: key() });
    expect(answer.headers.allow?.split(", ").toSorted()).toEqual(["GET", "HEAD", "PATCH", "PUT"]);
    expect((await send("/clients", { headers: key() })).headers.allow).toBe("POST");
  });

  test("name how to authenticate", async () => {
    for (const headers of [
      {},
      { authorization: "Bearer" },
      { authorization: "Basic YTpi" },
      { authorization: "Bearer nonsense" },
      { authorization: `Bearer ${api.key}x` },
      { authorization: `Bearer ck_${"A".repeat(49)}` },
      { authorization: `Bearer ${token.slice(0, -2)}` },
      { authorization: `Bearer ${"eyJ".repeat(3_000)}` },
      { authorization: "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9." },
      { "x-api-key": "" },
    ] as Record<string, string>[]) {
      const answer = await send("/clients/me", { headers });
      expect([answer.status, answer.body?.code, answer.headers["www-authenticate"]], JSON.stringify(headers)).toEqual([
        401,
        "unauthenticated",
        "Bearer",
      ]);
    }
  });

  test("of a path outside the API need no credential", async () => {
    expect((await raw(server.url, "/nowhere")).body.code).toBe("not_found");
    const answer = await raw(server.url, "/livez", { method: "POST" });
    expect([answer.status, answer.headers.allow]).toEqual([405, "GET, HEAD"]);
  });
});

describe("a request's id", () => {
  test("is made when there is none, or none that can be taken", async () => {
    for (const given of [undefined, "", "a b", "x".repeat(129), "ä", "a\tb"]) {
      const headers = given === undefined ? {} : { "x-request-id": Buffer.from(given).toString("latin1") };
      const { headers: answered } = await raw(server.url, "/livez", { headers });
      expect(answered["x-request-id"], given).toMatch(/^[0-9a-f-]{36}$/);
    }
  });

  test("is on the events that the request leads to", async () => {
    await send("/users/traced", { method: "PUT", headers: { ...key(), "x-request-id": "trace-77" } });
    const [event] = await server.services.store.readAll({ after: await before(), limit: 10 });
    expect(JSON.parse(Buffer.from(event?.metadata ?? []).toString())).toMatchObject({ correlation: "trace-77" });
  });

  const before = async () => {
    const events = await server.services.store.readAll({ after: "start", limit: 1_000 });
    return events.at(-2)?.position ?? "start";
  };
});

describe("paths", () => {
  test("ignore a slash at their end, and are case-sensitive", async () => {
    expect((await send("/clients/me/", { headers: key() })).status).toBe(200);
    expect((await send("/Clients/me", { headers: key() })).status).toBe(404);
    expect((await raw(server.url, "/livez/")).status).toBe(200);
    expect((await send("//clients/me", { headers: key() })).status).toBe(404);
    expect((await send("", { headers: key() })).status).toBe(404);
  });

  test("answer HEAD as GET, without a body", async () => {
    const head = await send("/clients/me", { method: "HEAD", headers: key() });
    const get = await send("/clients/me", { headers: key() });
    expect([head.status, head.text]).toEqual([200, ""]);
    expect(head.headers["content-length"]).toBe(get.headers["content-length"]);
    expect((await raw(server.url, "/livez", { method: "HEAD" })).status).toBe(200);
  });

  test("name things that cannot be only after all faults of the input are told", async () => {
    for (const [method, path, faults] of [
      ["GET", "/users/a%20b?x=1", ["?x"]],
      ["POST", "/deliveries/nonsense/ack", ["field"]],
      ["PUT", "/users/a%20b", ["user_id", "field"]],
      ["GET", "/notifications/nonsense/timeline?limit=0", ["?limit"]],
    ] as const) {
      const body = method === "GET" ? {} : { body: '{"field":1}' };
      const answer = await send(path, {
        method,
        headers: { authorization: `Bearer ${path.startsWith("/del") ? token : api.key}`, ...json },
        ...body,
      });
      expect([answer.status, answer.body.errors?.map((one: { path: string }) => one.path)], path).toEqual([
        422,
        faults,
      ]);
    }
    expect((await send("/users/a%20b", { headers: key() })).body.code).toBe("not_found");
  });

  test("keep a plus, which is no space here", async () => {
    const put = await send("/users/a+b@example.com", { method: "PUT", headers: key() });
    expect([put.status, put.body.id]).toEqual([201, "a+b@example.com"]);
    expect((await send("/users/a%2Bb%40example.com", { headers: key() })).body.id).toBe("a+b@example.com");
  });

  test("are answered also to clients that offer HTTP/2", async () => {
    const offer = {
      connection: "Upgrade, HTTP2-Settings",
      upgrade: "h2c",
      "http2-settings": "AAMAAABkAAQCAAAAAAIAAAAA",
    };
    expect((await send("/clients/me", { headers: { ...key(), ...offer } })).status).toBe(200);
  });

  test("with bytes that are no text are not found, never an error", async () => {
    for (const bad of ["%00", "%FF", "%", "%E0%A4", "a%2Fb", "%ED%A0%80", "..", "__proto__", "x".repeat(5_000)]) {
      const got = await send(`/users/${bad}`, { headers: key() });
      expect([404, 405], bad).toContain(got.status);
      const put = await send(`/users/${bad}`, { method: "PUT", headers: key() });
      expect([201, 404, 405, 422], bad).toContain(put.status);
    }
    expect((await send("/users/a%20b", { method: "PUT", headers: key() })).body.errors).toEqual([
      { path: "user_id", code: "invalid_format", message: expect.any(String) },
    ]);
  });
});
