// Limits on what clients and their users do, on one node and over two, and on guesses at the operator's keys.
import { describe, expect, test } from "vitest";
import { readConfig } from "../../../src/config.ts";
import { type Answer, type Api, apiOf, newClient, tokenOf, until } from "../../e2e/support/api.ts";
import { raw } from "../../support/raw.ts";
import { missingRedis, testRedis } from "../../support/redis.ts";
import { ADMIN_KEY, production, startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { startTwoServers } from "../../support/two-servers.ts";

const HOUR_MS = 3_600_000;

test("the limits are those of api.md, and in development mode those that are set", () => {
  const needed = { DATABASE_URL: "postgresql://x", ADMIN_KEY, ENCRYPTION_KEYS: Buffer.alloc(32).toString("base64") };
  expect(readConfig(needed).rateLimits).toEqual({
    requests: { count: 10_000, windowMs: 10_000 },
    notifications: { count: 10_000, windowMs: 10_000 },
    userRequests: { count: 100, windowMs: 10_000 },
    userRooms: { count: 60, windowMs: HOUR_MS },
    userMembers: { count: 500, windowMs: HOUR_MS },
  });
  expect(readConfig({}).rateLimits).toEqual({});
  const set = { RATE_LIMIT_USER_ROOMS: "5/2m", RATE_LIMIT_REQUESTS: "7/1h" };
  const requests = { count: 7, windowMs: HOUR_MS };
  expect(readConfig(set).rateLimits).toEqual({ requests, userRooms: { count: 5, windowMs: 120_000 } });
  for (const name of ["RATE_LIMIT_REQUESTS", "RATE_LIMIT_NOTIFICATIONS", "RATE_LIMIT_USER"]) {
    for (const wrong of ["5", "0/1s", "x/1s", "5/x", "5/0s", "5/1.5s", "5/0.5s", "5/8d", "5/1s/1s"]) {
      expect(() => readConfig({ [name]: wrong }), wrong).toThrow(new RegExp(`^${name}: "`));
    }
  }
});

/** What the answer says of each limit: how many, in how many seconds, how many are left. */
function ratesOf({ headers }: Answer): Readonly<Record<string, readonly number[]>> {
  const parsed = (name: string, item: RegExp) =>
    (headers.get(name)?.split(", ") ?? []).map((text) => {
      const [, policy = "", ...numbers] = item.exec(text) ?? expect.fail(`${name}: ${headers.get(name)}`);
      return [policy, numbers.map(Number)] as const;
    });
  const rests = new Map(parsed("ratelimit", /^"([a-z]+)";r=(\d+);t=(\d+)$/));
  const policies = parsed("ratelimit-policy", /^"([a-z]+)";q=(\d+);w=(\d+)$/);
  expect(policies.map(([policy]) => policy)).toEqual([...rests.keys()]);
  return Object.fromEntries(
    policies.map(([policy, [count = 0, window = 0]]) => {
      const [left = -1, seconds = 0] = rests.get(policy) ?? [];
      expect(seconds).toBeGreaterThan(0);
      expect(seconds).toBeLessThanOrEqual(window);
      return [policy, [count, window, left]];
    }),
  );
}

test("a user makes so many rooms, adds so many members and sends so many requests; a key is not limited", async () => {
  await using server = await startTestServer({
    env: { RATE_LIMIT_USER: "40/1h", RATE_LIMIT_USER_ROOMS: "3/1h", RATE_LIMIT_USER_MEMBERS: "5/1h" },
  });
  const api = await newClient(server.url);
  const ann = apiOf(server.url, await tokenOf(api, "ann"));
  const refusal = (answer: Answer) => [
    ...[answer.status, answer.body.code, /limit "([a-z]+)"/.exec(answer.body.detail)?.[1]],
    Number(answer.headers.get("retry-after")) > 3_000,
  ];
  const people = (...names: string[]) => names.map((user_id) => ({ user_id }));
  for (const name of ["bob", "cat", "dan", "eve", "fay", "gus", "hal"]) await api.put(`/users/${name}`, {});

  const first = await ann.post("/rooms", { name: "1", members: people("ann", "bob", "cat", "dan") });
  expect(first.status).toBe(201);
  expect(ratesOf(first)).toEqual({ requests: [40, 3_600, 39], rooms: [3, 3_600, 2], members: [5, 3_600, 2] });
  const many = await ann.post("/rooms", { name: "2", members: people("eve", "fay", "gus") });
  expect(refusal(many)).toEqual([429, "rate_limited", "members", true]);
  // What was refused did not count.
  const path = `/rooms/${first.body.id}/members`;
  expect((await ann.put(`${path}/eve`, {})).status).toBe(201);
  expect((await ann.put(`${path}/fay`, {})).status).toBe(201);
  expect(refusal(await ann.put(`${path}/gus`, {}))).toEqual([429, "rate_limited", "members", true]);
  expect((await ann.put(`${path}/ann`, { name: "Ann" })).status).toBe(200);

  expect((await ann.post("/rooms", { name: "3" })).status).toBe(201);
  expect(refusal(await ann.post("/rooms", { name: "4" }))).toEqual([429, "rate_limited", "rooms", true]);
  for (let n = 0; n < 10; n += 1) expect((await api.post("/rooms", { name: "K" })).status).toBe(201);

  using socket = await SocketClient.connect(server.url.replace("http", "ws"), String(ann.key));
  for (let left = true; left; ) left = (await ann.get("/rooms?limit=1")).status === 200;
  expect(refusal(await ann.get("/rooms"))).toEqual([429, "rate_limited", "requests", true]);
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

test("a client sends so many requests, sockets' commands among them, and notifies so many recipients", async () => {
  const env = { RATE_LIMIT_REQUESTS: "30/1h", RATE_LIMIT_NOTIFICATIONS: "5/1h", RATE_LIMIT_USER: "20/1h" };
  await using server = await startTestServer({ env });
  const api = await newClient(server.url);
  const other = await newClient(server.url);
  let left = 30;
  const expectLeft = (answer: Answer, more: object = {}) => {
    left -= 1;
    expect(ratesOf(answer)).toEqual({ requests: [30, 3_600, left], ...more });
    return answer;
  };
  // On every answer, whatever it is.
  for (const [path, status] of [
    ["/clients/me", 200],
    ["/nowhere", 404],
    ["/rooms/room_nothing", 404],
    ["/rooms?limit=0", 422],
  ] as const) {
    expect(expectLeft(await api.get(path)).status).toBe(status);
  }
  const notify = (body: object, headers?: Record<string, string>) =>
    api.post("/notifications", { type: "websocket", content: "Hello", ...body }, headers);
  const ids = (...users: string[]) => ({ user_ids: users });
  const rest = (notifications: number) => ({ notifications: [5, 3_600, notifications] });
  const key = { "idempotency-key": "once" };
  expect(expectLeft(await notify(ids("ann", "bob", "ann"), key), rest(3)).status).toBe(202);
  expect(expectLeft(await notify(ids("ann", "bob", "ann"), key)).status).toBe(202);
  const refused = expectLeft(await notify(ids("a", "b", "c", "d")), rest(0));
  expect([refused.status, refused.body.code]).toEqual([429, "rate_limited"]);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(3_000);
  // What was refused did not count; members of a room are its recipients.
  const room = expectLeft(await api.post("/rooms", { name: "R", members: [{ user_id: "x" }, { user_id: "y" }] }));
  expectLeft(await notify({ room_id: room.body.id }), rest(1));
  expectLeft(await notify(ids("c")), rest(0));

  const token = expectLeft(await api.post("/users/x/tokens")).body.token;
  using socket = await SocketClient.connect(server.url.replace("http", "ws"), token);
  const read = { type: "read", room_id: room.body.id, seq: 1 };
  for (let n = 0; n < 3; n += 1) expect((await socket.ask(read)).type).toBe("ok");
  left -= 3;
  // Of a user's limit and its client's the answer shows the one with less left.
  const own = await api.as(token).get("/rooms");
  left -= 1;
  expect(ratesOf(own)).toEqual({ requests: left < 16 ? [30, 3_600, left] : [20, 3_600, 16] });
  for (; left > 0; ) expectLeft(await api.get("/clients/me"));
  expect((await api.get("/clients/me")).body.code).toBe("rate_limited");
  expect(await socket.ask(read)).toMatchObject({ type: "error", code: "rate_limited" });
  expect((await other.get("/clients/me")).status).toBe(200);
});

describe.skipIf(missingRedis !== undefined)("over two nodes with Redis", () => {
  const LIMIT = 200;

  test("a limit holds for both together, and for each by itself while Redis is away", async () => {
    await using redis = await testRedis();
    await using nodes = await startTwoServers({ REDIS_URL: redis.url, RATE_LIMIT_REQUESTS: `${LIMIT}/1h` });
    const both = [nodes.first, nodes.second] as const;
    const isShared = async ({ url }: TestServer) => {
      const { body } = await raw(url, "/readyz", { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
      return body.parts.rate_limits.shared;
    };
    const shared = (wanted: boolean) =>
      until(
        () => Promise.all(both.map(isShared)),
        (answers) => answers.every((one) => one === wanted),
      );
    expect(await shared(true)).toEqual([true, true]);
    /** How many of so many requests to each node were let in. */
    const admitted = async (apis: readonly Api[]) => {
      const many = apis.flatMap((api) => Array.from({ length: LIMIT * 0.75 }, () => api.get("/clients/me")));
      return (await Promise.all(many)).filter(({ status }) => status === 200).length;
    };
    const within = await admitted(await nodes.newClient());
    expect(within).toBeGreaterThanOrEqual(LIMIT * 0.95);
    expect(within).toBeLessThanOrEqual(LIMIT * 1.05);

    await redis.kill();
    expect(await shared(false)).toEqual([false, false]);
    expect(await admitted(await nodes.newClient())).toBe(LIMIT * 1.5);
    const told = (server: TestServer) =>
      server.logged.filter(({ msg }) => String(msg).includes("rate limits are counted on each node")).length;
    expect(both.map(told)).toEqual([1, 1]);

    await redis.restart();
    expect(await shared(true)).toEqual([true, true]);
    const again = await admitted(await nodes.newClient());
    expect(Math.abs(again - LIMIT)).toBeLessThanOrEqual(LIMIT * 0.05);
  }, 60_000);
});
