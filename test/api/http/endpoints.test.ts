// Webhook endpoints over HTTP: what they get, how it is signed, and what becomes of them.
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bodyOf, httpServer } from "../../channels/servers.ts";
import { type Api, type Body, newClient, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { sized, sizedTimeout } from "../../support/size.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

/** In order, an event waits for the outcome of the one before it: hundreds take a while on a busy machine. */
const COME_MS = sizedTimeout(100_000, 600_000);

type Received = {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly text: string;
  readonly body: Body;
};

/** While it is paused. */
const PAUSED_EVENTS = sized(150, 1_000);
/** What of a body is the same however often it is sent. */
const dataOf = (text: string): string => text.slice(text.indexOf('"data":'));

/** Takes webhooks on any path, and answers as told. */
async function receiver(answer: (path: string, n: number) => number = () => 204) {
  const received: Received[] = [];
  const http = await httpServer(async (request, response) => {
    const text = await bodyOf(request);
    const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]));
    received.push({ path: request.url ?? "", headers, text, body: JSON.parse(text) });
    response.writeHead(answer(request.url ?? "", received.length)).end();
  });
  const at = (path: string) => received.filter((one) => one.path === path);
  const url = (path = "/") => `http://127.0.0.1:${http.port}${path}`;
  const come = (path: string, count: number) =>
    until(
      async () => at(path),
      (all) => all.length >= count,
      COME_MS,
    );
  return { received, at, url, come, [Symbol.asyncDispose]: () => http[Symbol.asyncDispose]() };
}

async function roomOf(api: Api): Promise<Body> {
  const members = [{ user_id: "ann", role: "owner" }];
  return (await api.post("/rooms", { name: "Talk", members })).body;
}
const say = async (api: Api, room: Body, content: string): Promise<Body> =>
  (await api.post(`/rooms/${room.id}/messages`, { sender_id: "ann", content })).body;

