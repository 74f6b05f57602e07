// Messages for later: over requests and sockets, on two nodes, until the room has decided.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Api, apiOf, type Body, newClient, tokenOf, until } from "../../e2e/support/api.ts";
import { databaseWithTables } from "../../support/database-with-tables.ts";
import { encryptionKey, startTestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { startTwoServers, type TwoServers } from "../../support/two-servers.ts";

let servers: TwoServers;
let apis: readonly [Api, Api];
let max: Api;
let una: Api;
let olga: Api;
let room: Body;
let messages: string;
let path: string;

beforeAll(async () => {
  servers = await startTwoServers({ RATE_LIMIT_USER: "100000/10s" });
  apis = await servers.newClient();
  const as = async (user: string) => apis[0].as(await tokenOf(apis[0], user));
  [max, una, olga] = [await as("max"), await as("una"), await as("olga")];
});
afterAll(() => servers[Symbol.asyncDispose]());
beforeEach(async () => {
  const members = [{ user_id: "max" }, { user_id: "una" }, { user_id: "olga", role: "owner" }];
  room = (await apis[0].post("/rooms", { name: "Talk", members })).body;
  messages = `/rooms/${room.id}/messages`;
  path = `/rooms/${room.id}/scheduled-messages`;
});

const inMs = (ms: number) => new Date(Date.now() + ms).toISOString();
const DAY = 86_400_000;
const schedule = async (more: Body = {}, by: Api = max): Promise<Body> =>
  (await by.post(messages, { content: "Later", send_at: inMs(DAY), ...more })).body;
const read = async (id: string, by: Api = max): Promise<Body> => (await by.get(`${path}/${id}`)).body;
const posted = async (): Promise<Body[]> =>
  (await apis[0].get(`/rooms/${room.id}/events?after_seq=1`)).body.data.filter(
    (one: Body) => one.type === "message.posted",
  );
const codes = async (...asked: Promise<{ status: number; body: Body }>[]) =>
  (await Promise.all(asked)).map(({ status, body }) => `${status} ${body?.code ?? ""}`.trim());

describe("a message for later", () => {
  test("waits for its time, and is then posted by its sender", async () => {
    const sendAt = inMs(DAY);
    const answer = await max.post(messages, { content: "Later", send_at: sendAt, mentions: ["una"], meta: { n: 1 } });
    expect(answer.status).toBe(202);
    const { id } = answer.body;
    expect(answer.headers.get("location")).toBe(`/api/v1${path}/${id}`);
    expect(answer.body).toEqual({
      ...{ id: expect.stringMatching(/^sch_/), room_id: room.id, sender_id: "max", type: "text", content: "Later" },
      ...{ meta: { n: 1 }, reply_to: null, thread_of: null, mentions: ["una"], send_at: sendAt, status: "scheduled" },
      ...{ message_id: null, reason: null, created_at: expect.any(String) },
    });
    expect(await read(id)).toEqual(answer.body);
    expect((await max.get(`${path}?status=scheduled`)).body.data).toEqual([answer.body]);
    expect(await posted()).toEqual([]);
    await max.patch(`${path}/${id}`, { send_at: inMs(1_500), content: "Soon" });
    const done = await until(
      () => read(id),
      ({ status }) => status === "posted",
    );
    const [message] = await posted();
    expect(message).toMatchObject({
      actor: { type: "user", id: "max" },
      data: { id: done.message_id, content: "Soon" },
    });
    expect(message.data.mentions).toEqual(["una"]);
  });

  test("of a past time is a message now; further away than a year it is refused", async () => {
    expect((await max.post(messages, { content: "Now", send_at: inMs(-DAY) })).status).toBe(201);
    const far = await max.post(messages, { content: "Never", send_at: inMs(400 * DAY) });
    expect(far.body.errors).toMatchObject([{ path: "send_at", code: "too_large" }]);
    const grows = await max.post(messages, { content: "", state: "growing", send_at: inMs(DAY) });
    expect(grows.body.errors).toMatchObject([{ path: "send_at", code: "not_allowed" }]);
  });

  test("is refused at once where it would be now", async () => {
    const later = { content: "Later", send_at: inMs(DAY) };
    expect(await codes(apis[0].post(messages, { ...later, sender_id: "stan" }))).toEqual(["403 not_a_member"]);
    expect((await max.post(messages, { ...later, reply_to: "msg_unknown" })).body.errors).toMatchObject([
      { path: "reply_to", code: "not_allowed" },
    ]);
  });

  test("is scheduled once under an idempotency key, also when its time is over", async () => {
    const body = { content: "Later", send_at: inMs(1_200) };
    const first = await max.post(messages, body, { "idempotency-key": "once" });
    await until(
      () => read(first.body.id),
      ({ status }) => status === "posted",
    );
    const again = await max.post(messages, body, { "idempotency-key": "once" });
    expect([again.status, again.body.id, again.headers.get("idempotent-replayed")]).toEqual([
      202,
      first.body.id,
      "true",
    ]);
    expect(await posted()).toHaveLength(1);
  });

  test("is its sender's to change, and an admin's to cancel", async () => {
    const { id } = await schedule();
    const tried = [una.get(`${path}/${id}`), una.patch(`${path}/${id}`, { content: "x" }), una.delete(`${path}/${id}`)];
    expect(await codes(...tried, una.post(`${path}/${id}/send-now`))).toEqual(Array(4).fill("404 not_found"));
    expect((await una.get(path)).body.data).toEqual([]);
    expect((await olga.get(path)).body.data).toHaveLength(1);
    expect(await codes(olga.patch(`${path}/${id}`, { content: "x" }))).toEqual(["404 not_found"]);
    expect(await codes(olga.delete(`${path}/${id}`), olga.delete(`${path}/${id}`))).toEqual(["204", "204"]);
    expect(await read(id)).toMatchObject({ status: "cancelled" });
    expect(await codes(max.patch(`${path}/${id}`, { content: "x" }), max.post(`${path}/${id}/send-now`))).toEqual(
      Array(2).fill("409 not_scheduled"),
    );
  });

  test("is posted now when it is asked for, once", async () => {
    const { id } = await schedule();
    const sent = await max.post(`${path}/${id}/send-now`);
    expect([sent.status, sent.body.status]).toEqual([200, "posted"]);
    expect((await max.post(`${path}/${id}/send-now`)).body).toEqual(sent.body);
    expect(await codes(max.delete(`${path}/${id}`))).toEqual(["409 not_scheduled"]);
    expect((await posted()).map(({ data }) => data.id)).toEqual([sent.body.message_id]);
  });
});

describe("is decided again at its time", () => {
  const refusals = [
    ["not_a_member", () => apis[0].delete(`/rooms/${room.id}/members/max`)],
    ["banned", () => apis[0].post(`/rooms/${room.id}/bans/max`, {})],
    ["muted", () => apis[0].patch(`/rooms/${room.id}/members/max`, { muted_until: inMs(DAY) })],
    ["room_inactive", () => apis[0].post(`/rooms/${room.id}/deactivate`)],
    ["room_deleted", () => apis[0].delete(`/rooms/${room.id}`)],
  ] as const;
  test.each(refusals)("%s", async (reason, happens) => {
    const { id } = await schedule({ sender_id: "max" }, apis[0]);
    await happens();
    expect((await apis[0].post(`${path}/${id}/send-now`)).body).toMatchObject({ status: "refused", reason });
    expect(await read(id)).toMatchObject({ status: "refused", reason, message_id: null });
  });

  test("a change mentions members alone, and those whom it mentioned before", async () => {
    const { id } = await schedule({ mentions: ["una"] });
    await apis[0].delete(`/rooms/${room.id}/members/una`);
    const change = (mentions: string[], more: Body = {}) => max.patch(`${path}/${id}`, { mentions, ...more });
    const refused = await change(["olga", "una", "nobody", "@everyone"], { content: "" });
    expect([refused.status, refused.body.errors.map((one: Body) => `${one.path} ${one.code}`)]).toEqual([
      422,
      ["content too_short", "mentions.2 not_allowed", "mentions.3 not_allowed"],
    ]);
    expect((await change(["olga", "una"])).body.mentions).toEqual(["olga", "una"]);
    expect((await change([])).body.mentions).toEqual([]);
  });

  test("whoever it mentions and left is not mentioned", async () => {
    const { id } = await schedule({ mentions: ["una", "olga"] });
    await apis[0].delete(`/rooms/${room.id}/members/una`);
    await max.post(`${path}/${id}/send-now`);
    expect((await posted())[0].data.mentions).toEqual(["olga"]);
  });
});

test("posted once, however often and wherever it is tried", async () => {
  const { id } = await schedule();
  const second = apiOf(servers.second.url, max.key);
  await Promise.all([max, second, max, second].map((by) => by.post(`${path}/${id}/send-now`)));
  expect(await posted()).toHaveLength(1);
  expect(await read(id)).toMatchObject({ status: "posted" });
});

test("posted once and not before its time, also when every node was down at it", async () => {
  await using database = await databaseWithTables();
  const parts = { databaseUrl: database.url, env: { ENCRYPTION_KEYS: encryptionKey() } };
  const waiting: Body[] = [];
  let key = "";
  {
    await using server = await startTestServer(parts);
    const api = await newClient(server.url);
    key = api.key ?? "";
    const { body } = await api.post("/rooms", { name: "Talk", members: [{ user_id: "max" }] });
    for (const ms of [500, 6_000]) {
      const later = { sender_id: "max", content: `in ${ms} ms`, send_at: inMs(ms) };
      waiting.push((await api.post(`/rooms/${body.id}/messages`, later)).body);
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  await using first = await startTestServer(parts);
  await using _second = await startTestServer(parts);
  const api = apiOf(first.url, key);
  const [{ room_id: id } = {}] = waiting;
  const { body } = await until(
    () => api.get(`/rooms/${id}/scheduled-messages?status=posted`),
    (found) => found.body.data.length === 2,
    20_000,
  );
  const told = (await api.get(`/rooms/${id}/events?after_seq=1`)).body.data;
  expect(told.map(({ data }: Body) => [data.id, data.content])).toEqual(
    body.data.toReversed().map((one: Body) => [one.message_id, one.content]),
  );
  for (const [index, { at }] of told.entries()) expect(at >= waiting[index]?.send_at).toBe(true);
});

test("its sender alone is told of it, on all nodes", async () => {
  const socketOf = (node: "first" | "second", api: Api) =>
    SocketClient.connect(servers[node].url.replace("http", "ws"), api.key ?? "");
  using own = await socketOf("second", max);
  using other = await socketOf("first", una);
  await other.ask({ type: "subscribe", room_id: room.id });
  using writer = await socketOf("first", max);
  const post = { type: "post", room_id: room.id, content: "Later", send_at: inMs(DAY) };
  const { scheduled_id: id, ...ok } = await writer.ask(post);
  expect(ok).toEqual({ type: "ok", room_id: room.id, position: expect.any(String) });
  await max.patch(`${path}/${id}`, { content: "Changed" });
  await max.delete(`${path}/${id}`);
  const removed = await schedule();
  await apis[0].delete(`/rooms/${room.id}/members/max`);
  await apis[0].post(`${path}/${removed.id}/send-now`);
  const refused = await own.next("event", { event: "message.refused" });
  expect(refused).toMatchObject({ room_id: room.id, seq: null, data: { id: removed.id, reason: "not_a_member" } });
  expect(own.of("event").map(({ event }) => event)).toEqual([
    "message.scheduled",
    "message.rescheduled",
    "message.unscheduled",
    "message.scheduled",
    "message.refused",
  ]);
  expect(other.of("event").map(({ event }) => event)).toEqual(["member.left"]);
  expect(JSON.stringify((await apis[0].get("/events")).body)).not.toContain("message.scheduled");
});
