// `follow`: everything of one user on one cursor, beside subscriptions and notifications; each event once, in order.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId } from "../../../src/contract/ids.ts";
import { positionOf } from "../../../src/event-store/event-store.ts";
import { type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { type Received, SocketClient } from "../../support/socket-client.ts";
import { SseClient } from "../../support/sse-client.ts";

let server: TestServer;
let api: Awaited<ReturnType<typeof newClient>>;
let users = 0;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

/** A user of its own for each test. */
const newUser = (): string => {
  users += 1;
  return `user${users}@example.com`;
};
const newRoom = async (members: readonly string[], more: object = {}): Promise<string> => {
  const made = await api.post("/rooms", { name: "Room", members: members.map((user_id) => ({ user_id })), ...more });
  expect(made.status).toBe(201);
  return made.body.id;
};
const say = async (room: string, content: string, sender_id: string): Promise<Body> =>
  (await api.post(`/rooms/${room}/messages`, { sender_id, content })).body;
const url = () => server.url.replace("http", "ws");
const connect = async (user: string) => SocketClient.connect(url(), await tokenOf(api, user));
const list = async (user: string): Promise<Body> =>
  (await api.get(`/users/${encodeURIComponent(user)}/rooms?limit=100`)).body;
const cursorOf = (frames: readonly Received[]): string =>
  String(frames.findLast((frame) => typeof frame.cursor === "string")?.cursor);
/** What happened in rooms, in short. */
const told = (socket: SocketClient) =>
  socket.frames.flatMap((frame) => {
    const { type, room_id: room, seq, event, reason } = frame;
    if (type === "event") return [[event, room, seq]];
    if (type === "room") return [["room", (frame.room as Body).room.id, (frame.room as Body).seq]];
    return type === "unsubscribed" ? [["unsubscribed", room, reason]] : [];
  });

test("a user's stream of events sends what follow does, and each resumes from the other's cursor", async () => {
  const [ann, bob] = [newUser(), newUser()];
  const room = await newRoom([ann, bob]);
  const path = `/users/${encodeURIComponent(ann)}/events`;
  using socket = await connect(ann);
  using stream = await SseClient.open(server.url, path, await tokenOf(api, ann));
  const { type: _type, cursor: _cursor, ...window } = await socket.ask({ type: "follow" });
  expect((await stream.next("inbox")).data).toEqual(window);
  const posted = await say(room, "hello", bob);
  const other = await newRoom([ann]);
  await socket.next("room");
  await socket.next("event", { room_id: other, event: "member.joined" }).catch(() => undefined);
  const frame = await socket.next("event", { room_id: room, seq: posted.seq });
  const { data, id } = await stream.next("message.posted");
  const { type: _event, event, cursor, ...shown } = frame;
  expect([data, id]).toEqual([{ type: event, ...shown }, cursor]);
  expect((await stream.next("room")).data.room.room.id).toBe(other);

  // On from the socket's cursor, as a key that reads for the user.
  using again = await SseClient.open(server.url, `${path}?after=${cursor}`, api.key);
  await again.next("following");
  await again.next("caught_up");
  expect(again.types()).not.toContain("message.posted");
  expect((await again.next("room")).data.room.room.id).toBe(other);
  // Whoever loses a room goes on with the others.
  await api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
  expect((await stream.next("unsubscribed")).data).toEqual({ room_id: room, reason: "removed" });
  await say(other, "still here", ann);
  await stream.until(() => stream.types().filter((one) => one === "message.posted").length === 2);

  using foreign = await SseClient.open(server.url, path, await tokenOf(api, bob));
  expect(foreign.status).toBe(404);
  using wrong = await SseClient.open(server.url, `${path}?after=nonsense`, api.key);
  expect(wrong.status).toBe(400);
});

describe("the window", () => {
  test("has the rooms as REST gives them, newest activity first, then everything that happens in them", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const rooms = [await newRoom([ann, bob]), await newRoom([ann]), await newRoom([ann, bob])];
    const other = await newRoom([bob]);
    await say(String(rooms[1]), "hello", ann);
    await say(String(rooms[0]), "unread", bob);
    using socket = await connect(ann);
    const inbox = await socket.ask({ type: "follow", limit: 2 });
    const rest = await list(ann);
    expect(Object.keys(inbox).toSorted()).toEqual(["cursor", "next_cursor", "rooms", "type", "unread_total"]);
    expect(inbox).toMatchObject({ type: "inbox", unread_total: 1, rooms: rest.data.slice(0, 2) });
    const page = await api.get(`/users/${encodeURIComponent(ann)}/rooms?cursor=${inbox.next_cursor}`);
    expect(page.body.data).toEqual(rest.data.slice(2));
    await say(other, "not for ann", bob);
    const { seq } = await say(String(rooms[2]), "live", bob);
    const frame = await socket.next("event", { room_id: rooms[2], seq });
    expect(frame).toMatchObject({ event: "message.posted", cursor: expect.stringMatching(/^[\w-]{22}$/) });
    expect(socket.of("event")).toHaveLength(1);
    expect(await socket.ask({ type: "follow" })).toMatchObject({ type: "error", code: "already_following" });
    expect(await socket.ask({ type: "unfollow" })).toEqual({ type: "unfollowed" });
    await say(String(rooms[2]), "no more", bob);
    await socket.ask({ type: "ping" });
    expect(socket.of("event")).toHaveLength(1);
    expect(await socket.ask({ type: "follow" })).toMatchObject({ type: "inbox", next_cursor: null, unread_total: 3 });
  });

  test("of a user without rooms is empty", async () => {
    using socket = await connect(newUser());
    expect(await socket.ask({ type: "follow" })).toMatchObject({ rooms: [], unread_total: 0, next_cursor: null });
  });
});

