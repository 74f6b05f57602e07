// The inbox over HTTP and on sockets: listing, marking one or all, counts, and whose it is.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, mails, newClient, notificationUntil, tokenOf, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

/** Sends a notification; gives it once its delivery is made. */
async function notify(user: string, more: Body = {}): Promise<Body> {
  const content = { type: "websocket", user_ids: [user], content: "Hello", ...more };
  const { status, body } = await api.post("/notifications", content);
  expect(status, JSON.stringify(body)).toBe(202);
  await api.get(`/deliveries/${body.deliveries[0].id}`);
  return body;
}

const TIME = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const list = async (by: Api, user: string, query = ""): Promise<Body> => {
  const { status, body } = await by.get(`/users/${user}/notifications${query}`);
  expect(status, JSON.stringify(body)).toBe(200);
  return body;
};
const ids = (body: Body): string[] => body.data.map((item: Body) => item.id);

test("the inbox shows a user's notifications, newest first, with what is unread and unseen", async () => {
  const ann = api.as(await tokenOf(api, "ann"));
  const first = await notify("ann", { subject: "Lunch?", meta: { n: 1 }, priority: "high", category: "social" });
  const second = await notify("ann");
  const body = await list(ann, "ann");
  expect(body).toEqual({
    data: [expect.objectContaining({ id: second.id }), expect.objectContaining({ id: first.id })],
    ...{ unread_count: 2, unseen_count: 2, next_cursor: null },
  });
  expect(body.data[1]).toEqual({
    id: first.id,
    delivery_id: first.deliveries[0].id,
    ...{ subject: "Lunch?", content: "Hello", meta: { n: 1 }, priority: "high", category: "social", room_id: null },
    ...{ created_at: TIME, seen_at: null, read_at: null, archived_at: null },
  });
  expect(ids(await list(api, "ann", "?category=social"))).toEqual([first.id]);
  const page = await list(ann, "ann", "?limit=1&status=all");
  const rest = await list(ann, "ann", `?cursor=${page.next_cursor}`);
  expect([...ids(page), ...ids(rest)]).toEqual([second.id, first.id]);
});

describe("one notification", () => {
  test("is read, which is seen and acknowledged; unread again; archived and taken out", async () => {
    const bob = api.as(await tokenOf(api, "bob"));
    const { id } = await notify("bob");
    await notify("bob");
    const mark = async (action: string) => {
      const { status, body } = await bob.post(`/users/bob/notifications/${id}/${action}`);
      expect(status, JSON.stringify(body)).toBe(200);
      const shown = (await list(bob, "bob", "?status=all")).data.find((item: Body) => item.id === id);
      return { ...body, ...shown };
    };
    const read = await mark("read");
    expect(read).toMatchObject({ unread_count: 1, unseen_count: 1, seen_at: TIME, read_at: TIME, archived_at: null });
    expect((await api.get(`/notifications/${id}`)).body).toMatchObject({ status: "delivered" });
    expect(await mark("read")).toEqual(read);
    expect(await mark("unread")).toMatchObject({ unread_count: 2, unseen_count: 1, read_at: null });
    expect(await mark("archive")).toMatchObject({ unread_count: 1, read_at: TIME, archived_at: TIME });
    expect(ids(await list(bob, "bob"))).not.toContain(id);
    expect(ids(await list(bob, "bob", "?status=archived"))).toEqual([id]);
    expect(await mark("unarchive")).toMatchObject({ unread_count: 1, read_at: TIME, archived_at: null });
    const { body } = await api.get(`/notifications/${id}/timeline`);
    expect(body.data.map((event: Body) => event.type).slice(-5)).toEqual([
      ...["DeliveryAcknowledged", "DeliveryMarked", "DeliveryMarked", "DeliveryMarked", "DeliveryMarked"],
    ]);
  });

  test("that is read gets no fallback mail", async () => {
    const fallback = { to_email: "cid@example.com", after_seconds: 1 };
    const { id } = await notify("cid", { email_fallback: fallback });
    expect((await api.post(`/users/cid/notifications/${id}/read`)).status).toBe(200);
    const mailed = await notify("cid", { email_fallback: fallback });
    await notificationUntil(api, mailed.id, (one) => one.status === "sent");
    expect(await mails(server.url, "cid@example.com")).toHaveLength(1);
  });

  test("of another user, of another channel, or that does not exist is not found", async () => {
    const dan = api.as(await tokenOf(api, "dan"));
    const { id } = await notify("eve");
    const mail = await api.post("/notifications", {
      type: "email",
      to_email: "dan@example.com",
      subject: "S",
      content: "C",
    });
    for (const one of [id, mail.body.id, "ntf_none"]) {
      const answer = await dan.post(`/users/dan/notifications/${one}/read`);
      expect(answer.body).toMatchObject({ status: 404, code: "not_found" });
    }
    for (const path of [
      "/users/eve/notifications",
      `/users/eve/notifications/${id}/read`,
      "/users/eve/notifications/seen",
    ]) {
      const answer = await (path.endsWith("notifications") ? dan.get(path) : dan.post(path));
      expect(answer.body).toMatchObject({ status: 404, code: "not_found" });
    }
    expect(await list(api, "nobody")).toEqual({ data: [], unread_count: 0, unseen_count: 0, next_cursor: null });
    const other = await newClient(server.url);
    expect((await other.post(`/users/eve/notifications/${id}/read`)).status).toBe(404);
    expect(await list(api, "eve")).toMatchObject({ unread_count: 1, unseen_count: 1 });
  });
});

