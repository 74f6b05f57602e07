// Threads and mentions, as callers see them: the same from states, lists and events, and counted right.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ClientId, RoomId } from "../../../src/contract/ids.ts";
import { roomDecider, roomStream } from "../../../src/domain/room.ts";
import { type Answer, type Api, type Body, codeOf, newClient, tokenOf } from "../../e2e/support/api.ts";
import { contextOf } from "../../support/live.ts";
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

async function roomOf(users: readonly string[] = []) {
  const members = [{ user_id: "anna", role: "admin" }, ...["max", ...users].map((user_id) => ({ user_id }))];
  const { body } = await api.post("/rooms", { name: "Team", kind: "public", members });
  const at = `/rooms/${body.id}`;
  const post = async (sender_id: string, content: string, more: object = {}) =>
    (await api.post(`${at}/messages`, { sender_id, content, ...more })).body;
  return { id: body.id as RoomId, at, messages: `${at}/messages`, post };
}
const faults = ({ status, body }: Answer) => [status, body.errors?.map(({ path, code }: Body) => [path, code])];

test("a thread counts its replies, says who took part, and loses those that are deleted", async () => {
  const { messages, post } = await roomOf(["zoe"]);
  const root = await post("anna", "root");
  expect([root.thread_of, root.thread]).toEqual([null, null]);
  const first = await post("max", "one", { thread_of: root.id });
  expect(first.thread_of).toBe(root.id);
  const second = await post("zoe", "two", { thread_of: root.id });
  const other = await post("zoe", "beside");
  const shown = async () => {
    const { body } = await api.get(`${messages}/${root.id}`);
    const listed = (await api.get(messages)).body.data.find(({ id }: Body) => id === root.id);
    expect(listed).toEqual(body);
    return body.thread;
  };
  const thread = (reply_count: number, participant_ids: string[], last_reply_seq: number) => ({
    ...{ reply_count, participant_ids, last_reply_seq },
  });
  expect(await shown()).toEqual(thread(2, ["max", "zoe"], second.seq));
  await api.delete(`${messages}/${second.id}`);
  expect(await shown()).toEqual(thread(1, ["max"], first.seq));
  await api.delete(`${messages}/${first.id}`);
  expect(await shown()).toBeNull();
  await api.post(`${messages}/${second.id}/restore`);
  await api.post(`${messages}/${first.id}/restore`);
  expect(await shown()).toEqual(thread(2, ["zoe", "max"], second.seq));
  const replies = (await api.get(`${messages}/${root.id}/replies?limit=1`)).body;
  expect(replies.data.map(({ id }: Body) => id)).toEqual([first.id]);
  const rest = (await api.get(`${messages}/${root.id}/replies?cursor=${replies.next_cursor}&limit=1`)).body;
  expect([rest.data.map(({ id }: Body) => id), rest.next_cursor]).toEqual([[second.id], null]);
  const inThread = (await api.get(`${messages}?thread_of=${root.id}`)).body.data;
  expect(inThread.map(({ id }: Body) => id)).toEqual([second.id, first.id]);
  expect((await api.get(`${messages}?thread_of=${other.id}`)).body.data).toEqual([]);
  expect((await api.get(`${messages}?thread_of=msg_unknown`)).body.data).toEqual([]);
  await api.delete(`${messages}/${root.id}`);
  expect((await api.get(`${messages}/${root.id}/replies`)).body.data).toHaveLength(2);
  const bad = { sender_id: "max", content: "no", thread_of: first.id };
  expect(faults(await api.post(messages, bad))).toEqual([422, [["thread_of", "not_allowed"]]]);
  const worse = { ...bad, reply_to: "msg_unknown", mentions: ["nobody"] };
  expect(faults(await api.post(messages, worse))).toEqual([
    422,
    [
      ["reply_to", "not_allowed"],
      ["thread_of", "not_allowed"],
      ["mentions.0", "not_allowed"],
    ],
  ]);
});

test("a hundred who reply, delete and restore at once are counted as the log says", async () => {
  const users = Array.from({ length: 100 }, (_, nth) => `u${nth}`);
  const { id: room, messages, post } = await roomOf(users);
  const root = await post("anna", "root");
  const { commands, keyring } = server.services;
  const run = async (command: object) => {
    const context = contextOf(api.id as ClientId);
    const about = { actor: context.actor, room, at: Date.now(), ...command } as Parameters<
      typeof roomDecider.decide
    >[1];
    return commands.execute(roomDecider, roomStream(room), about, context);
  };
  const ends = await Promise.all(
    users.map(async (user, nth) => {
      const sender = await keyring.subjectOfUser(api.id as ClientId, user);
      const mentions = { people: [], everyone: null };
      const said = {
        messageType: "text",
        content: "hi",
        meta: {},
        replyTo: null,
        threadOf: root.id,
        mentions,
        growing: false,
      };
      const { events } = await run({ type: "Post", sender, user, senderName: null, ownName: null, ...said });
      const [posted] = events;
      if (posted?.type !== "MessagePosted") throw new Error("not posted");
      const about = { id: posted.data.id, ifMatch: null };
      for (let turn = 0; turn < nth % 4; turn += 1)
        await run({ type: turn % 2 === 0 ? "DeleteMessage" : "RestoreMessage", ...about });
      const { position } = await run({ type: "Edit", content: "last", meta: undefined, ...about }).catch(() =>
        run({ type: "DeleteMessage", ...about }),
      );
      return { seq: posted.revision + 1, user, there: nth % 2 === 0, position };
    }),
  );
  const left = ends.filter(({ there }) => there);
  const last = ends.reduce((latest, { position }) => (position > latest ? position : latest), ends[0]?.position ?? "");
  expect(await server.services.readSide.waitFor(last as never, 10_000)).toBe(true);
  const { body } = await api.get(`${messages}/${root.id}`);
  expect(body.thread).toMatchObject({
    reply_count: left.length,
    last_reply_seq: Math.max(...left.map(({ seq }) => seq)),
  });
  expect(new Set(body.thread.participant_ids).size).toBe(10);
  expect(left.map(({ user }) => user)).toEqual(expect.arrayContaining(body.thread.participant_ids));
  const listed = (await api.get(`${messages}?limit=100&before_seq=${root.seq + 1}`)).body.data;
  expect(listed.find(({ id }: Body) => id === root.id)).toEqual(body);
});