describe("rooms that a user comes into and loses", () => {
  test("begin with the room as the list has it, and end with the reason and nothing after", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await newRoom([bob], { kind: "public" });
    await say(room, "before", bob);
    using socket = await connect(ann);
    await socket.ask({ type: "follow" });
    await api.put(`/rooms/${room}/members/${encodeURIComponent(ann)}`, {});
    const first = await socket.next("room");
    expect(first.room).toEqual((await list(ann)).data[0]);
    await say(room, "inside", bob);
    await api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
    await say(room, "after", bob);
    const made = await newRoom([bob, ann]);
    await socket.next("event", { room_id: made });
    expect(socket.of("room")[1]?.room).toEqual((await list(ann)).data[0]);
    expect((await api.post(`/rooms/${made}/bans/${encodeURIComponent(ann)}`, {})).status).toBe(201);
    const gone = await newRoom([ann]);
    await api.delete(`/rooms/${gone}`);
    await socket.next("unsubscribed", { room_id: gone });
    expect(told(socket)).toEqual([
      ["room", room, 3],
      ["member.joined", room, 3],
      ["message.posted", room, 4],
      ["member.left", room, 5],
      ["unsubscribed", room, "removed"],
      ["room", made, 1],
      ["room.created", made, 1],
      ["member.left", made, 2],
      ["unsubscribed", made, "banned"],
      ["room", gone, 1],
      ["room.created", gone, 1],
      ["room.deleted", gone, 2],
      ["unsubscribed", gone, "room_deleted"],
    ]);
    for (const frame of socket.frames.filter(({ type }) => type === "event")) expect(frame.cursor).toBeTruthy();
  });

  test("that show nothing from before joining say as little of older messages, live and missed", async () => {
    const [ann, bob, cat] = [newUser(), newUser(), newUser()];
    const [room, lost] = [
      await newRoom([bob], { history: "from_join" }),
      await newRoom([bob], { history: "from_join" }),
    ];
    const as = (of: string) => `/rooms/${of}/members/${encodeURIComponent(ann)}`;
    const old = `/rooms/${room}/messages/${(await say(room, "Secret", bob)).id}`;
    const older = `/rooms/${lost}/messages/${(await say(lost, "Secret", bob)).id}`;
    using socket = await connect(ann);
    await socket.ask({ type: "follow" });
    using his = await connect(bob);
    await his.ask({ type: "follow" });
    await api.put(as(lost), {});
    await api.put(as(room), {});
    await socket.next("event", { room_id: room });
    expect(socket.of("room").map((frame) => frame.room)).toEqual((await list(ann)).data.toReversed());
    expect(socket.of("room")[1]?.room).toMatchObject({ room: { history: "from_join" }, last_message: null });
    await api.patch(old, { content: "Secret still" });
    const edited = await socket.next("event", { event: "message.edited" });
    expect(edited.data).toEqual({ id: old.split("/").at(-1), hidden: true });
    expect((await his.next("event", { event: "message.edited" })).data).toMatchObject({ content: "Secret still" });
    const cursor = cursorOf(socket.frames);
    await api.delete(old);
    await api.patch(older, { content: "Secret too" });
    await say(lost, "seen", bob);
    await api.delete(as(lost));
    await api.delete(as(room));
    await say(room, "Secret meanwhile", bob);
    await api.put(as(room), {});
    await api.post(`${old}/restore`);
    await say(room, "news", bob);
    using again = await connect(ann);
    await again.ask({ type: "follow", after: cursor });
    await again.next("caught_up");
    expect(told(again)).toEqual([
      ["message.edited", lost, 4],
      ["message.posted", lost, 5],
      ["member.left", lost, 6],
      ["unsubscribed", lost, "removed"],
      ["member.left", room, 6],
      ["unsubscribed", room, "removed"],
      ["room", room, 8],
      ["member.joined", room, 8],
      ["message.restored", room, 9],
      ["message.posted", room, 10],
    ]);
    for (const { frames } of [socket, again]) expect(JSON.stringify(frames)).not.toContain("Secret");
    using window = await connect(cat);
    await api.put(as(room).replace(encodeURIComponent(ann), encodeURIComponent(cat)), {});
    expect((await window.ask({ type: "follow" })).rooms).toMatchObject([{ room: { id: room }, last_message: null }]);
  });
});

