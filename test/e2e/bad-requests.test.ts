// Paths, methods, hosts and credentials that are wrong get their problem; none gets a 500; nothing is written.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeApiKey } from "../../src/app/api-keys.ts";
import type { Refused } from "./support/refusals.ts";
import { type Operation, type Stage, setStage } from "./support/stage.ts";

const stack = new AsyncDisposableStack();
let stage: Stage;
let operations: readonly Operation[];

beforeAll(async () => {
  stage = await setStage(stack);
  operations = stage.operations;
});
afterAll(() => stack.disposeAsync());

const json = { "content-type": "application/json" };

/** What stands for no id, whatever it is asked for. */
const ODD_IDS = [
  ...["%00", "a%00b", "%ff", "%zz", "%", "%E0%A4", "%ED%A0%80", "%20", "%0d%0a", "a%2Fb", "%2e%2e%2f", "%5c"],
  ...["%F0%9F%98%80", "'%20or%201=1--", "$all", "{id}", "*", "%252e%252e", "x".repeat(5_000)],
];
/** A user may be called so. */
const ODD_NAMES = ["%2e%2e", "__proto__", "constructor", "-1", "0", "null"];

test("ids that are none", async () => {
  const all = operations.flatMap((one): Refused[] => {
    const { method, template, path } = one;
    const headers = { ...stage.admitted(one), ...json };
    const steps = template.split("/");
    const needed = one.schema?.required ?? one.schema?.oneOf ?? [];
    return steps.flatMap((step, index) => {
      if (!step.startsWith("{")) return [];
      const makes = step === "{user_id}" && (method === "PUT" || method === "POST" || method === "DELETE");
      return [...ODD_IDS, ...(makes ? [] : ODD_NAMES)].flatMap((odd): Refused[] => {
        const odder = path.split("/").with(index, odd).join("/");
        const asked = { method, path: odder, headers };
        const whole = { ...asked, status: [404, 422], code: ["not_found", "validation_failed"] };
        // A body that lacks what it needs is told first.
        return needed.length > 0 ? [whole] : [whole, { ...whole, path: `${odder}/` }];
      });
    });
  });
  expect(all.length).toBeGreaterThan(500);
  await stage.check(all);
});

test("paths that are none, and methods that a path has not", async () => {
  const paths = ["", "/", "/nope", "/Rooms", "/rooms//", "//rooms", "/rooms/x/nope", "/clients/me/keys", "/ws"];
  const unknown = paths.flatMap((path) =>
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"].map((method): Refused => {
      return { method, path: `/api/v1${path}`, headers: stage.key, status: 404, code: "not_found" };
    }),
  );
  const outside = [
    "/nope",
    "/api",
    "/api/v2/rooms",
    "/livez/x",
    "/docs/nope",
    "/hooks/email/x",
    "/dev",
    "/dev/mailbox/x",
  ];
  const elsewhere = outside.map((path): Refused => {
    return { method: "GET", path, headers: {}, status: 404, code: "not_found" };
  });
  const wrong = [...new Set(operations.map(({ template }) => template))].flatMap((template) => {
    const there = operations.filter((one) => one.template === template);
    const [first] = there;
    const has = new Set(there.flatMap(({ method }) => (method === "GET" ? ["GET", "HEAD"] : [method])));
    return ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"].flatMap((method): Refused[] => {
      if (first === undefined || has.has(method)) return [];
      const refused = { status: 405, code: "method_not_allowed", allow: [...has] };
      return ["", "/"].map((end) => ({ method, path: first.path + end, headers: stage.key, ...refused }));
    });
  });
  const fixed = ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/errors"].map((path): Refused => {
    const refused = { status: 405, code: "method_not_allowed", allow: ["GET", "HEAD"] };
    return { method: "POST", path, headers: {}, ...refused };
  });
  await stage.check([...unknown, ...elsewhere, ...wrong, ...fixed]);
});

