// Read markers over HTTP.
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

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
const marker = (user: string, read_seq: number, unread_count: number) => ({
  room_id: room.id,
  user_id: user,
  read_seq,
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
