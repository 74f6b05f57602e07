// Notifications for more people than an answer shows: totals, counts and answers under a key stay right.
import { afterAll, beforeAll, expect, test } from "vitest";
import { httpServer, type TestServer as Receiver } from "../../channels/servers.ts";
import { type Api, type Body, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let target: Receiver;
let url: string;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  target = await httpServer((request, response) => response.writeHead(request.url?.endsWith("7") ? 410 : 200).end());
  url = `http://127.0.0.1:${target.port}`;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
});

const COUNT = 130;
const countsOf = async (id: string): Promise<Body> => (await api.get(`/notifications?ids=${id}`)).body.data[0];

test("webhooks: the first hundred are shown, all are counted and started again", async () => {
  const urls = Array.from({ length: COUNT }, (_, n) => `${url}/${n}`);
  const { body: asked } = await api.post("/notifications", { type: "webhook", urls, content: {} });
  expect(asked).toMatchObject({ status: "pending", deliveries_total: COUNT });
  expect(asked.deliveries.map((one: Body) => one.recipient)).toEqual(urls.slice(0, 100));
  const done = await notificationUntil(api, asked.id, (body) => body.status === "partial", 20_000);
  expect(done.deliveries).toHaveLength(100);
  expect(done.deliveries_total).toBe(COUNT);
  expect((await countsOf(asked.id)).delivery_counts).toEqual({ delivered: COUNT - 13, exhausted: 13 });
  const headers = { "idempotency-key": "many" };
  const retried = await api.post(`/notifications/${asked.id}/retry`, {}, headers);
  expect(retried.status).toBe(200);
  expect(retried.body).toMatchObject({ deliveries_total: COUNT, status: "processing" });
  const again = await api.post(`/notifications/${asked.id}/retry`, {}, headers);
  expect(again.body).toEqual(retried.body);
  await notificationUntil(api, asked.id, (body) => body.status === "partial", 20_000);
  expect((await api.post(`/notifications/${asked.id}/retry`, {}, headers)).body).toEqual(retried.body);
}, 60_000);

test("a room: cancelling counts all, also those that were never made", async () => {
  const members = Array.from({ length: COUNT }, (_, n) => ({ user_id: `member-${n}` }));
  const { body: room } = await api.post("/rooms", { name: "Many", members });
  const { body: asked } = await api.post("/notifications", { type: "websocket", room_id: room.id, content: "x" });
  expect(asked.deliveries_total).toBe(COUNT);
  expect(new Set(asked.deliveries.map((one: Body) => one.recipient)).size).toBe(100);
  const headers = { "idempotency-key": "stop" };
  const stopped = await api.post(`/notifications/${asked.id}/cancel`, undefined, headers);
  expect(stopped.status).toBe(200);
  expect(stopped.body.deliveries_total).toBe(COUNT);
  const ids = (body: Body) => body.deliveries.map((one: Body) => one.id);
  expect(ids(stopped.body)).toEqual(ids(asked));
  await notificationUntil(api, asked.id, (body) => body.status === "cancelled", 20_000);
  const counts = await countsOf(asked.id);
  expect(counts).toMatchObject({ delivery_counts: { cancelled: COUNT }, deliveries_total: COUNT });
  expect((await api.post(`/notifications/${asked.id}/cancel`, undefined, headers)).body).toEqual(stopped.body);
}, 60_000);

test("a room: the first hundred keep their order when they are made", async () => {
  const members = Array.from({ length: COUNT }, (_, n) => ({ user_id: `person-${n}` }));
  const { body: room } = await api.post("/rooms", { name: "Ordered", members });
  const { body: asked } = await api.post("/notifications", { type: "websocket", room_id: room.id, content: "x" });
  const routed = "/audit/events?type=NotificationRouted&limit=100";
  const isRouted = async () => (await api.get(routed)).body.data.some((one: Body) => one.stream.endsWith(asked.id));
  while (!(await isRouted())) await new Promise((resolve) => setTimeout(resolve, 50));
  const { body: made } = await api.get(`/notifications/${asked.id}`);
  expect(made.deliveries_total).toBe(COUNT);
  expect(made.deliveries.map((one: Body) => one.recipient)).toEqual(asked.deliveries.map((one: Body) => one.recipient));
}, 60_000);
