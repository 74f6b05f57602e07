// Idempotency keys: one effect, the first answer again; another body, another path and another caller.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { InFlight } from "../../../src/api/http/idempotency.ts";
import { type Answer, type Api, apiOf, newClient, tokenOf } from "../../e2e/support/api.ts";
import { ADMIN_KEY, production, startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const key = (name: string) => ({ "idempotency-key": name });
const replayed = ({ headers }: Answer) => headers.get("idempotent-replayed") === "true";

describe("a key", () => {
  test("sent ten times at once has one effect and one answer", async () => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => api.post("/rooms", { name: "Once" }, key("burst"))),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(answers.map(({ body }) => JSON.stringify(body))).size).toBe(1);
    expect(answers.filter(replayed)).toHaveLength(9);
    expect((await api.get("/rooms")).body.data).toHaveLength(1);
  });

  test("means the same with and without quotes, and whatever the order of the body's fields", async () => {
    const first = await api.post("/rooms", { name: "Q", description: "d" }, key("quoted"));
    const second = await api.post("/rooms", { description: "d", name: "Q" }, key('"quoted"'));
    expect(replayed(second)).toBe(true);
    expect(second.body).toEqual(first.body);
    expect(second.headers.get("location")).toBe(first.headers.get("location"));
    expect(second.headers.get("etag")).toBe(first.headers.get("etag"));
    expect(second.headers.get("position")).toBeTruthy();
  });

  test("with another body is refused, and changes nothing", async () => {
    await api.post("/rooms", { name: "First" }, key("reused"));
    const tail = await server.services.store.tail();
    const other = await api.post("/rooms", { name: "Second" }, key("reused"));
    expect([other.status, other.body.code]).toEqual([422, "idempotency_key_reused"]);
    expect(await server.services.store.tail()).toBe(tail);
  });

  test("is another one on another path, for another client and for a user", async () => {
    const members = [{ user_id: "alice", role: "owner" }];
    const { body: room } = await api.post("/rooms", { name: "R", members }, key("k"));
    const { body: second } = await api.post("/rooms", { name: "S", members });
    const post = (id: string, by: Api) =>
      by.post(`/rooms/${id}/messages`, { sender_id: "alice", content: "hi" }, key("k"));
    const alice = api.as(await tokenOf(api, "alice"));
    const other = await newClient(server.url);
    const answers = [
      await post(room.id, api),
      await post(second.id, api),
      await post(room.id, alice),
      await other.post("/rooms", { name: "R" }, key("k")),
    ];
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    expect(answers.filter(replayed)).toEqual([]);
    expect(replayed(await post(room.id, alice))).toBe(true);
  });

  test("is free again after a refusal", async () => {
    const refused = await api.post("/rooms", { nam: "x" }, key("free"));
    expect(refused.status).toBe(422);
    const { body: room } = await api.post("/rooms", { name: "Inactive" });
    await api.post(`/rooms/${room.id}/deactivate`);
    const message = { sender_id: "bob", content: "x", type: "text" };
    const refusedByRule = await api.post(`/rooms/${room.id}/messages`, message, key("free2"));
    expect(refusedByRule.status).toBeGreaterThanOrEqual(400);
    expect(replayed(await api.post("/rooms", { name: "y" }, key("free")))).toBe(false);
    await api.post(`/rooms/${room.id}/activate`);
    await api.put(`/rooms/${room.id}/members/bob`, {});
    const done = await api.post(`/rooms/${room.id}/messages`, message, key("free2"));
    expect([done.status, replayed(done)]).toEqual([201, false]);
  });

  test.each([
    ["", "too_short"],
    ['""', "too_short"],
    ["x".repeat(256), "too_long"],
    [`"${"x".repeat(256)}"`, "too_long"],
    ["a b", "invalid_format"],
    ["\u00e4", "invalid_format"],
  ])("%j is a fault of the header, beside those of the body", async (name, code) => {
    const answer = await api.post("/rooms", { name: 5 }, key(name));
    expect(answer.status).toBe(422);
    expect(answer.body.errors).toEqual([
      { path: "Header: Idempotency-Key", code, message: expect.any(String) },
      { path: "name", code: "wrong_type", message: expect.any(String) },
    ]);
  });

  test("may have 255 characters", async () => {
    const headers = key("~".repeat(255));
    expect((await api.post("/rooms", { name: "Long" }, headers)).status).toBe(201);
    expect(replayed(await api.post("/rooms", { name: "Long" }, headers))).toBe(true);
  });
});

test("of the operator's registration makes one client, whose key is not shown again", async () => {
  await using locked = await startTestServer({ config: production });
  const operator = apiOf(locked.url, ADMIN_KEY);
  const send = () => operator.post("/clients", { name: "Registered" }, key("register"));
  const answers = await Promise.all([send(), send()]);
  const first = answers.find((answer) => !replayed(answer));
  const second = answers.find(replayed);
  expect(first?.body.api_key).toMatch(/^ck_/);
  expect(second?.body).toEqual({ ...first?.body, api_key: null });
  const other = await operator.post("/clients", { name: "Other" }, key("register"));
  expect([other.status, other.body.code]).toEqual([422, "idempotency_key_reused"]);
});

describe("requests in flight under one key", () => {
  test("run one after the other, and know whether one before them succeeded", async () => {
    const inFlight = new InFlight();
    const order: string[] = [];
    const run = (name: string, fingerprint: string, fails = false) =>
      inFlight.run("id", fingerprint, async (repeated) => {
        order.push(`${name} ${repeated}`);
        await sleep(10);
        order.push(`${name} ends`);
        if (fails) throw new Error("refused");
      });
    await Promise.allSettled([run("a", "1", true), run("b", "1"), run("c", "1"), run("d", "2")]);
    expect(order).toEqual([
      ...["a false", "a ends", "b false", "b ends", "c true", "c ends"],
      ...["d false", "d ends"],
    ]);
  });

  test("wait five seconds, and are then told to come again", { timeout: 60_000 }, async () => {
    const inFlight = new InFlight();
    const gate = Promise.withResolvers<void>();
    const first = inFlight.run("id", "1", () => gate.promise);
    const started = performance.now();
    await expect(inFlight.run("id", "1", async () => {})).rejects.toMatchObject({
      code: "idempotency_key_in_flight",
      headers: { "Retry-After": "1" },
    });
    expect(performance.now() - started).toBeGreaterThan(4_900);
    gate.resolve();
    await first;
    await inFlight.run("id", "1", async () => {});
  });
});