describe("after a cut", () => {
  test("`after` brings what was missed, in order, once, then says so, then goes on live", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const stays = await newRoom([ann, bob]);
    const lost = await newRoom([bob, ann]);
    const flapped = await newRoom([bob, ann]);
    let cursor = "";
    {
      using socket = await connect(ann);
      await socket.ask({ type: "follow" });
      await say(stays, "seen", bob);
      await socket.next("event", { room_id: stays });
      cursor = cursorOf(socket.frames);
    }
    const as = encodeURIComponent(ann);
    await say(stays, "missed", bob);
    await say(lost, "missed too", bob);
    await api.delete(`/rooms/${lost}/members/${as}`);
    await say(lost, "not for ann", bob);
    await api.delete(`/rooms/${flapped}/members/${as}`);
    await say(flapped, "not for ann either", bob);
    await api.put(`/rooms/${flapped}/members/${as}`, {});
    await say(flapped, "again", bob);
    const brief = await newRoom([bob, ann]);
    await api.delete(`/rooms/${brief}`);
    await api.put(`/rooms/${stays}/reads/${as}`, { seq: 3 });
    using socket = await connect(ann);
    expect(await socket.ask({ type: "follow", after: cursor })).toEqual({
      type: "following",
      cursor: expect.stringMatching(/^[\w-]{22}$/),
    });
    await socket.next("caught_up");
    await say(stays, "live", bob);
    await socket.next("event", { room_id: stays, seq: 4 });
    expect(told(socket)).toEqual([
      ["message.posted", stays, 3],
      ["message.posted", lost, 2],
      ["member.left", lost, 3],
      ["unsubscribed", lost, "removed"],
      ["member.left", flapped, 2],
      ["unsubscribed", flapped, "removed"],
      ["room", flapped, 4],
      ["member.joined", flapped, 4],
      ["message.posted", flapped, 5],
      ["room", brief, 1],
      ["room.created", brief, 1],
      ["room.deleted", brief, 2],
      ["unsubscribed", brief, "room_deleted"],
      ["message.posted", stays, 4],
    ]);
    expect(socket.of("read")).toMatchObject([{ room_id: stays, seq: 3, user_id: ann, cursor: expect.any(String) }]);
    const shown = socket.of("room")[0]?.room as Body;
    expect(shown).toMatchObject({
      seq: 4,
      read_seq: 4,
      unread_count: 0,
      last_message: { content: "not for ann either" },
    });
  });

  test("goes on within what one event is told as, wherever it was cut", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await newRoom([bob]);
    using socket = await connect(ann);
    await socket.ask({ type: "follow" });
    await api.put(`/rooms/${room}/members/${encodeURIComponent(ann)}`, {});
    await api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
    await socket.next("unsubscribed");
    const all = socket.frames.filter(({ type }) => ["inbox", "room", "event", "unsubscribed"].includes(type));
    expect(all.map(({ type }) => type)).toEqual(["inbox", "room", "event", "event", "unsubscribed"]);
    for (const [index, { cursor }] of all.entries()) {
      using again = await connect(ann);
      await again.ask({ type: "follow", after: cursor });
      await again.next("caught_up");
      const rest = again.frames.filter(({ type }) => ["room", "event", "unsubscribed"].includes(type));
      expect(rest.map(({ type, seq }) => [type, seq])).toEqual(
        all.slice(index + 1).map(({ type, seq }) => [type, seq]),
      );
    }
  });

  test("a cursor that is damaged, another client's, a position, or of a later log is refused", async () => {
    const ann = newUser();
    const room = await newRoom([ann]);
    using socket = await connect(ann);
    const { cursor } = await socket.ask({ type: "follow" });
    const other = await newClient(server.url);
    using stranger = await SocketClient.connect(url(), await tokenOf(other, ann));
    const position = (await api.get(`/rooms/${room}`)).headers.get("position") ?? "x".repeat(22);
    await socket.ask({ type: "unfollow" });
    for (const after of ["", "x", `${String(cursor).slice(0, -1)}`, position])
      expect(await socket.ask({ type: "follow", after })).toMatchObject({ type: "error", code: "invalid_cursor" });
    expect(await stranger.ask({ type: "follow", after: cursor })).toMatchObject({ code: "invalid_cursor" });
    expect(await socket.ask({ type: "follow", after: 1 })).toMatchObject({ code: "validation_failed" });
    expect(await socket.ask({ type: "follow", limit: 101 })).toMatchObject({ code: "validation_failed" });
    expect(await socket.ask({ type: "follow", after: cursor })).toMatchObject({ type: "following" });
  });

  test("with a cursor of 30 days ago the window comes anew", async () => {
    const ann = newUser();
    const { services } = server;
    const client = api.id as ClientId;
    const now = services.now();
    const old = services.positions.cursorUpTo(client, positionOf(services.store.logId, 0));
    const room = await newRoom([ann]);
    // A key does not expire meanwhile.
    using socket = await SocketClient.connect(url(), String(api.key), `/ws?user_id=${encodeURIComponent(ann)}`);
    expect(await socket.ask({ type: "follow", after: old })).toMatchObject({ type: "following" });
    await socket.ask({ type: "unfollow" });
    const real = services.now;
    Object.assign(services, { now: () => now + 31 * 86_400_000 });
    try {
      const inbox = await socket.ask({ type: "follow", after: old });
      expect(inbox).toMatchObject({ type: "inbox", reset: true, rooms: [{ room: { id: room } }] });
    } finally {
      Object.assign(services, { now: real });
    }
    await say(room, "live", ann);
    await socket.next("event", { room_id: room, seq: 2 });
  });
});

