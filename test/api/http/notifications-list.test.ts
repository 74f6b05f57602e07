// Finding notifications over HTTP: filters, pages, counts, and the timeline.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let room: Body;
const made: Record<string, Body> = {};
const at = new Date(Date.now() + 86_400_000).toISOString();

beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  room = (await api.post("/rooms", { name: "Team", members: [{ user_id: "ann" }, { user_id: "ben" }] })).body;
  const url = "http://127.0.0.1:8080/a,b?c=d,e";
  const asked: Record<string, Body> = {
    mail: { type: "email", to_email: ["Ann@Example.com", "x@example.com"], subject: "1", content: "1", send_at: at },
    user: { type: "websocket", user_ids: ["ann", "x@example.com"], content: "2", send_at: at },
    team: { type: "websocket", room_id: room.id, content: "3" },
    hook: { type: "webhook", url, content: 4, send_at: at, room_id: room.id },
    sent: { type: "email", to_email: "sent@example.com", subject: "5", content: "5" },
  };
  for (const [name, body] of Object.entries(asked)) {
    const answer = await api.post("/notifications", body);
    expect(answer.status, JSON.stringify(answer.body)).toBe(202);
    made[name] = answer.body;
  }
  await notificationUntil(api, made.sent?.id, (body) => body.status === "sent");
  await notificationUntil(api, made.team?.id, (body) => body.updated_at > made.team?.updated_at);
});
afterAll(() => server[Symbol.asyncDispose]());

const nameOf = (id: string) => Object.entries(made).find(([, body]) => body.id === id)?.[0];
const found = async (query: string): Promise<(string | undefined)[]> => {
  const { status, body } = await api.get(`/notifications${query}`);
  expect(status, JSON.stringify(body)).toBe(200);
  return body.data.map((one: Body) => nameOf(one.id));
};
const encoded = encodeURIComponent;

describe("the list", () => {
  test("newest first, with counts in place of deliveries", async () => {
    const { body } = await api.get("/notifications");
    expect(body.data.map((one: Body) => nameOf(one.id))).toEqual(["sent", "hook", "team", "user", "mail"]);
    expect(body.next_cursor).toBeNull();
    const { deliveries: _deliveries, ...mail } = made.mail;
    expect(body.data[4]).toEqual({ ...mail, delivery_counts: { pending: 2 } });
    expect(body.data[0]).toMatchObject({ status: "sent", delivery_counts: { sent: 1 }, deliveries_total: 1 });
    expect(body.data[2]).toMatchObject({ delivery_counts: { pending: 2 }, deliveries_total: 2 });
  });

  test.each([
    ["?type=email,webhook", ["sent", "hook", "mail"]],
    ["?status=scheduled", ["hook", "user", "mail"]],
    ["?status=sent,pending", ["sent", "team"]],
    ["?recipient=ann", ["team", "user"]],
    ["?recipient=ben", ["team"]],
    ["?recipient=x@example.com", ["user", "mail"]],
    ["?recipient=Ann@EXAMPLE.com", ["mail"]],
    ["?recipient=ann,x@example.com,sent@example.com", ["sent", "team", "user", "mail"]],
    [`?recipient=${encoded("HTTP://127.0.0.1:8080/a,b?c=d,e")}`, ["hook"]],
    ["?recipient=nobody", []],
    ["?ids=ntf_nothing,nonsense", []],
    ["?room_id=room_nothing", []],
    [`?from=${encoded(at)}`, []],
    ["?from=2020-01-01&to=2100-01-01&type=webhook", ["hook"]],
  ])("%s", async (query, expected) => {
    expect((await found(query)).toSorted()).toEqual(expected.toSorted());
  });

  test("by room, and by ids", async () => {
    expect(await found(`?room_id=${room.id}`)).toEqual(["hook", "team"]);
    expect(await found(`?ids=${made.mail?.id},${made.user?.id}`)).toEqual(["user", "mail"]);
  });

  test("pages keep their filters", async () => {
    const names: (string | undefined)[] = [];
    let query = "?type=websocket,email&limit=1";
    for (;;) {
      const { body } = await api.get(`/notifications${query}`);
      names.push(...body.data.map((one: Body) => nameOf(one.id)));
      if (body.next_cursor === null) break;
      query = `?limit=1&cursor=${body.next_cursor}`;
    }
    expect(names).toEqual(["sent", "team", "user", "mail"]);
  });

  test("wrong filters are named", async () => {
    const { status, body } = await api.get("/notifications?status=odd&type=pigeon&from=yesterday&nothing=1");
    expect(status).toBe(422);
    expect(body.errors.map((one: Body) => one.path.replace(/\.\d+$/, "")).toSorted()).toEqual([
      "?from",
      "?nothing",
      "?status",
      "?type",
    ]);
  });
});

describe("the timeline", () => {
  test("shows every event of the notification and its deliveries, oldest first, in pages", async () => {
    const { body } = await api.get(`/notifications/${made.sent?.id}/timeline`);
    expect(body.data.map((one: Body) => one.type)).toEqual([
      "NotificationRequested",
      "NotificationReleased",
      "DeliveryRequested",
      "NotificationRouted",
      "DeliveryAttemptStarted",
      "DeliverySucceeded",
    ]);
    expect(body.data[0].data).toMatchObject({
      subject: "5",
      recipients: [{ address: "sent@example.com" }],
      send_at: null,
      expires_at: made.sent?.expires_at,
    });
    expect(new Set(body.data.map((one: Body) => one.correlation_id)).size).toBe(1);
    expect(body.data[2].causation_id).toBe(body.data[1].id);
    const paged: string[] = [];
    let cursor = "";
    for (;;) {
      const page = await api.get(`/notifications/${made.sent?.id}/timeline?limit=2${cursor}`);
      expect(page.body.data.length).toBeLessThanOrEqual(2);
      paged.push(...page.body.data.map((one: Body) => one.id));
      if (page.body.next_cursor === null) break;
      cursor = `&cursor=${page.body.next_cursor}`;
    }
    expect(paged).toEqual(body.data.map((one: Body) => one.id));
  });
});
