// Limits on what a user's token does, and on guesses at the operator's keys.
import { expect, test } from "vitest";
import { readConfig } from "../../../src/config.ts";
import { type Api, apiOf, newClient, tokenOf } from "../../e2e/support/api.ts";
import { raw } from "../../support/raw.ts";
import { ADMIN_KEY, production, startTestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";

const HOUR_MS = 3_600_000;

test("the limits are those of api.md, and in development mode those that are set", () => {
  const needed = { DATABASE_URL: "postgresql://x", ADMIN_KEY, ENCRYPTION_KEYS: Buffer.alloc(32).toString("base64") };
  expect(readConfig(needed).userLimits).toEqual({
    requests: { count: 100, windowMs: 10_000 },
    rooms: { count: 60, windowMs: HOUR_MS },
    members: { count: 500, windowMs: HOUR_MS },
  });
  expect(readConfig({}).userLimits).toEqual({});
  expect(readConfig({ RATE_LIMIT_USER_ROOMS: "5/2m" }).userLimits).toEqual({ rooms: { count: 5, windowMs: 120_000 } });
  for (const wrong of ["5", "0/1s", "x/1s", "5/x"]) {
    expect(() => readConfig({ RATE_LIMIT_USER: wrong }), wrong).toThrow(/^RATE_LIMIT_USER: /);
  }
});

test("a user makes so many rooms, adds so many members and sends so many requests; a key is not limited", async () => {
  await using server = await startTestServer({
    env: { RATE_LIMIT_USER: "40/1h", RATE_LIMIT_USER_ROOMS: "3/1h", RATE_LIMIT_USER_MEMBERS: "5/1h" },
  });
  const api = await newClient(server.url);
  const ann = apiOf(server.url, await tokenOf(api, "ann"));
  const refusal = ({ status, body, headers }: Awaited<ReturnType<Api["get"]>>) => [
    ...[status, body.code, headers.get("ratelimit-policy")],
    Number(headers.get("retry-after")) > 3_000,
  ];
  const people = (...names: string[]) => names.map((user_id) => ({ user_id }));
  for (const name of ["bob", "cat", "dan", "eve", "fay", "gus", "hal"]) await api.put(`/users/${name}`, {});

  const first = await ann.post("/rooms", { name: "1", members: people("ann", "bob", "cat", "dan") });
  expect([first.status, first.headers.get("ratelimit")]).toEqual([201, expect.stringMatching(/^"members";r=2;t=\d+$/)]);
  const many = await ann.post("/rooms", { name: "2", members: people("eve", "fay", "gus") });
  expect(refusal(many)).toEqual([429, "rate_limited", '"members";q=5;w=3600', true]);
  // What was refused did not count.
  const path = `/rooms/${first.body.id}/members`;
  expect((await ann.put(`${path}/eve`, {})).status).toBe(201);
  expect((await ann.put(`${path}/fay`, {})).status).toBe(201);
  expect(refusal(await ann.put(`${path}/gus`, {}))).toEqual([429, "rate_limited", '"members";q=5;w=3600', true]);
  expect((await ann.put(`${path}/ann`, { name: "Ann" })).status).toBe(200);

  expect((await ann.post("/rooms", { name: "3" })).status).toBe(201);
  expect(refusal(await ann.post("/rooms", { name: "4" }))).toEqual([429, "rate_limited", '"rooms";q=3;w=3600', true]);
  for (let n = 0; n < 10; n += 1) expect((await api.post("/rooms", { name: "K" })).status).toBe(201);

  using socket = await SocketClient.connect(server.url.replace("http", "ws"), String(ann.key));
  for (let left = true; left; ) left = (await ann.get("/rooms?limit=1")).status === 200;
  expect(refusal(await ann.get("/rooms"))).toEqual([429, "rate_limited", '"requests";q=40;w=3600', true]);
  const read = { type: "read", room_id: first.body.id, seq: 1 };
  expect(await socket.ask(read)).toMatchObject({ type: "error", code: "rate_limited" });
  expect((await apiOf(server.url, await tokenOf(api, "bob")).get("/rooms")).status).toBe(200);
});

test("wrong keys at /readyz and /metrics count as failed authentications", async () => {
  await using server = await startTestServer({ config: production });
  const at = (path: string, key?: string) =>
    raw(server.url, path, key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } });
  for (let n = 0; n < 15; n += 1) {
    expect((await at("/readyz", `guess-${n}`)).body).toEqual({ status: expect.stringMatching(/^(not_)?ready$/) });
    expect((await at("/metrics", `guess-${n}`)).status).toBe(401);
  }
  for (const path of ["/readyz", "/metrics"]) {
    const answer = await at(path, "one-more");
    expect([path, answer.status, answer.body.code]).toEqual([path, 429, "rate_limited"]);
    expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
    expect((await at(path, ADMIN_KEY)).status).not.toBe(429);
  }
  expect((await at("/readyz")).status).not.toBe(429);
});
