// Read and delivered markers over HTTP and on sockets.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: TestServer;
let api: Api;
let max: Api;
let room: Body;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  max = api.as(await tokenOf(api, "max"));
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  const members = [{ user_id: "max" }, { user_id: "una" }];
  room = (await api.post("/rooms", { name: "Talk", kind: "public", members })).body;
  for (const n of [2, 3, 4]) await post("una", `message ${n}`);
});

const post = (sender: string, content: string, more: Body = {}) =>
  api.post(`/rooms/${room.id}/messages`, { sender_id: sender, content, ...more });
const mark = (user: string, seq: unknown, by: Api = api) => by.put(`/rooms/${room.id}/reads/${user}`, { seq });
const marker = (user: string, read_seq: number, unread_count: number, delivered_seq = read_seq) => ({
  room_id: room.id,
  user_id: user,
  ...{ read_seq, delivered_seq },
  unread_count,
  mention_count: 0,
});
const refusal = async (asked: Promise<{ status: number; body: Body }>) => {
  const { status, body } = await asked;
  return [status, ...(body.errors?.map(({ path, code }: Body) => `${path} ${code}`).toSorted() ?? [body.code])];
};

test("a marker moves forward only, and says what is unread", async () => {
  const first = await mark("max", 3, max);
  expect([first.status, first.body]).toEqual([200, marker("max", 3, 1)]);
  expect(first.headers.get("position")).not.toBeNull();
  expect((await mark("max", 2)).body).toEqual(marker("max", 3, 1));
  expect((await mark("max", 4)).body).toEqual(marker("max", 4, 0));
  expect((await api.get(`/rooms/${room.id}`)).body.seq).toBe(4);
});

test("posting moves the poster's marker; deleted and system messages do not count", async () => {
  const { body: gone } = await post("una", "oops");
  await api.delete(`/rooms/${room.id}/messages/${gone.id}`);
  await post("robot", "Maintenance", { type: "system" });
  expect((await mark("max", 0)).body).toEqual(marker("max", 0, 3));
  const { body: own } = await post("max", "Mine");
  expect((await mark("max", 0)).body).toEqual(marker("max", own.seq, 0));
});

test("a marker past the head is refused", async () => {
  expect(await refusal(mark("max", 5))).toEqual([422, "seq too_large"]);
  expect(await refusal(mark("max", -1))).toEqual([422, "seq too_small"]);
  expect(await refusal(mark("max", "4"))).toEqual([422, "seq wrong_type"]);
  expect(await refusal(api.put(`/rooms/${room.id}/reads/max`, {}))).toEqual([422, "seq required"]);
});

test("is one's own for a user, and a member's", async () => {
  expect(await refusal(mark("una", 4, max))).toEqual([403, "forbidden"]);
  expect(await refusal(mark("stan", 4))).toEqual([403, "not_a_member"]);
  const stan = api.as(await tokenOf(api, "stan"));
  expect(await refusal(mark("stan", 4, stan))).toEqual([403, "not_a_member"]);
});

test("goes on in an inactive room", async () => {
  await api.post(`/rooms/${room.id}/deactivate`);
  expect((await mark("max", 5)).status).toBe(200);
});

test("all markers are listed, in pages", async () => {
  await mark("max", 3);
  const { body } = await max.get(`/rooms/${room.id}/reads`);
  expect(body).toEqual({ data: [marker("una", 4, 0), marker("max", 3, 1)], next_cursor: null });
  const { body: page } = await api.get(`/rooms/${room.id}/reads?limit=1`);
  const { body: rest } = await api.get(`/rooms/${room.id}/reads?cursor=${encodeURIComponent(page.next_cursor)}`);
  expect([...page.data, ...rest.data]).toEqual(body.data);
});

test("a newcomer begins where it joined", async () => {
  await api.put(`/rooms/${room.id}/members/nina`, {});
  await post("una", "After");
  expect((await mark("nina", 0)).body).toEqual(marker("nina", 5, 1));
});

const move = (user: string, moves: object, by: Api = api) => by.put(`/rooms/${room.id}/reads/${user}`, moves);

