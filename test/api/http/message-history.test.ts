// The versions of a message, as callers see them.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Awaited<ReturnType<typeof newClient>>;
let max: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  max = api.as(await tokenOf(api, "max"));
});
afterAll(() => server[Symbol.asyncDispose]());

/** A message that was edited, deleted, restored and edited again; where it is, and a read of it after all that. */
async function changedMessage() {
  const members = [{ user_id: "max" }];
  const { body: room } = await api.post("/rooms", { name: "Team", kind: "public", members });
  const messages = `/rooms/${room.id}/messages`;
  const { body: message } = await api.post(messages, { sender_id: "max", content: "one", meta: { n: 1 } });
  const path = `${messages}/${message.id}`;
  await max.patch(path, { content: "two" });
  await api.delete(path);
  await api.post(`${path}/restore`);
  const { headers } = await api.patch(path, { content: "three", meta: null });
  await api.put(`${path}/reactions/%3Aok%3A`, { user_id: "max" });
  const read = (by: Api, query = "", after: Answer["headers"] = headers) =>
    by.get(`${path}/history${query}`, { "read-after": after.get("position") ?? "" });
  return { room, path, message, read };
}
const told = ({ event, content, meta }: Body) => [event, content, meta];

test("versions are told oldest first, with who made each, and paged", async () => {
  const { message, read } = await changedMessage();
  const { status, body } = await read(api);
  expect([status, body.data.map(told), body.next_cursor]).toEqual([
    200,
    [
      ["message.posted", "one", { n: 1 }],
      ["message.edited", "two", { n: 1 }],
      ["message.deleted", null, {}],
      ["message.restored", "two", { n: 1 }],
      ["message.edited", "three", {}],
    ],
    null,
  ]);
  expect(body.data[0].at).toBe(message.created_at);
  expect(body.data[1].actor).toEqual({ type: "user", id: "max" });
  expect(body.data[2].actor.type).toBe("key");
  const first = (await read(api, "?limit=3")).body;
  const rest = (await read(api, `?limit=3&cursor=${first.next_cursor}`)).body;
  expect([...first.data, ...rest.data]).toEqual(body.data);
  expect((await read(max)).body).toEqual(body);
});

test("contents of a deleted message are for the audit alone", async () => {
  const { path, read } = await changedMessage();
  const { headers } = await api.delete(path);
  const narrow = await api.post("/clients/me/keys", { name: "reads", scopes: ["messages:read"] });
  for (const by of [max, api.as(narrow.body.api_key)]) {
    const { body } = await read(by, "", headers);
    expect(body.data.map(({ content }: Body) => content)).toEqual([null, null, null, null, null, null]);
    expect(body.data.every(({ meta }: Body) => Object.keys(meta).length === 0)).toBe(true);
  }
  const { body } = await read(api, "", headers);
  expect(body.data.map(({ content }: Body) => content)).toEqual(["one", "two", null, "two", "three", null]);
});

test("of a room that one is not in, or of no message, there are none", async () => {
  const { room, read } = await changedMessage();
  await api.delete(`/rooms/${room.id}/members/max`);
  expect([(await read(max)).status, (await read(max)).body.code]).toEqual([403, "not_a_member"]);
  expect((await api.get(`/rooms/${room.id}/messages/msg_unknown/history`)).status).toBe(404);
});
