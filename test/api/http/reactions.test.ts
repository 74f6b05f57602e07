// Reactions to messages, as callers see them: shown everywhere alike, and counted right whatever happens at once.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ClientId, RoomId } from "../../../src/contract/ids.ts";
import { roomDecider, roomStream } from "../../../src/domain/room.ts";
import { type Answer, type Api, type Body, codeOf, newClient, tokenOf } from "../../e2e/support/api.ts";
import { contextOf } from "../../support/live.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: TestServer;
let api: Awaited<ReturnType<typeof newClient>>;
let anna: Api;
let token: string;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  token = await tokenOf(api, "anna");
  anna = api.as(token);
});
afterAll(() => server[Symbol.asyncDispose]());

const THUMB = encodeURIComponent("👍");
/** A room with one message by max; where its messages are, and where the message is. */
async function said(users: readonly string[] = []) {
  const members = ["anna", "max", ...users].map((user_id) => ({ user_id }));
  const { body: room } = await api.post("/rooms", { name: "Team", kind: "public", members });
  const messages = `/rooms/${room.id}/messages`;
  const { body: message } = await api.post(messages, { sender_id: "max", content: "hello" });
  return { room: room.id as RoomId, messages, message, path: `${messages}/${message.id}` };
}
const listed = async (messages: string, id: string): Promise<Body> =>
  (await api.get(messages)).body.data.find((one: Body) => one.id === id);

/** Reacts without HTTP in between, as a client key. */
const toggles = (room: RoomId, id: string) => async (type: "React" | "Unreact", user: string, emoji: string) => {
  const { keyring, commands } = server.services;
  const subject = await keyring.subjectOfUser(api.id as ClientId, user);
  const { actor, ...context } = contextOf(api.id as ClientId);
  const command = { type, actor, subject, user, emoji, id, room, at: Date.now() };
  return commands.execute(roomDecider, roomStream(room), command, { ...context, actor });
};

test("a reaction is on the message wherever it is shown, and gone when it is taken back", async () => {
  const { room, messages, message, path } = await said();
  const heart = encodeURIComponent("❤");
  const added = await anna.put(`${path}/reactions/${heart}`, {});
  expect([added.status, added.body]).toEqual([
    200,
    { ...message, reactions: [{ emoji: "❤️", count: 1, user_ids: ["anna"] }] },
  ]);
  const both = await api.put(`${path}/reactions/${encodeURIComponent("❤️")}`, { user_id: "max" });
  const shown = { ...message, reactions: [{ emoji: "❤️", count: 2, user_ids: ["anna", "max"] }] };
  expect(both.body).toEqual(shown);
  expect((await api.put(`${path}/reactions/${heart}`, { user_id: "max" })).headers.get("position")).toBeTruthy();
  expect([(await api.get(path)).body, await listed(messages, message.id)]).toEqual([shown, shown]);
  const { data: rooms } = (await api.get("/users/max/rooms")).body;
  expect(rooms.find((one: Body) => one.room.id === room).last_message).toEqual(shown);
  const who = (await api.get(`${path}/reactions?limit=1`)).body;
  expect(who.data).toEqual([{ emoji: "❤️", user_id: "max", created_at: who.data[0].created_at }]);
  const rest = (await api.get(`${path}/reactions?limit=1&cursor=${who.next_cursor}`)).body;
  expect([rest.data[0].user_id, rest.next_cursor]).toEqual(["anna", null]);
  expect((await anna.delete(`${path}/reactions/${heart}`)).status).toBe(204);
  expect((await anna.delete(`${path}/reactions/${heart}`)).status).toBe(204);
  expect((await anna.get(path)).body.reactions).toEqual([{ emoji: "❤️", count: 1, user_ids: ["max"] }]);
  expect((await api.delete(`${path}/reactions/${heart}?user_id=max`)).status).toBe(204);
  expect([(await anna.get(path)).body, await listed(messages, message.id)]).toEqual([message, message]);
});

test("a deleted message shows none and takes none; restored it has them again", async () => {
  const { messages, message, path } = await said();
  await anna.put(`${path}/reactions/${THUMB}`, {});
  await api.delete(path);
  expect((await api.get(path)).body.reactions).toEqual([]);
  expect((await api.get(`${messages}?include_deleted=true`)).body.data[0].reactions).toEqual([]);
  expect((await api.get(`${path}/reactions`)).body.data).toEqual([]);
  expect(codeOf(await anna.put(`${path}/reactions/${THUMB}`, {}))).toEqual([409, "message_deleted"]);
  const shown = [{ emoji: "👍", count: 1, user_ids: ["anna"] }];
  expect((await api.post(`${path}/restore`)).body.reactions).toEqual(shown);
  expect((await listed(messages, message.id)).reactions).toEqual(shown);
});