test("mentions are shown, found, changed by an edit, and hidden with a deleted message", async () => {
  const { messages, post } = await roomOf(["zoe"]);
  const one = await post("anna", "@max", { mentions: ["max", "zoe", "max"] });
  expect(one.mentions).toEqual(["max", "zoe"]);
  const all = await post("anna", "all", { mentions: ["@everyone"] });
  expect(all.mentions).toEqual(["@everyone"]);
  await post("anna", "nobody");
  const of = async (who: string) => (await api.get(`${messages}?mentions=${who}`)).body.data.map(({ id }: Body) => id);
  expect([await of("zoe"), await of("anna")]).toEqual([[all.id, one.id], [all.id]]);
  const edited = await api.patch(`${messages}/${one.id}`, { mentions: ["max"] });
  expect([edited.body.mentions, edited.body.content]).toEqual([["max"], "@max"]);
  expect((await api.get(messages)).body.data.at(-1)).toEqual(edited.body);
  expect(await of("zoe")).toEqual([all.id]);
  expect((await api.patch(`${messages}/${all.id}`, { mentions: null })).body.mentions).toEqual([]);
  expect(await of("zoe")).toEqual([]);
  await api.delete(`${messages}/${one.id}`);
  expect((await api.get(`${messages}/${one.id}`)).body.mentions).toEqual([]);
  expect((await api.get(`${messages}?include_deleted=true`)).body.data.at(-1).mentions).toEqual([]);
  expect(await of("max&include_deleted=true")).toEqual([]);
  expect((await api.post(`${messages}/${one.id}/restore`)).body.mentions).toEqual(["max"]);
  expect(await of("max&include_deleted=true")).toEqual([one.id]);
  const wrong = (mentions: string[]) => max.post(messages, { content: "hi", mentions });
  expect(faults(await wrong(["zoe", "stranger"]))).toEqual([422, [["mentions.1", "not_allowed"]]]);
  expect(faults(await wrong(["@everyone"]))).toEqual([422, [["mentions.0", "not_allowed"]]]);
  const many = Array.from({ length: 101 }, (_, nth) => `u${nth}`);
  expect(faults(await wrong(many))).toEqual([422, [["mentions", "too_long"]]]);
});

test("unread mentions are counted wherever the unread are, as messages go and come back", async () => {
  const { id, at, messages, post } = await roomOf();
  const counts = async () => {
    const { data } = (await api.get(`${at}/reads`)).body;
    const marker = data.find(({ user_id }: Body) => user_id === "max");
    const { data: rooms } = (await api.get("/users/max/rooms")).body;
    const { unread_count, mention_count } = rooms.find(({ room }: Body) => room.id === id);
    expect([marker.unread_count, marker.mention_count]).toEqual([unread_count, mention_count]);
    return [unread_count, mention_count];
  };
  expect(await counts()).toEqual([0, 0]);
  const one = await post("anna", "@max", { mentions: ["max", "@everyone"] });
  await post("anna", "nobody");
  await post("anna", "system", { type: "system", mentions: ["max"] });
  expect(await counts()).toEqual([2, 1]);
  await api.delete(`${messages}/${one.id}`);
  expect(await counts()).toEqual([1, 0]);
  await api.post(`${messages}/${one.id}/restore`);
  expect(await counts()).toEqual([2, 1]);
  await api.patch(`${messages}/${one.id}`, { mentions: [] });
  expect(await counts()).toEqual([2, 0]);
  const last = await post("anna", "again", { mentions: ["@everyone"] });
  expect(await counts()).toEqual([3, 1]);
  const marker = await api.put(`${at}/reads/max`, { seq: last.seq });
  expect([marker.body.unread_count, marker.body.mention_count]).toEqual([0, 0]);
  expect(await counts()).toEqual([0, 0]);
});

test("who is removed or banned reads no thread and no mention any more", async () => {
  const { at, messages, post } = await roomOf();
  const root = await post("anna", "root");
  for (const out of [() => api.delete(`${at}/members/max`), () => api.post(`${at}/bans/max`)]) {
    await api.put(`${at}/members/max`, {});
    expect((await max.get(`${messages}/${root.id}/replies`)).status).toBe(200);
    await out();
    for (const path of [`${root.id}/replies`, `?thread_of=${root.id}`, "?mentions=max"])
      expect(codeOf(await max.get(`${messages}${path.startsWith("?") ? path : `/${path}`}`))).toEqual([
        403,
        "not_a_member",
      ]);
    expect(codeOf(await max.post(messages, { content: "hi", thread_of: root.id }))).toEqual([403, "not_a_member"]);
  }
});
