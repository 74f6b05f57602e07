// Outside development mode: who may register, how often one may try, and what operators alone see.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../../e2e/support/api.ts";
import { raw } from "../../support/raw.ts";
import { ADMIN_KEY, production, startTestServer, type TestServer } from "../../support/server.ts";

const METRICS_TOKEN = "metrics-token-of-the-tests-0123456789";
let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({
    config: { ...production, metricsToken: METRICS_TOKEN, trustProxy: ["127.0.0.1"] },
  });
});
afterAll(() => server[Symbol.asyncDispose]());

const json = { "content-type": "application/json" };
const from = (address: string) => ({ "x-forwarded-for": address });
const register = (url: string, headers: Record<string, string>, name = "A") =>
  raw(url, "/api/v1/clients", { method: "POST", headers: { ...json, ...headers }, body: JSON.stringify({ name }) });
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

test("an endpoint outside development mode is https", async () => {
  const { body: made } = await register(server.url, bearer(ADMIN_KEY));
  const headers = { ...json, ...bearer(made.api_key) };
  const create = (url: string) =>
    raw(server.url, "/api/v1/webhooks", { method: "POST", headers, body: JSON.stringify({ url, events: ["room.*"] }) });
  const refused = await create("http://93.184.215.14/hook");
  expect([refused.status, refused.body.errors]).toEqual([
    422,
    [{ path: "url", code: "not_allowed", message: "must be https" }],
  ]);
  expect((await create("https://93.184.215.14/hook")).status).toBe(201);
});

describe("registration", () => {
  test("needs the ADMIN_KEY", async () => {
    for (const headers of [{}, bearer("wrong"), bearer(ADMIN_KEY.slice(0, -1)), bearer(METRICS_TOKEN)]) {
      const answer = await register(server.url, headers);
      expect([answer.status, answer.body.code, answer.headers["www-authenticate"]]).toEqual([
        401,
        "unauthenticated",
        "Bearer",
      ]);
    }
    const made = await register(server.url, bearer(ADMIN_KEY));
    expect(made.status).toBe(201);
    expect((await register(server.url, bearer(made.body.api_key))).status).toBe(401);
    const me = await raw(server.url, "/api/v1/clients/me", { headers: bearer(made.body.api_key) });
    expect(me.body.mode).toBe("production");
  });

  test("where it is open is limited to ten a minute and address", async () => {
    await using open = await startTestServer({
      config: { ...production, openRegistration: true, trustProxy: ["127.0.0.1"] },
    });
    for (let left = 9; left >= 0; left -= 1) {
      const made = await register(open.url, from("2001:db8:1:2::1"));
      expect([made.status, made.headers.ratelimit]).toEqual([
        201,
        expect.stringMatching(`^"registrations";r=${left};t=\\d+$`),
      ]);
      expect(made.headers["ratelimit-policy"]).toBe('"registrations";q=10;w=60');
    }
    // The same /64.
    const tooMany = await register(open.url, from("2001:db8:1:2:ffff::9"));
    expect([tooMany.status, tooMany.body.code]).toEqual([429, "rate_limited"]);
    expect(Number(tooMany.headers["retry-after"])).toBeGreaterThan(0);
    expect(tooMany.headers.ratelimit).toMatch(/^"registrations";r=0;t=/);
    expect((await register(open.url, from("2001:db8:1:3::1"))).status).toBe(201);
    expect((await register(open.url, { ...from("2001:db8:1:2::1"), ...bearer(ADMIN_KEY) })).status).toBe(201);
  });

  test("in development mode is neither closed nor limited", async () => {
    await using development = await startTestServer();
    for (let round = 0; round < 12; round += 1) {
      const made = await register(development.url, {});
      expect([made.status, made.headers.ratelimit]).toEqual([201, undefined]);
    }
  });
});

describe("failed authentications", () => {
  test("are limited to thirty a minute and address; who has a key goes on", async () => {
    const { body } = await register(server.url, { ...bearer(ADMIN_KEY), ...from("192.0.2.1") });
    const fail = (address: string) =>
      raw(server.url, "/api/v1/rooms", { headers: { ...bearer("wrong"), ...from(address) } });
    for (let round = 0; round < 30; round += 1) expect((await fail("192.0.2.1")).status).toBe(401);
    const tooMany = await fail("192.0.2.1");
    expect([tooMany.status, tooMany.body.code]).toEqual([429, "rate_limited"]);
    expect(Number(tooMany.headers["retry-after"])).toBeGreaterThan(0);
    expect((await fail("192.0.2.2")).status).toBe(401);
    const known = await raw(server.url, "/api/v1/rooms", {
      headers: { ...bearer(body.api_key), ...from("192.0.2.1") },
    });
    expect(known.status).toBe(200);
  });
});

describe("operators' paths", () => {
  const get = (path: string, headers: Record<string, string> = {}) => raw(server.url, path, { headers });

  test("say to anybody no more than whether the server lives and is ready", async () => {
    expect((await get("/livez")).body).toEqual({ status: "ok" });
    const ready = await until(
      () => get("/readyz"),
      ({ status }) => status === 200,
    );
    expect([ready.status, ready.body]).toEqual([200, { status: "ready" }]);
    const metrics = await get("/metrics");
    expect([metrics.status, metrics.body.code]).toEqual([401, "unauthenticated"]);
    expect((await get("/dev/mailbox")).status).toBe(404);
  });

  test("show everything to who has ADMIN_KEY or METRICS_TOKEN", async () => {
    for (const key of [ADMIN_KEY, METRICS_TOKEN]) {
      const ready = await get("/readyz", bearer(key));
      expect(Object.keys(ready.body.parts)).toEqual(expect.arrayContaining(["store", "read_models", "live"]));
      const metrics = await get("/metrics", bearer(key));
      expect([metrics.status, metrics.headers["content-type"]]).toEqual([200, expect.stringContaining("text/plain")]);
      expect(metrics.text).toMatch(
        /^chatapi_http_requests_total\{method="POST",path="\/api\/v1\/clients",status="201"\} \d+$/m,
      );
      expect(metrics.text).toContain("process_cpu_seconds_total");
      expect(metrics.text).not.toContain("cli_");
    }
    expect((await register(server.url, bearer(METRICS_TOKEN))).status).toBe(401);
  });
});
