// Rooms that show members nothing from before their joining: every way to read them, over HTTP and on sockets.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: TestServer;
let api: Api;
let max: Api;
let una: Api;
let room: string;
/** Max's message from before una joined. */
let old: Body;
let joinedSeq: number;
const at = (path = "") => `/rooms/${room}${path}`;
const oldOne = (path = "") => at(`/messages/${old.id}${path}`);

beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  const as = async (user: string) => api.as(await tokenOf(api, user));
  [max, una] = [await as("max"), await as("una")];
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  room = (await api.post("/rooms", { name: "Talk", history: "from_join", members: [{ user_id: "max" }] })).body.id;
  old = (await max.post(at("/messages"), { content: "Secret", mentions: ["max"] })).body;
  await max.put(oldOne("/reactions/👍"), {});
  await api.put(at("/members/una"), {});
  joinedSeq = 4;
});

/** What others wrote is not waited for by who reads. */
const caughtUp = async () => {
  const { readSide, store } = server.services;
  expect(await readSide.waitFor(await store.tail(), 10_000)).toBe(true);
};
const ids = async (of: Api, path: string) => {
  await caughtUp();
  return (await of.get(at(path))).body.data.map((one: Body) => one.id);
};
const inThread = async () =>
  (await max.post(at("/messages"), { content: "Hello", thread_of: old.id, reply_to: old.id })).body;
const connect = (of: Api) => SocketClient.connect(server.url.replace("http", "ws"), of.key ?? "");
const hidden = () => ({ id: old.id, hidden: true });

