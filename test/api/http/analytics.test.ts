// Analytics: the figures equal what counting the list gives, whatever they are grouped by.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Api, type Body, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let list: Body[];
const categories = new Map<string, string | null>();
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  const send = async (body: Body, until: string) => {
    const { body: made } = await api.post("/notifications", body);
    categories.set(made.id, made.category);
    await notificationUntil(api, made.id, (one) => one.status === until);
    return made.id;
  };
  const mail = { type: "email", subject: "S", content: "C" };
  await send({ ...mail, to_email: ["a@example.com", "b@example.com"], category: "news", tag: "spring" }, "sent");
  await send({ ...mail, to_email: "c@example.com" }, "sent");
  const urls = ["http://127.0.0.1:65001/a"];
  await send({ type: "webhook", urls, content: {}, category: "news", expires_at: soon(2_000) }, "processing");
  const stopped = (await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "x" })).body.id;
  await api.get(`/deliveries/${(await api.get(`/notifications/${stopped}`)).body.deliveries[0].id}`);
  await api.post(`/notifications/${stopped}/cancel`);
  await notificationUntil(api, stopped, (one) => one.status === "cancelled");
  list = (await api.get("/deliveries?limit=100")).body.data;
});
afterAll(() => server[Symbol.asyncDispose]());

const soon = (ms: number) => new Date(Date.now() + 3_600_000 + ms).toISOString();
const SUMS = ["requested", "sent", "delivered", "opened", "failed", "cancelled", "suppressed", "fell_back"] as const;
const counted = (rows: Body[]): Body => ({
  requested: rows.length,
  sent: rows.filter((one) => one.sent_at !== null).length,
  delivered: rows.filter((one) => one.delivered_at !== null).length,
  cancelled: rows.filter((one) => one.status === "cancelled").length,
  failed: rows.filter((one) => ["exhausted", "expired"].includes(one.status)).length,
});
const KEYS: Readonly<Record<string, (one: Body) => string | null>> = {
  channel: (one) => one.channel,
  status: (one) => one.status,
  provider: (one) => one.provider,
  category: (one) => categories.get(one.notification_id) ?? null,
};

test.each(Object.keys(KEYS))("by %s", async (group) => {
  const { status, body } = await api.get(`/notifications/analytics?group_by=${group}`);
  expect(status, JSON.stringify(body)).toBe(200);
  expect(body.totals).toMatchObject(counted(list));
  const groups = Map.groupBy(list, KEYS[group] ?? (() => null));
  expect(body.data).toHaveLength(groups.size);
  for (const row of body.data) expect(row).toMatchObject(counted(groups.get(row[group]) ?? []));
  for (const name of SUMS) {
    expect(body.data.reduce((sum: number, row: Body) => sum + row[name], 0)).toBe(body.totals[name]);
  }
});

test("by hour and day, within bounds, and filtered", async () => {
  const { body } = await api.get("/notifications/analytics");
  const today = new Date().toISOString().slice(0, 10);
  expect(body.data.at(-1).day).toBe(`${today}T00:00:00.000Z`);
  expect(body.totals.delivery_rate).toBe(0.75);
  expect(body.totals.p50_seconds).toBeGreaterThanOrEqual(0);
  expect((await api.get("/notifications/analytics?group_by=hour&category=news")).body.totals.requested).toBe(3);
  expect((await api.get("/notifications/analytics?type=email&tag=spring")).body.totals.requested).toBe(2);
  const none = (await api.get("/notifications/analytics?to=2020-01-01")).body;
  expect(none).toMatchObject({ data: [], totals: { requested: 0, delivery_rate: null, p95_seconds: null } });
  const other = await newClient(server.url);
  expect((await other.get("/notifications/analytics")).body.totals.requested).toBe(0);
});