describe("an endpoint", () => {
  test("gets the events it names, once, signed with its own secret", async () => {
    const api = await newClient(server.url);
    await using target = await receiver();
    const made = await api.post("/webhooks", {
      url: target.url("/a"),
      events: ["message.*"],
      headers: { "X-Team": "blue" },
    });
    expect(made.status, JSON.stringify(made.body)).toBe(201);
    expect(made.headers.get("location")).toBe(`/api/v1/webhooks/${made.body.id}`);
    expect(made.body).toMatchObject({
      id: expect.stringMatching(/^whk_/),
      events: ["message.*"],
      headers: { "X-Team": { set: true } },
      ...{ ordered: false, status: "active", timeout_seconds: 15, lag_events: 0 },
      secret: expect.stringMatching(/^whsec_/),
    });
    const room = await roomOf(api);
    const first = await say(api, room, "one");
    await say(api, room, "two");
    const [one] = await target.come("/a", 2);
    expect(one?.headers).toMatchObject({ "x-team": "blue", "webhook-id": one?.body.id });
    expect(one?.body).toEqual({
      id: expect.stringMatching(/^evt_/),
      type: "message.posted",
      timestamp: first.created_at,
      position: expect.any(String),
      room_id: room.id,
      seq: first.seq,
      actor: { type: "key", id: expect.stringMatching(/^key_/) },
      data: first,
    });
    const verifier = new Webhook(made.body.secret);
    for (const { text, headers } of target.at("/a")) expect(() => verifier.verify(text, headers)).not.toThrow();
    const shown = await until(
      async () => (await api.get(`/webhooks/${made.body.id}`)).body,
      (body) => body.lag_events === 0 && body.last_success_at !== null,
    );
    expect(shown).toMatchObject({ lag_seconds: 0, last_failure: null });
    expect(target.at("/a")).toHaveLength(2);
    const { body: list } = await api.get(`/webhooks/${made.body.id}/deliveries`);
    expect(list.data).toHaveLength(2);
    expect(list.data[1]).toMatchObject({
      ...{ notification_id: null, channel: "webhook", recipient: target.url("/a"), status: "delivered" },
      source: { endpoint_id: made.body.id, event_id: one?.body.id },
      attempts: [{ number: 1, outcome: "succeeded" }],
    });
  });

  test(
    "paused, it gets what happened meanwhile once it is resumed; rewound, the same again under the same ids",
    async () => {
      const api = await newClient(server.url);
      await using target = await receiver();
      const about = { url: target.url("/b"), events: ["message.posted"], ordered: true };
      const { body: made } = await api.post("/webhooks", about);
      const room = await roomOf(api);
      await say(api, room, "before");
      await target.come("/b", 1);
      const { body: before } = await api.get(`/webhooks/${made.id}`);
      expect((await api.post(`/webhooks/${made.id}/pause`)).body.status).toBe("paused");
      for (let n = 0; n < PAUSED_EVENTS; n += 1) await say(api, room, `message ${n}`);
      expect((await api.post(`/webhooks/${made.id}/resume`)).body.status).toBe("active");
      const all = await target.come("/b", PAUSED_EVENTS + 1);
      const contents = ["before", ...Array.from({ length: PAUSED_EVENTS }, (_, n) => `message ${n}`)];
      expect(all.map(({ body }) => body.data.content)).toEqual(contents);
      const rewound = await api.post(`/webhooks/${made.id}/rewind`, { to: before.position });
      expect(rewound.status, JSON.stringify(rewound.body)).toBe(202);
      const again = (await target.come("/b", 2 * PAUSED_EVENTS + 1)).slice(PAUSED_EVENTS + 1);
      // The same bytes, but for when it was sent.
      const idsAndData = (sent: typeof all) => sent.map(({ headers, text }) => [headers["webhook-id"], dataOf(text)]);
      expect(idsAndData(again)).toEqual(idsAndData(all.slice(1)));
    },
    sizedTimeout(240_000, 1_200_000),
  );

  test("gets more than it may have open at once, as fast as it answers", async () => {
    const api = await newClient(server.url);
    await using target = await receiver();
    const { body: made } = await api.post("/webhooks", { url: target.url("/many"), events: ["message.posted"] });
    const room = await roomOf(api);
    await api.post(`/webhooks/${made.id}/pause`);
    for (let n = 0; n < 400; n += 1) await say(api, room, `message ${n}`);
    await api.post(`/webhooks/${made.id}/resume`);
    const all = await target.come("/many", 400);
    expect(new Set(all.map(({ headers }) => headers["webhook-id"])).size).toBe(400);
  }, 240_000);

  test("both secrets verify after a rotation, a test goes out while it is paused, and 410 disables it", async () => {
    const api = await newClient(server.url);
    await using target = await receiver((path) => (path === "/gone" ? 410 : 204));
    const { body: made } = await api.post("/webhooks", { url: target.url("/c"), events: ["room.*"] });
    const rotated = await api.post(`/webhooks/${made.id}/rotate-secret`);
    expect(rotated.body.previous.secret).toBe(made.secret);
    await api.post(`/webhooks/${made.id}/pause`);
    expect((await api.post(`/webhooks/${made.id}/test`)).status).toBe(202);
    const [sent] = await target.come("/c", 1);
    expect(sent?.body).toMatchObject({ type: "webhook.test", data: { endpoint_id: made.id } });
    for (const secret of [made.secret, rotated.body.secret]) {
      expect(() => new Webhook(secret).verify(sent?.text ?? "", sent?.headers ?? {})).not.toThrow();
    }
    const { body: gone } = await api.post("/webhooks", { url: target.url("/gone"), events: ["room.*"] });
    await roomOf(api);
    const shown = await until(
      async () => (await api.get(`/webhooks/${gone.id}`)).body,
      (body) => body.status === "disabled" && body.last_failure !== null,
    );
    expect(shown.last_failure).toMatchObject({ code: "gone" });
  });

  test("every change of it holds to the ETag that it was made from", async () => {
    const api = await newClient(server.url);
    const asked = { url: "http://127.0.0.1:9999/", events: ["room.*"] };
    const { body: made, headers } = await api.post("/webhooks", asked);
    const path = `/webhooks/${made.id}`;
    const changes = [
      ["PATCH", path, { description: "New" }],
      ["POST", `${path}/pause`, {}],
      ["POST", `${path}/resume`, {}],
      ["POST", `${path}/rewind`, { to: "2026-01-01" }],
      ["POST", `${path}/rotate-secret`, {}],
      ["DELETE", path, undefined],
    ] as const;
    let etag = headers.get("etag") ?? "";
    for (const [method, at, body] of changes) {
      const stale = await api.call(method, at, body, { "if-match": '"0"' });
      expect([at, stale.status, stale.body.code]).toEqual([at, 412, "precondition_failed"]);
      const fresh = await api.call(method, at, body, { "if-match": etag });
      expect([at, fresh.status]).toEqual([at, method === "DELETE" ? 204 : at.endsWith("/rewind") ? 202 : 200]);
      if (method !== "DELETE") etag = (await api.get(path)).headers.get("etag") ?? "";
    }
    expect((await api.get(path)).status).toBe(404);
  });
});