describe("who joined", () => {
  test("is shown no last message, until there is one from after its joining", async () => {
    const first = async () => {
      await caughtUp();
      return (await una.get("/users/una/rooms?limit=1")).body.data[0];
    };
    expect(await first()).toMatchObject({ room: { id: room }, unread_count: 0, last_message: null });
    const reply = await inThread();
    expect(await first()).toMatchObject({ unread_count: 1, last_message: { id: reply.id } });
  });

  test("lists messages from its joining on, whatever it asks for", async () => {
    const reply = await inThread();
    expect(await ids(una, "/messages")).toEqual([reply.id]);
    expect(await ids(una, "/messages?after_seq=0&limit=1")).toEqual([reply.id]);
    expect(await ids(una, `/messages?before_seq=${joinedSeq}`)).toEqual([]);
    expect(await ids(una, "/messages?mentions=max")).toEqual([]);
    expect(await ids(una, `/messages?thread_of=${old.id}`)).toEqual([reply.id]);
    for (const other of [max, api]) expect(await ids(other, "/messages")).toEqual([reply.id, old.id]);
  });

  test("finds no older message, nor its replies, reactions and versions, and cannot change it", async () => {
    const reply = await inThread();
    for (const end of ["", "/replies", "/reactions", "/history"]) {
      expect([end, (await una.get(oldOne(end))).body.code]).toEqual([end, "not_found"]);
      expect([end, (await max.get(oldOne(end))).status]).toEqual([end, 200]);
    }
    expect((await una.put(oldOne("/reactions/👍"), {})).body.code).toBe("not_found");
    expect((await una.delete(oldOne())).body.code).toBe("not_found");
    const growing = { append: { text: "x", offset: 0 }, complete: {}, cancel: {} };
    for (const [action, body] of Object.entries(growing))
      expect([action, (await una.post(oldOne(`/${action}`), body)).body.code]).toEqual([action, "not_found"]);
    expect((await una.get(at(`/messages/${reply.id}`))).body).toEqual(reply);
  });

  test("pulls events from its joining on; of older messages they say nothing", async () => {
    await max.patch(oldOne(), { content: "Secret still" });
    await max.delete(oldOne("/reactions/👍"));
    const { body } = await una.get(at("/events?after_seq=0"));
    expect(body.data).toMatchObject([
      { seq: joinedSeq, type: "member.joined", data: { user_id: "una" } },
      { seq: joinedSeq + 1, type: "message.edited" },
      { seq: joinedSeq + 2, type: "reaction.removed" },
    ]);
    expect(body.data.slice(1).map((event: Body) => event.data)).toEqual([hidden(), hidden()]);
    for (const other of [max, api]) {
      const { data } = (await other.get(at("/events"))).body;
      expect([data.length, data[1].data.content, data[4].data.content]).toEqual([6, "Secret", "Secret still"]);
    }
  });

  test("catches up from its joining on, and is told as little of older messages live", async () => {
    await max.patch(oldOne(), { content: "Secret still" });
    using mine = await connect(una);
    using his = await connect(max);
    for (const one of [mine, his]) {
      await one.ask({ type: "subscribe", room_id: room, after_seq: 0 });
      await one.next("caught_up", { seq: 5 });
    }
    await max.delete(oldOne());
    await max.post(oldOne("/restore"));
    await max.post(at("/messages"), { content: "Last" });
    for (const one of [mine, his]) await one.next("event", { seq: 8 });
    expect([mine.seqs(), his.seqs()]).toEqual([
      [4, 5, 6, 7, 8],
      [1, 2, 3, 4, 5, 6, 7, 8],
    ]);
    expect(mine.of("event").slice(1)).toMatchObject([
      { event: "message.edited", data: hidden() },
      { event: "message.deleted", data: hidden() },
      { event: "message.restored", data: hidden() },
      { event: "message.posted", data: { content: "Last" } },
    ]);
    expect([JSON.stringify(mine.frames), JSON.stringify(his.frames)].map((all) => all.includes("Secret"))).toEqual([
      false,
      true,
    ]);
  });

  test("is told nothing of what grows since before its joining", async () => {
    await api.delete(at("/members/una"));
    const { body: growing } = await max.post(at("/messages"), { content: "Secret", state: "growing" });
    await api.put(at("/members/una"), {});
    using mine = await connect(una);
    using his = await connect(max);
    for (const one of [mine, his]) await one.ask({ type: "subscribe", room_id: room });
    await his.next("growing", { id: growing.id });
    await max.post(at(`/messages/${growing.id}/append`), { text: " still", offset: 6 });
    await max.post(at(`/messages/${growing.id}/complete`), {});
    const completed = { event: "message.completed", data: { id: growing.id, hidden: true } };
    expect(await mine.next("event", { event: "message.completed" })).toMatchObject(completed);
    await his.next("event", { event: "message.completed" });
    expect([mine.of("growing").length, JSON.stringify(mine.frames).includes("Secret")]).toEqual([0, false]);
  });

  test("is shown the last message before it leaves, and begins anew when it comes back", async () => {
    using socket = await connect(una);
    await socket.ask({ type: "subscribe", room_id: room });
    const [{ body: last }] = await Promise.all([
      max.post(at("/messages"), { content: "Before" }),
      api.delete(at("/members/una")),
    ]);
    await socket.next("unsubscribed");
    const told = last.seq === undefined || last.seq > joinedSeq + 1 ? [] : [{ content: "Before" }];
    expect(socket.of("event").map(({ data }) => data)).toMatchObject([...told, { reason: "removed" }]);
    await api.put(at("/members/una"), {});
    expect((await una.get(at(`/messages/${last.id}`))).status).toBe(404);
    expect(await ids(una, "/messages")).toEqual([]);
  });

  test("sees everything once the room shows it", async () => {
    expect((await api.patch(at(), { history: "all" })).body.history).toBe("all");
    expect(await ids(una, "/messages")).toEqual([old.id]);
    expect((await una.get(oldOne())).status).toBe(200);
  });
});

test("no other history is taken", async () => {
  const answer = await api.patch(at(), { history: "none" });
  expect([answer.status, answer.body.errors[0].path]).toEqual([422, "history"]);
});
