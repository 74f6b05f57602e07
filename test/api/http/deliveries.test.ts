// Acknowledging deliveries over HTTP, by the user whom they are for.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Api, type Body, newClient, notificationUntil, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: TestServer;
let api: Api;
let ann: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  ann = api.as(await tokenOf(api, "ann"));
});
afterAll(() => server[Symbol.asyncDispose]());

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** A delivery to ann that is made. */
const delivery = async (): Promise<{ id: string; notification: string }> => {
  const { body } = await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "x" });
  await notificationUntil(api, body.id, (one) => one.updated_at > body.updated_at);
  return { id: body.deliveries[0].id, notification: body.id };
};

test("its user acknowledges it, once; saying so again changes nothing", async () => {
  const { id, notification } = await delivery();
  const headers = { "idempotency-key": "seen" };
  const first = await ann.post(`/deliveries/${id}/ack`, undefined, headers);
  expect(first.status, JSON.stringify(first.body)).toBe(200);
  expect(first.body).toEqual({
    id,
    notification_id: notification,
    source: null,
    channel: "websocket",
    recipient: "ann",
    status: "delivered",
    fallback_of: null,
    attempt_count: 0,
    next_attempt_at: null,
    held_until: null,
    sent_at: null,
    delivered_at: expect.stringMatching(TIME),
    read_at: first.body.delivered_at,
    opened_at: null,
    provider: null,
    provider_message_id: null,
    error: null,
    attempts: [],
  });
  const again = await ann.post(`/deliveries/${id}/ack`);
  expect({ status: again.status, body: again.body }).toEqual({ status: 200, body: first.body });
  const replayed = await ann.post(`/deliveries/${id}/ack`, undefined, headers);
  expect(replayed.body).toEqual(first.body);
  expect(replayed.headers.get("idempotent-replayed")).toBe("true");
  const read = await notificationUntil(api, notification, (body) => body.status === "delivered");
  expect(read.deliveries).toEqual([first.body]);
});

test("one whose id was just given can be acknowledged at once, before it is made", async () => {
  using socket = await SocketClient.connect(server.url.replace("http", "ws"), await tokenOf(api, "ann"));
  for (let n = 0; n < 4; n += 1) {
    const { body } = await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "x" });
    const { status, body: acknowledged } = await ann.post(`/deliveries/${body.deliveries[0].id}/ack`);
    expect(status).toBe(200);
    expect(acknowledged).toMatchObject({ id: body.deliveries[0].id, status: "delivered" });
    const other = await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "x" });
    expect(await socket.ask({ type: "ack", delivery_id: other.body.deliveries[0].id })).toEqual({ type: "ok" });
  }
});

test("a cancelled one stays cancelled", async () => {
  const { id, notification } = await delivery();
  await api.post(`/notifications/${notification}/cancel`);
  await notificationUntil(api, notification, (body) => body.status === "cancelled");
  const { status, body } = await ann.post(`/deliveries/${id}/ack`);
  expect(status).toBe(200);
  expect(body).toMatchObject({ status: "cancelled", delivered_at: null, read_at: null });
});

test("others find nothing, whether it is there or not; a key may not", async () => {
  const { id } = await delivery();
  const other = await newClient(server.url);
  const strangers = [api.as(await tokenOf(api, "ben")), other.as(await tokenOf(other, "ann"))];
  for (const stranger of strangers) {
    for (const asked of [id, `dlv_${"z".repeat(26)}`, "nonsense"]) {
      const { status, body } = await stranger.post(`/deliveries/${asked}/ack`);
      expect({ status, code: (body as Body).code }).toEqual({ status: 404, code: "not_found" });
    }
  }
  expect((await api.post(`/deliveries/${id}/ack`)).body).toMatchObject({ status: 403, code: "forbidden" });
  expect((await ann.post(`/deliveries/${id}/ack`)).body.status).toBe("delivered");
});