test("what is no emoji, and whose it is unclear, is refused with the field", async () => {
  const { path } = await said();
  const faults = async (answer: Promise<Answer>) => {
    const { status, body } = await answer;
    return [status, body.errors?.map(({ path, code }: Body) => [path, code])];
  };
  for (const bad of ["a", "%F0%9F%91%8D%F0%9F%91%8D", "%3Aa%20b%3A", "%F0%9F%87%A9"]) {
    expect(await faults(anna.put(`${path}/reactions/${bad}`, {}))).toEqual([422, [["emoji", "invalid_format"]]]);
    expect(await faults(anna.delete(`${path}/reactions/${bad}`))).toEqual([422, [["emoji", "invalid_format"]]]);
  }
  expect(await faults(api.put(`${path}/reactions/${THUMB}`, {}))).toEqual([422, [["user_id", "required"]]]);
  expect(await faults(api.delete(`${path}/reactions/${THUMB}`))).toEqual([422, [["?user_id", "required"]]]);
  expect(codeOf(await anna.put(`${path}/reactions/${THUMB}`, { user_id: "max" }))).toEqual([403, "sender_mismatch"]);
  const onlyNew = { "if-none-match": "*" };
  expect((await anna.call("PUT", `${path}/reactions/${THUMB}`, {}, onlyNew)).status).toBe(200);
  expect(codeOf(await anna.call("PUT", `${path}/reactions/${THUMB}`, {}, onlyNew))).toEqual([
    412,
    "precondition_failed",
  ]);
});

test("a hundred who toggle at once are counted as the log says; frames live and from the log are equal", async () => {
  const users = Array.from({ length: 100 }, (_, nth) => `u${nth}`);
  const { room, messages, message, path } = await said(users);
  using live = await SocketClient.connect(server.url, token);
  live.send({ type: "subscribe", room_id: room });
  await live.next("subscribed");
  const emoji = ["👍", ":ok:"] as const;
  const toggle = toggles(room, message.id);
  await Promise.all(
    users.map(async (user, nth) => {
      for (let turn = 0; turn < 2; turn += 1) {
        await toggle("React", user, emoji[nth % 2] ?? "");
        if (turn < 1 || nth % 5 === 0) await toggle("Unreact", user, emoji[nth % 2] ?? "");
      }
    }),
  );
  await api.patch(path, { content: "edited" });
  const { seq } = (await api.get(`/rooms/${room}`)).body;
  await live.next("event", { seq });
  const events = live.frames.filter(({ type }) => type === "event") as Body[];
  const logged = new Map<string, Set<string>>();
  for (const { event, data } of events.filter((one) => one.event.startsWith("reaction."))) {
    const by = logged.get(data.emoji) ?? new Set();
    logged.set(data.emoji, by);
    if (event === "reaction.added") expect(by.has(data.user_id), "added twice").toBe(false);
    if (event === "reaction.added") by.add(data.user_id);
    else expect(by.delete(data.user_id), "removed twice").toBe(true);
  }
  const shown = (await api.get(path)).body;
  const wanted = Object.fromEntries(
    Array.from(logged, ([one, by]) => [one, { count: by.size, first: [...by].slice(0, 10) }]),
  );
  const counts = (one: Body) =>
    Object.fromEntries(one.reactions.map((r: Body) => [r.emoji, { count: r.count, first: r.user_ids }]));
  expect(Object.values(wanted).reduce((sum, { count }) => sum + count, 0)).toBe(80);
  expect(counts(shown)).toEqual(wanted);
  expect(await listed(messages, message.id)).toEqual(shown);
  expect(events.find(({ event }) => event === "message.edited").data.reactions).toEqual(shown.reactions);
  using late = await SocketClient.connect(server.url, token);
  late.send({ type: "subscribe", room_id: room, after_seq: message.seq });
  await late.next("caught_up");
  expect(late.frames.filter(({ type }) => type === "event")).toEqual(events);
});

test("one who toggles a thousand times is counted once or not at all", async () => {
  const { message, room, messages, path } = await said();
  const toggle = toggles(room, message.id);
  for (let nth = 0; nth < 1_000; nth += 50) {
    const all = Array.from({ length: 50 }, (_, turn) => toggle(turn % 2 === 0 ? "React" : "Unreact", "anna", "👍"));
    expect((await Promise.all(all)).map(({ events }) => events.length)).toEqual(all.map(() => 1));
  }
  const { position } = await toggle("Unreact", "anna", "👍");
  expect(await server.services.readSide.waitFor(position, 10_000)).toBe(true);
  expect((await listed(messages, message.id)).reactions).toEqual([]);
  const { body } = await api.put(`${path}/reactions/${THUMB}`, { user_id: "anna" });
  expect(body.reactions).toEqual([{ emoji: "👍", count: 1, user_ids: ["anna"] }]);
  expect((await listed(messages, message.id)).reactions).toEqual(body.reactions);
});

test("who is removed or banned reacts no more and sees no more of it", async () => {
  const { room, path } = await said();
  for (const out of [() => api.delete(`/rooms/${room}/members/anna`), () => api.post(`/rooms/${room}/bans/anna`)]) {
    await api.put(`/rooms/${room}/members/anna`, {});
    expect((await anna.put(`${path}/reactions/${THUMB}`, {})).status).toBe(200);
    await out();
    expect(codeOf(await anna.put(`${path}/reactions/${THUMB}`, {}))).toEqual([403, "not_a_member"]);
    expect(codeOf(await anna.delete(`${path}/reactions/${THUMB}`))).toEqual([403, "not_a_member"]);
    expect(codeOf(await anna.get(`${path}/reactions`))).toEqual([403, "not_a_member"]);
  }
});
