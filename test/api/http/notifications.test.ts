// Asking for notifications over HTTP: what is taken, what is refused, and the answer.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const DAY = 86_400_000;
const iso = (offset: number) => new Date(Date.now() + offset).toISOString();
const email = { type: "email", subject: "Hi", content: "Hello", send_at: iso(DAY) };
const socket = { type: "websocket", content: "Hello", send_at: iso(DAY) };
const ask = async (body: Body): Promise<Body> => {
  const asked = await api.post("/notifications", body);
  expect(asked.status, JSON.stringify(asked.body)).toBe(202);
  return asked.body;
};
const recipients = (body: Body) => body.deliveries.map((one: Body) => one.recipient);

describe("asking", () => {
  test("answers 202 with the notification and the deliveries to be made", async () => {
    const { body, status, headers } = await api.post("/notifications", { ...email, to_email: "a@example.com" });
    expect(status).toBe(202);
    expect(body).toEqual({
      id: expect.stringMatching(/^ntf_[0-9a-z]{26}$/),
      type: "email",
      status: "scheduled",
      room_id: null,
      subject: "Hi",
      content: "Hello",
      meta: {},
      priority: "normal",
      category: null,
      tag: null,
      attachments: [],
      email_fallback: null,
      send_at: email.send_at,
      expires_at: new Date(Date.parse(email.send_at) + 7 * DAY).toISOString(),
      created_at: expect.stringMatching(TIME),
      updated_at: body.created_at,
      deliveries: [
        {
          id: expect.stringMatching(/^dlv_[0-9a-z]{26}$/),
          notification_id: body.id,
          source: null,
          channel: "email",
          recipient: "a@example.com",
          status: "pending",
          fallback_of: null,
          attempt_count: 0,
          next_attempt_at: null,
          held_until: null,
          sent_at: null,
          delivered_at: null,
          read_at: null,
          opened_at: null,
          provider: null,
          provider_message_id: null,
          error: null,
          attempts: [],
        },
      ],
      deliveries_total: 1,
    });
    expect(headers.get("location")).toBe(`/api/v1/notifications/${body.id}`);
    expect(headers.get("etag")).toBe('"0"');
    const read = await api.get(`/notifications/${body.id}`);
    expect(read.body).toEqual(body);
    expect(read.headers.get("etag")).toBe('"0"');
  });

  test("the deliveries that are made have the announced ids, with every attempt", async () => {
    const asked = await ask({ ...email, send_at: null, to_email: ["one@example.com", "two@example.com"] });
    expect(asked.status).toBe("pending");
    const sent = await notificationUntil(api, asked.id, (body) => body.status === "sent");
    expect(sent.deliveries.map((one: Body) => one.id)).toEqual(asked.deliveries.map((one: Body) => one.id));
    for (const delivery of sent.deliveries) {
      expect(delivery).toMatchObject({ status: "sent", attempt_count: 1, sent_at: expect.stringMatching(TIME) });
      expect(delivery.attempts).toEqual([
        {
          number: 1,
          started_at: expect.stringMatching(TIME),
          ended_at: expect.stringMatching(TIME),
          outcome: "succeeded",
          provider: "development-mailbox",
          response: { status: 250, body: expect.any(String) },
          error: null,
          next_attempt_at: null,
        },
      ]);
    }
  });

  test("takes each of the alternative fields, and each recipient once", async () => {
    const several = ["A@Example.COM", "A@example.com", "a@example.com", "b@münchen.example"];
    const first = ["A@Example.COM", "a@example.com", "b@münchen.example"];
    expect(recipients(await ask({ ...email, to_email: several }))).toEqual(first);
    expect(recipients(await ask({ ...email, recipients: several }))).toEqual(first);
    expect(recipients(await ask({ ...email, to: [{ email: "x@example.com", name: "X" }] }))).toEqual(["x@example.com"]);
    expect(recipients(await ask({ ...socket, user_ids: ["u1", "u2", "u1"] }))).toEqual(["u1", "u2"]);
    expect(recipients(await ask({ ...socket, recipients: ["u1"] }))).toEqual(["u1"]);
    const hook = { type: "webhook", content: { any: ["json", null, 1] }, send_at: iso(DAY) };
    const urls = ["http://127.0.0.1:8/x", "http://127.0.0.1:8080/x?b", "HTTP://127.0.0.1:8080/x?b"];
    expect(recipients(await ask({ ...hook, url: urls[1] }))).toEqual([urls[1]]);
    expect(recipients(await ask({ ...hook, urls }))).toEqual(urls.slice(0, 2));
    expect((await ask({ ...hook, recipients: [urls[1]] })).content).toEqual(hook.content);
    expect((await ask({ ...hook, url: urls[1], content: null })).content).toBeNull();
  });

  test("without targets goes to the members that the room has now", async () => {
    const members = ["m1", "m2", "m3"].map((user_id) => ({ user_id }));
    const { body: room } = await api.post("/rooms", { name: "Team", members });
    const asked = await ask({ ...socket, room_id: room.id });
    expect(asked).toMatchObject({ room_id: room.id, deliveries_total: 3 });
    expect(recipients(asked).toSorted()).toEqual(["m1", "m2", "m3"]);
    await api.put(`/rooms/${room.id}/members/m4`, {});
    await api.delete(`/rooms/${room.id}/members/m1`);
    expect((await api.get(`/notifications/${asked.id}`)).body).toEqual(asked);
    const now = await ask({ ...socket, send_at: null, room_id: room.id });
    const made = await notificationUntil(api, now.id, (body) => body.updated_at > now.updated_at);
    expect(made.deliveries.map((one: Body) => one.id).toSorted()).toEqual(
      now.deliveries.map((one: Body) => one.id).toSorted(),
    );
  });

  test("keeps what it was told of a fallback; on other channels it changes nothing", async () => {
    const told = { enabled: true, to_email: "f@example.com", subject: "S", content: "<p>C</p>", after_seconds: 60 };
    expect((await ask({ ...socket, user_ids: ["u"], email_fallback: told })).email_fallback).toEqual(told);
    const defaults = { enabled: true, to_email: null, subject: null, content: null, after_seconds: 30 };
    expect((await ask({ ...socket, user_ids: ["u"], email_fallback: true })).email_fallback).toEqual(defaults);
    for (const off of [false, null, { enabled: false }]) {
      expect((await ask({ ...socket, user_ids: ["u"], email_fallback: off })).email_fallback).toBeNull();
    }
    expect((await ask({ ...email, to_email: "a@b.example", email_fallback: told })).email_fallback).toBeNull();
  });

  test("a past send_at is now", async () => {
    const asked = await ask({ ...socket, user_ids: ["late"], send_at: "2020-01-01T00:00:00+02:00" });
    expect(asked).toMatchObject({ status: "pending", send_at: null });
    expect(Date.parse(asked.expires_at) - Date.parse(asked.created_at)).toBe(7 * DAY);
  });

  test("under a key gives the same answer again, also when its times are over and it has moved on", async () => {
    const body = { ...email, send_at: null, to_email: "once@example.com", expires_at: iso(1_000) };
    const headers = { "idempotency-key": "soon" };
    const first = await api.post("/notifications", body, headers);
    expect(first.status).toBe(202);
    await notificationUntil(api, first.body.id, (one) => one.status === "sent");
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const again = await api.post("/notifications", body, headers);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect({ status: again.status, body: again.body }).toEqual({ status: 202, body: first.body });
    const other = await api.post("/notifications", { ...body, subject: "Other" }, headers);
    expect(other).toMatchObject({ status: 422, body: { code: "idempotency_key_reused" } });
  });
});
