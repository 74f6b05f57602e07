// Changing notifications over HTTP: cancelling, editing, starting again; and the same answer under the same key.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { httpServer, type TestServer as Receiver } from "../../channels/servers.ts";
import { type Api, type Body, newClient, notificationUntil, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let target: Receiver;
let targetStatus = 500;
let targetUrl = "";
beforeAll(async () => {
  server = await startTestServer({ env: { RETRY_SCHEDULE: "1s", RETRY_JITTER: "0" } });
  api = await newClient(server.url);
  target = await httpServer((_request, response) => response.writeHead(targetStatus).end());
  targetUrl = `http://127.0.0.1:${target.port}`;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
});

const DAY = 86_400_000;
const iso = (offset: number) => new Date(Date.now() + offset).toISOString();
const later = () => ({ type: "email", to_email: "a@example.com", subject: "Hi", content: "Hello", send_at: iso(DAY) });
const ask = async (body: Body): Promise<Body> => {
  const asked = await api.post("/notifications", body);
  expect(asked.status, JSON.stringify(asked.body)).toBe(202);
  return asked.body;
};
const statuses = (body: Body) => body.deliveries.map((one: Body) => one.status);
const problem = (answer: { status: number; body: Body }) => `${answer.status} ${answer.body.code}`;

describe("cancelling", () => {
  test("before the release: nothing is ever made", async () => {
    const asked = await ask({ ...later(), to_email: ["a@example.com", "b@example.com"] });
    const cancelled = await api.post(`/notifications/${asked.id}/cancel`);
    expect(cancelled.status).toBe(200);
    expect(cancelled.body).toMatchObject({ status: "cancelled", deliveries_total: 2 });
    expect(statuses(cancelled.body)).toEqual(["cancelled", "cancelled"]);
    expect(cancelled.headers.get("etag")).toBe('"1"');
    expect((await api.get(`/notifications/${asked.id}`)).body).toEqual(cancelled.body);
    const again = await api.post(`/notifications/${asked.id}/cancel`);
    expect({ status: again.status, body: again.body }).toEqual({ status: 200, body: cancelled.body });
  });

  test("while it is open: every delivery is stopped; the answer under a key stays what it was", async () => {
    const asked = await ask({ type: "websocket", user_ids: ["ann", "ben"], content: "x", email_fallback: true });
    await notificationUntil(api, asked.id, (body) => body.updated_at > asked.updated_at);
    const headers = { "idempotency-key": "stop" };
    const both = await Promise.all([0, 1].map(() => api.post(`/notifications/${asked.id}/cancel`, undefined, headers)));
    expect(both.map((one) => one.status)).toEqual([200, 200]);
    expect(both[1]?.body).toEqual(both[0]?.body);
    await notificationUntil(api, asked.id, (body) => body.status === "cancelled");
    const third = await api.post(`/notifications/${asked.id}/cancel`, undefined, headers);
    expect(third.body).toEqual(both[0]?.body);
    expect(third.headers.get("idempotent-replayed")).toBe("true");
    expect(statuses((await api.get(`/notifications/${asked.id}`)).body)).toEqual(["cancelled", "cancelled"]);
  });

  test("is refused when nothing is left, and when it changed meanwhile", async () => {
    const asked = await ask({ ...later(), send_at: null });
    await notificationUntil(api, asked.id, (body) => body.status === "sent");
    expect(problem(await api.post(`/notifications/${asked.id}/cancel`))).toBe("409 not_cancellable");
    const other = await ask(later());
    const stale = await api.post(`/notifications/${other.id}/cancel`, undefined, { "if-match": '"7"' });
    expect(problem(stale)).toBe("412 precondition_failed");
    expect((await api.post(`/notifications/${other.id}/cancel`, undefined, { "if-match": '"0"' })).status).toBe(200);
  });
});

describe("editing", () => {
  const edit = (id: string, patch: Body, headers = {}) => api.call("PATCH", `/notifications/${id}`, patch, headers);

  test("merges, while it is scheduled", async () => {
    const asked = await ask({ ...later(), meta: { a: 1, b: { c: 2, d: 3 } }, text: "plain" });
    const patch = { subject: "New", meta: { a: null, b: { d: 4 }, e: 5 }, text: null, priority: "high" };
    const edited = await edit(asked.id, patch);
    expect(edited.status).toBe(200);
    expect(edited.body).toEqual({
      ...asked,
      subject: "New",
      meta: { b: { c: 2, d: 4 }, e: 5 },
      priority: "high",
      updated_at: edited.body.updated_at,
    });
    expect(edited.headers.get("etag")).toBe('"1"');
    expect((await api.get(`/notifications/${asked.id}`)).body).toEqual(edited.body);
    expect((await edit(asked.id, patch)).body).toEqual(edited.body);
    expect(problem(await edit(asked.id, { subject: "x" }, { "if-match": '"0"' }))).toBe("412 precondition_failed");
    expect((await edit(asked.id, { priority: null }, { "if-match": '"1"' })).body.priority).toBe("normal");
  });

  test("a webhook's JSON merges too", async () => {
    const hook = { type: "webhook", url: targetUrl, content: { a: 1, b: [1] }, send_at: iso(DAY) };
    const { id } = await ask(hook);
    expect((await edit(id, { content: { b: [2], c: {} } })).body.content).toEqual({ a: 1, b: [2], c: {} });
    expect((await edit(id, { content: "text" })).body.content).toBe("text");
    expect((await edit(id, { content: null })).body.content).toBeNull();
  });

  test("times move together unless the end was chosen; an earlier time releases it", async () => {
    const asked = await ask(later());
    const sendAt = iso(2 * DAY);
    const moved = await edit(asked.id, { send_at: sendAt });
    expect(Date.parse(moved.body.expires_at)).toBe(Date.parse(sendAt) + 7 * DAY);
    const chosen = await edit(asked.id, { expires_at: iso(3 * DAY) });
    expect((await edit(asked.id, { send_at: iso(DAY) })).body.expires_at).toBe(chosen.body.expires_at);
    expect((await edit(asked.id, { send_at: iso(4 * DAY) })).body.errors).toEqual([
      { path: "expires_at", code: "too_small", message: expect.any(String) },
    ]);
    const released = await edit(asked.id, { send_at: null });
    expect(released.body).toMatchObject({ status: "pending", send_at: null });
    await notificationUntil(api, asked.id, (body) => body.status === "sent");
    expect(problem(await edit(asked.id, { subject: "Too late" }))).toBe("409 not_editable");
  });

  test.each([
    ["email", { subject: null }, ["subject required"]],
    ["email", { subject: "a\nb" }, ["subject invalid_format"]],
    ["email", { subject: " " }, ["subject invalid_format"]],
    ["email", { content: null }, ["content required"]],
    ["email", { content: { a: 1 } }, ["content wrong_type"]],
    ["email", { content: "x".repeat(262_145) }, ["content too_long"]],
    ["email", { to_email: "b@example.com" }, ["to_email unknown_field"]],
    ["email", { send_at: iso(500 * DAY) }, ["send_at too_large"]],
    ["email", { meta: { b: "x".repeat(5_000) } }, ["meta too_long"]],
    ["websocket", { text: "plain", content: 1 }, ["content wrong_type", "text not_allowed"]],
  ] as const)("%s: %j is refused", async (type, patch, expected) => {
    const meta = { a: "x".repeat(4_000) };
    const socket = { type: "websocket", user_ids: ["u"], content: "x", send_at: iso(DAY), meta };
    const { id } = await ask(type === "email" ? { ...later(), meta } : socket);
    const { status, body } = await edit(id, patch);
    expect(status).toBe(422);
    expect(body.errors.map((one: Body) => `${one.path} ${one.code}`).toSorted()).toEqual(expected);
  });
});

describe("starting again", () => {
  const failed = async (count = 2): Promise<Body> => {
    targetStatus = 410;
    const urls = Array.from({ length: count }, (_, n) => `${targetUrl}/${n}`);
    const asked = await ask({ type: "webhook", urls, content: {} });
    return notificationUntil(api, asked.id, (body) => body.status === "failed");
  };

  test("what expired gets its span anew, and the notification says until when", async () => {
    const asked = await ask({ type: "websocket", user_ids: ["late"], content: "x", expires_at: iso(900) });
    await notificationUntil(api, asked.id, (body) => body.status === "expired");
    const headers = { "idempotency-key": "anew" };
    const retried = await api.post(`/notifications/${asked.id}/retry`, {}, headers);
    expect(retried.body).toMatchObject({ status: "pending", deliveries: [{ status: "pending" }] });
    expect(Date.parse(retried.body.expires_at)).toBeGreaterThan(Date.parse(retried.body.updated_at));
    expect((await api.get(`/notifications/${asked.id}`)).body).toEqual(retried.body);
    await notificationUntil(api, asked.id, (body) => body.status === "expired");
    expect((await api.post(`/notifications/${asked.id}/retry`, {}, headers)).body).toEqual(retried.body);
  });

  test("all that failed; numbers go on; nothing is left to retry afterwards", async () => {
    const { id } = await failed();
    targetStatus = 200;
    const stale = await api.post(`/notifications/${id}/retry`, undefined, { "if-match": '"77"' });
    expect(problem(stale)).toBe("412 precondition_failed");
    const { headers } = await api.get(`/notifications/${id}`);
    const retried = await api.post(`/notifications/${id}/retry`, undefined, { "if-match": headers.get("etag") ?? "" });
    expect(retried.status).toBe(200);
    expect(statuses(retried.body)).toContain("pending");
    const done = await notificationUntil(api, id, (body) => body.status === "delivered");
    for (const delivery of done.deliveries) {
      expect(delivery.attempts.map((one: Body) => one.number)).toEqual([1, 2]);
    }
    expect(problem(await api.post(`/notifications/${id}/retry`))).toBe("409 nothing_to_retry");
  });

  test("only those named; unknown ones are refused by their place", async () => {
    const { id, deliveries } = await failed();
    const other = await failed(1);
    const unknown = await api.post(`/notifications/${id}/retry`, {
      delivery_ids: [deliveries[0].id, "dlv_zzz", other.deliveries[0].id],
    });
    expect(unknown.status).toBe(422);
    expect(unknown.body.errors.map((one: Body) => `${one.path} ${one.code}`)).toEqual([
      "delivery_ids.1 not_allowed",
      "delivery_ids.2 not_allowed",
    ]);
    targetStatus = 200;
    await api.post(`/notifications/${id}/retry`, { delivery_ids: [deliveries[1].id] });
    const done = await notificationUntil(api, id, (body) => body.status === "partial");
    expect(statuses(done)).toEqual(["exhausted", "delivered"]);
    const named = await api.post(`/notifications/${id}/retry`, { delivery_ids: [deliveries[1].id] });
    expect(problem(named)).toBe("409 nothing_to_retry");
  });

  test("under a key once, with the same answer, whatever failed later", async () => {
    const { id, deliveries } = await failed();
    const headers = { "idempotency-key": "again" };
    const body = { delivery_ids: [deliveries[0].id] };
    const [first, second] = await Promise.all([0, 1].map(() => api.post(`/notifications/${id}/retry`, body, headers)));
    expect(first?.status, JSON.stringify(first?.body)).toBe(200);
    expect(second?.body).toEqual(first?.body);
    await notificationUntil(api, id, (one) => one.status === "failed" && one.deliveries[0].attempt_count === 2);
    const third = await api.post(`/notifications/${id}/retry`, body, headers);
    expect(third.body).toEqual(first?.body);
    expect(third.headers.get("idempotent-replayed")).toBe("true");
    expect((await api.get(`/notifications/${id}`)).body.deliveries[0].attempt_count).toBe(2);
    const other = await api.post(`/notifications/${id}/retry`, {}, headers);
    expect(problem(other)).toBe("422 idempotency_key_reused");
  });
});

describe("who may", () => {
  test("unknown ids and other clients' answer alike; user tokens may not", async () => {
    const asked = await ask(later());
    const other = await newClient(server.url);
    const user = api.as(await tokenOf(api, "ann"));
    const paths = ["", "/timeline"].map((path) => ["GET", path] as const);
    const calls = [...paths, ["PATCH", ""], ["POST", "/cancel"], ["POST", "/retry"]] as const;
    for (const [method, path] of calls) {
      const body = method === "GET" ? undefined : {};
      const face = async (id: string) => {
        const { request_id: _own, ...rest } = (await other.call(method, `/notifications/${id}${path}`, body)).body;
        return JSON.stringify(rest);
      };
      expect(await face(asked.id)).toBe(await face(`ntf_${"z".repeat(26)}`));
      expect(JSON.parse(await face(asked.id)).code).toBe("not_found");
      expect(JSON.parse(await face("nonsense")).code).toBe("not_found");
      expect(problem(await user.call(method, `/notifications/${asked.id}${path}`, body))).toBe("403 forbidden");
    }
    expect((await api.get(`/notifications/${asked.id}`)).body).toEqual(asked);
  });
});