describe("beside what else the connection has", () => {
  test("an event of a room that is subscribed too comes once, with the cursor, and so does its end", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await newRoom([bob, ann]);
    await say(room, "old", bob);
    using socket = await connect(ann);
    await socket.ask({ type: "subscribe", room_id: room });
    await socket.ask({ type: "follow" });
    await say(room, "first", bob);
    await socket.next("event", { seq: 3 });
    expect(socket.of("event")).toMatchObject([{ seq: 3, cursor: expect.any(String) }]);
    await socket.ask({ type: "subscribe", room_id: room, after_seq: 0 });
    await socket.next("caught_up");
    await say(room, "second", bob);
    await socket.next("event", { seq: 4 });
    expect(socket.seqs()).toEqual([3, 1, 2, 3, 4]);
    await socket.ask({ type: "unfollow" });
    await say(room, "third", bob);
    await socket.next("event", { seq: 5 });
    expect(socket.of("event").at(-1)).not.toHaveProperty("cursor");
    await socket.ask({ type: "follow" });
    await say(room, "fourth", ann);
    await api.put(`/rooms/${room}/reads/${encodeURIComponent(bob)}`, { seq: 6 });
    await socket.next("read", { user_id: bob });
    await api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
    await socket.next("unsubscribed");
    await socket.ask({ type: "ping" });
    expect(socket.of("unsubscribed")).toMatchObject([{ reason: "removed", cursor: expect.any(String) }]);
    expect(socket.seqs()).toEqual([3, 1, 2, 3, 4, 5, 6, 7]);
  });

  test("only the user's own markers come, and neither typing nor presence", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await newRoom([ann, bob]);
    await say(room, "one", bob);
    using socket = await connect(ann);
    using other = await connect(bob);
    await socket.ask({ type: "follow" });
    await other.ask({ type: "typing", room_id: room, active: true });
    await say(room, "two", ann);
    await other.ask({ type: "read", room_id: room, seq: 3 });
    await say(room, "three", bob);
    await socket.ask({ type: "read", room_id: room, seq: 4 });
    await socket.next("read");
    expect(socket.of("read")).toMatchObject([{ user_id: ann, seq: 4, cursor: expect.any(String) }]);
    expect(socket.of("typing")).toEqual([]);
  });

  test("a notification comes once, with a cursor; and on the next connection unasked, not again", async () => {
    const [ann, bob] = [newUser(), newUser()];
    using socket = await connect(ann);
    using apart = await connect(ann);
    await socket.ask({ type: "follow" });
    const notify = (subject: string) =>
      api.post("/notifications", { type: "websocket", user_ids: [ann], subject, content: "text" });
    await notify("first");
    const frame = await socket.next("notification", { subject: "first" });
    expect(frame).toMatchObject({ cursor: expect.any(String), fell_back: false });
    expect(await apart.next("notification")).toEqual({ ...frame, cursor: undefined });
    await newRoom([bob, ann]);
    await socket.next("room");
    expect(socket.of("notification")).toHaveLength(1);
    socket.cut();
    await notify("second");
    using again = await connect(ann);
    await again.next("notification", { subject: "second" });
    await again.ask({ type: "follow", after: frame.cursor });
    await again.next("caught_up");
    await notify("third");
    await again.next("notification", { subject: "third" });
    expect(again.of("notification").map(({ subject }) => subject)).toEqual(["first", "second", "third"]);
    await again.ask({ type: "unfollow" });
    await notify("fourth");
    await again.next("notification", { subject: "fourth" });
    expect(again.of("notification")).toHaveLength(4);
  });
});