describe("marking unread", () => {
  test("sets the marker back, and one's own messages from before it no longer count as read", async () => {
    await post("max", "Mine");
    await post("una", "@max", { mentions: ["max"] });
    await mark("max", 6);
    const back = await move("max", { seq: 2, mark_unread: true }, max);
    expect([back.status, back.body]).toEqual([200, { ...marker("max", 2, 3, 6), mention_count: 1 }]);
    const { body: rooms } = await max.get("/users/max/rooms?limit=1");
    expect(rooms.data[0]).toMatchObject({ read_seq: 2, delivered_seq: 6, unread_count: 3, mention_count: 1 });
    const { body: list } = await max.get(`/rooms/${room.id}/reads`);
    expect(list.data[1]).toEqual(back.body);
    // Reading goes on from there, also before one's own message.
    expect((await mark("max", 4)).body).toEqual({ ...marker("max", 4, 1, 6), mention_count: 1 });
    await api.delete(`/rooms/${room.id}/messages/${(await post("max", "Read")).body.id}`);
    expect((await mark("max", 0)).body).toEqual(marker("max", 7, 0));
  });

  test("counts neither one's own messages nor those deleted and of the system", async () => {
    const { body: own } = await post("max", "Mine");
    await post("max", "Mine too");
    await post("max", "By the system", { type: "system" });
    await api.delete(`/rooms/${room.id}/messages/${own.id}`);
    expect((await move("max", { seq: 0, mark_unread: true })).body).toEqual(marker("max", 0, 3, 7));
  });

  test("twice is once, and is not before joining", async () => {
    const head = async () => (await api.get("/audit/events?type=ReadMarked&limit=100")).body.data.length;
    await mark("max", 4);
    await move("max", { seq: 3, mark_unread: true });
    const before = await head();
    expect((await move("max", { seq: 3, mark_unread: true })).body).toEqual(marker("max", 3, 1, 4));
    expect(await head()).toBe(before);
    await api.put(`/rooms/${room.id}/members/nina`, {});
    const joined = await head();
    expect((await move("nina", { seq: 0, mark_unread: true })).body).toEqual(marker("nina", 5, 0));
    expect(await head()).toBe(joined);
  });

  test("is told as a read", async () => {
    using socket = await SocketClient.connect(server.url.replace("http", "ws"), max.key ?? "");
    await socket.ask({ type: "subscribe", room_id: room.id });
    await mark("max", 4);
    await socket.next("read", { seq: 4 });
    await move("max", { seq: 2, mark_unread: true });
    expect(await socket.next("read", { seq: 2 })).toMatchObject({ room_id: room.id, user_id: "max" });
  });
});

describe("what was delivered", () => {
  test("moves forward, never below what is read, and is shown wherever the marker is", async () => {
    expect((await move("max", { delivered_seq: 3 }, max)).body).toEqual(marker("max", 0, 3, 3));
    expect((await move("max", { delivered_seq: 2 })).body).toEqual(marker("max", 0, 3, 3));
    expect((await max.get("/users/max/rooms?limit=1")).body.data[0]).toMatchObject({ read_seq: 0, delivered_seq: 3 });
    expect((await move("max", { seq: 4 })).body).toEqual(marker("max", 4, 0, 4));
    expect((await move("max", { seq: 4, delivered_seq: 3 })).body).toEqual(marker("max", 4, 0, 4));
    await post("una", "More");
    expect((await move("max", { seq: 4, delivered_seq: 5 })).body).toEqual(marker("max", 4, 1, 5));
  });

  test("keeps to the rules of read markers", async () => {
    expect(await refusal(move("max", { delivered_seq: 5 }))).toEqual([422, "delivered_seq too_large"]);
    expect(await refusal(move("max", { seq: 5, delivered_seq: 5 }))).toEqual([
      ...[422, "delivered_seq too_large", "seq too_large"],
    ]);
    expect(await refusal(move("max", { delivered_seq: 1, mark_unread: true }))).toEqual([422, "seq required"]);
    expect(await refusal(move("una", { delivered_seq: 1 }, max))).toEqual([403, "forbidden"]);
  });

  test("is told to the room's sockets, the first at once", async () => {
    using socket = await SocketClient.connect(server.url.replace("http", "ws"), max.key ?? "");
    await socket.ask({ type: "subscribe", room_id: room.id });
    expect(await socket.ask({ type: "delivered", room_id: room.id, seq: 3 })).toEqual({ type: "ok" });
    const told = await socket.next("delivered");
    expect(told).toEqual({ type: "delivered", room_id: room.id, user_id: "max", seq: 3, at: expect.any(String) });
    expect(await socket.ask({ type: "delivered", room_id: room.id, seq: 9 })).toMatchObject({
      code: "validation_failed",
    });
  });
});