describe("the whole inbox", () => {
  test("is seen, read and archived in one event each, what comes later is not", async () => {
    const all = async (action: string, body: Body = {}) => {
      const answer = await api.post(`/users/fay/notifications/${action}`, body);
      expect(answer.status, JSON.stringify(answer.body)).toBe(200);
      return answer.body;
    };
    const first = await notify("fay");
    const second = await notify("fay");
    expect(await all("seen")).toEqual({ unread_count: 2, unseen_count: 0 });
    const [newest] = (await list(api, "fay")).data;
    expect(await all("read-all", { before: newest.created_at })).toEqual({ unread_count: 1, unseen_count: 0 });
    expect(await all("read-all")).toEqual({ unread_count: 0, unseen_count: 0 });
    const third = await notify("fay");
    expect(await list(api, "fay", "?status=unread")).toMatchObject({ data: [{ id: third.id }], unread_count: 1 });
    expect(await all("archive-all")).toEqual({ unread_count: 0, unseen_count: 0 });
    expect(await all("archive-all")).toEqual({ unread_count: 0, unseen_count: 0 });
    expect(ids(await list(api, "fay"))).toEqual([]);
    expect(ids(await list(api, "fay", "?status=archived"))).toEqual([third.id, second.id, first.id]);
    await api.post(`/users/fay/notifications/${first.id}/unread`);
    expect(await list(api, "fay")).toMatchObject({ data: [{ id: first.id, archived_at: null }], unread_count: 1 });
    const subject = await server.services.keyring.subjectOfUser((await api.get("/clients/me")).body.id, "fay");
    const { body } = await until(
      () => api.get(`/audit/streams/inbox-${subject}/events`),
      (answer) => answer.body.data.length === 7,
    );
    expect(body.data.filter((event: Body) => event.type === "InboxMarked")).toHaveLength(4);
    // What was read together is acknowledged too.
    await notificationUntil(api, third.id, (one) => one.status === "delivered");
  });

  test("is marked once under its key", async () => {
    await notify("gus");
    const headers = { "idempotency-key": "once" };
    const marked = await api.post("/users/gus/notifications/read-all", {}, headers);
    expect(marked.body).toEqual({ unread_count: 0, unseen_count: 0 });
    const again = await api.post("/users/gus/notifications/read-all", {}, headers);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
  });

  test("is right whatever is marked at once, by how many", async () => {
    const sent = await Promise.all(Array.from({ length: 12 }, () => notify("hal")));
    const half = sent.slice(0, 6);
    await Promise.all([
      ...half.map(({ id }) => api.post(`/users/hal/notifications/${id}/read`)),
      ...half.map(({ id }) => api.post(`/users/hal/notifications/${id}/read`)),
      api.post("/users/hal/notifications/seen"),
      api.post("/users/hal/notifications/seen"),
    ]);
    expect(await list(api, "hal")).toMatchObject({ unread_count: 6, unseen_count: 0 });
    expect(ids(await list(api, "hal", "?status=unread")).toSorted()).toEqual(
      sent
        .slice(6)
        .map(({ id }) => id)
        .toSorted(),
    );
  });
});

test("the user's sockets are told the counts at a new notification, and when something is marked", async () => {
  using socket = await SocketClient.connect(server.url.replace("http", "ws"), await tokenOf(api, "ida"));
  const { id } = await notify("ida");
  await socket.next("inbox_counts", { unread_count: 1, unseen_count: 1 });
  await api.post(`/users/ida/notifications/${id}/read`);
  await socket.next("inbox_counts", { unread_count: 0, unseen_count: 0 });
  expect(socket.of("inbox_counts")).toHaveLength(2);
});