describe("who may", () => {
  test("without the scope of notifications none come", async () => {
    const ann = newUser();
    const key = await api.post("/clients/me/keys", {
      ...{ name: "rooms", scopes: ["users:manage", "rooms:read", "messages:read"] },
    });
    using socket = await SocketClient.connect(url(), await tokenOf(api.as(key.body.api_key), ann));
    await socket.ask({ type: "follow" });
    await api.post("/notifications", { type: "websocket", user_ids: [ann], subject: "none", content: "text" });
    const room = await newRoom([ann]);
    await say(room, "hello", ann);
    await socket.next("event", { seq: 2 });
    expect(socket.of("notification")).toEqual([]);
  });

  test("not a key that names no user, nor who lacks a scope; a key that names one follows for it", async () => {
    const ann = newUser();
    await newRoom([ann]);
    using observer = await SocketClient.connect(url(), String(api.key));
    expect(await observer.ask({ type: "follow" })).toMatchObject({ type: "error", code: "user_required" });
    using named = await SocketClient.connect(url(), String(api.key), `/ws?user_id=${encodeURIComponent(ann)}`);
    expect(await named.ask({ type: "follow" })).toMatchObject({ type: "inbox", rooms: [{}] });
    for (const missing of ["rooms:read", "messages:read"]) {
      const scopes = ["users:manage", "rooms:read", "messages:read"].filter((scope) => scope !== missing);
      const key = await api.post("/clients/me/keys", { name: "few", scopes });
      const token = await tokenOf(api.as(key.body.api_key), ann);
      using few = await SocketClient.connect(url(), token);
      expect(await few.ask({ type: "follow" })).toMatchObject({ code: "insufficient_scope" });
      for (const bearer of [token, String(key.body.api_key)]) {
        using stream = await SseClient.open(server.url, `/users/${encodeURIComponent(ann)}/events`, bearer);
        expect(stream.status).toBe(403);
      }
    }
  });
});