test("credentials: none, wrong, in the wrong place, of a user where a key is needed", async () => {
  const { key = "" } = stage.api;
  const last = key.endsWith("0") ? "1" : "0";
  const wrong: Record<string, string>[] = [
    {},
    { authorization: "Bearer" },
    { authorization: key },
    { authorization: `Basic ${Buffer.from(`${key}:`).toString("base64")}` },
    { authorization: `Bearer ${key.slice(0, -1)}${last}` },
    { authorization: `Bearer ${key.slice(0, -1)}` },
    { authorization: `Bearer ${key}0` },
    { authorization: `Bearer ${key.toUpperCase()}` },
    { authorization: `Bearer ${stage.token.slice(0, -3)}` },
    { authorization: `Bearer ${stage.token.split(".").with(2, "").join(".")}` },
    { authorization: "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9." },
    { authorization: `Bearer ${"x".repeat(10_000)}` },
    { "x-api-key": `${key}x` },
    { cookie: `api_key=${key}` },
  ];
  const header = ["www-authenticate", "Bearer"] as const;
  const refused = { status: 401, code: "unauthenticated", header };
  const all = operations.flatMap(({ method, template, path }): Refused[] => {
    if (template === "/api/v1/clients") return [];
    return [
      ...wrong.map((headers) => ({ method, path, headers, ...refused })),
      ...["api_key", "key", "token", "access_token"].map((name) => {
        const value = name === "token" ? stage.token : key;
        return { method, path: `${path}?${name}=${value}`, headers: {}, ...refused };
      }),
    ];
  });
  // Of a well-formed key only the log can say that it is none.
  const unknown = { authorization: `Bearer ${makeApiKey(randomBytes(32))}` };
  const forbidden = operations.flatMap(({ method, template, path }): Refused[] => {
    const isClients = /^\/api\/v1\/(clients\/|notifications|email-providers|audit)/.test(template);
    const isToken = template.endsWith("/tokens") || (method === "GET" && template === "/api/v1/users");
    const headers = { authorization: `Bearer ${stage.token}`, ...json };
    return isClients || isToken ? [{ method, path, headers, status: 403, code: "forbidden" }] : [];
  });
  expect(forbidden.length).toBeGreaterThan(15);
  await stage.check([
    ...all,
    ...forbidden,
    { method: "GET", path: "/api/v1/clients/me", headers: unknown, ...refused },
    { method: "GET", path: "/api/v1/nope", headers: {}, ...refused },
    { method: "PUT", path: "/api/v1/rooms", headers: {}, ...refused },
  ]);
});

test("hosts and origins of others", async () => {
  const hosts = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "a b", "@"];
  const paths = ["/livez", "/api/v1/rooms", "/api/v1/nope", "/docs", "/dev/mailbox", "/nope"];
  const foreign = hosts.flatMap((host) =>
    paths.map((path): Refused => {
      return { method: "GET", path, headers: { ...stage.key, host }, status: 421, code: "unknown_host" };
    }),
  );
  const origins = ["https://evil.example", "null", "http://localhost:1", "", "file://"].flatMap((origin): Refused[] => {
    const refused = { status: 403, code: "forbidden" };
    const headers = { ...json, origin };
    return [
      { method: "POST", path: "/api/v1/clients", headers, body: '{"name":"Evil"}', ...refused },
      { method: "DELETE", path: "/dev/mailbox", headers, ...refused },
    ];
  });
  await stage.check([...foreign, ...origins]);
});

test("HEAD and a slash at the end answer as GET does", async () => {
  for (const one of operations.filter(({ method }) => method === "GET")) {
    const headers = stage.admitted(one);
    const [get, slash, head] = await Promise.all([
      fetch(stage.url + one.path, { headers }),
      fetch(`${stage.url}${one.path}/`, { headers }),
      fetch(stage.url + one.path, { headers, method: "HEAD" }),
    ]);
    expect([get.status, slash.status, head.status], one.path).toEqual([200, 200, 200]);
    const [text, same, nothing] = [await get.text(), await slash.text(), await head.text()];
    expect([same, nothing], one.path).toEqual([text, ""]);
    expect(head.headers.get("content-length"), one.path).toBe(get.headers.get("content-length"));
  }
});