describe("messages for later", () => {
  test("are told to their sender alone, each event once, on a socket, its stream and after a cut", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await newRoom([ann, bob]);
    const path = `/rooms/${room}/scheduled-messages`;
    const later = { sender_id: ann, content: "Later", send_at: new Date(Date.now() + 86_400_000).toISOString() };
    const schedule = async () => String((await api.post(`/rooms/${room}/messages`, later)).body.id);
    using socket = await connect(ann);
    using other = await connect(bob);
    using stream = await SseClient.open(server.url, `/users/${encodeURIComponent(ann)}/events`, api.key);
    await stream.next("inbox");
    await other.ask({ type: "follow" });
    const before = await schedule();
    await socket.next("event", { event: "message.scheduled" });
    await socket.ask({ type: "follow" });
    const id = await schedule();
    await socket.until(() => socket.of("event").length === 2);
    const [, frame] = socket.of("event");
    expect(frame).toMatchObject({ event: "message.scheduled", seq: null, data: { id }, cursor: expect.any(String) });
    const { data } = await stream.next("message.scheduled");
    expect([data.data.id, data.seq]).toEqual([before, null]);
    socket.cut();
    await api.patch(`${path}/${id}`, { content: "Changed" });
    await api.delete(`${path}/${id}`);
    await api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
    await api.post(`${path}/${before}/send-now`);
    using again = await connect(ann);
    await again.ask({ type: "follow", after: frame?.cursor });
    await again.next("caught_up");
    expect(again.of("event").map(({ event, data: of }) => [event, (of as Body).id ?? null])).toEqual([
      ["message.rescheduled", id],
      ["message.unscheduled", id],
      ["member.left", null],
      ["message.refused", before],
    ]);
    await stream.next("message.refused");
    expect(stream.types().filter((type) => type.startsWith("message."))).toEqual([
      ...["message.scheduled", "message.scheduled", "message.rescheduled", "message.unscheduled", "message.refused"],
    ]);
    await say(room, "hello", bob);
    await other.next("event", { event: "message.posted" });
    expect(other.of("event").map(({ event }) => event)).toEqual(["member.left", "message.posted"]);
    expect(socket.of("event")).toHaveLength(2);
  });
});
