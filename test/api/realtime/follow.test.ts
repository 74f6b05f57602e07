// `follow`: everything of one user on one cursor, beside subscriptions and notifications; each event once, in order.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Body, tokenOf } from "../../e2e/support/api.ts";
import { type FollowClient, type Following, newUser, startFollowing } from "../../support/following.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { SseClient } from "../../support/sse-client.ts";

let given: Following;
let client: FollowClient;
beforeAll(async () => {
  given = await startFollowing();
  ({ client } = given);
});
afterAll(() => given[Symbol.asyncDispose]());

test("a user's stream of events sends what follow does, and each resumes from the other's cursor", async () => {
  const [ann, bob] = [newUser(), newUser()];
  const room = await client.newRoom([ann, bob]);
  const path = `/users/${encodeURIComponent(ann)}/events`;
  using socket = await client.connect(ann);
  using stream = await SseClient.open(given.server.url, path, await tokenOf(client.api, ann));
  const { type: _type, cursor: _cursor, ...window } = await socket.ask({ type: "follow" });
  expect((await stream.next("inbox")).data).toEqual(window);
  const posted = await client.say(room, "hello", bob);
  const other = await client.newRoom([ann]);
  await socket.next("room");
  const frame = await socket.next("event", { room_id: room, seq: posted.seq });
  const { data, id } = await stream.next("message.posted");
  const { type: _event, event, cursor, ...shown } = frame;
  expect([data, id]).toEqual([{ type: event, ...shown }, cursor]);
  expect((await stream.next("room")).data.room.room.id).toBe(other);

  // On from the socket's cursor, as a key that reads for the user.
  using again = await SseClient.open(given.server.url, `${path}?after=${cursor}`, client.api.key);
  await again.next("following");
  await again.next("caught_up");
  expect(again.types()).not.toContain("message.posted");
  expect((await again.next("room")).data.room.room.id).toBe(other);
  // Whoever loses a room goes on with the others.
  await client.api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
  expect((await stream.next("unsubscribed")).data).toEqual({ room_id: room, reason: "removed" });
  await client.say(other, "still here", ann);
  await stream.until(() => stream.types().filter((one) => one === "message.posted").length === 2);

  using foreign = await SseClient.open(given.server.url, path, await tokenOf(client.api, bob));
  expect(foreign.status).toBe(404);
  using wrong = await SseClient.open(given.server.url, `${path}?after=nonsense`, client.api.key);
  expect(wrong.status).toBe(400);
});

describe("the window", () => {
  test("has the rooms as REST gives them, newest activity first, then everything that happens in them", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const rooms = [await client.newRoom([ann, bob]), await client.newRoom([ann]), await client.newRoom([ann, bob])];
    const other = await client.newRoom([bob]);
    await client.say(String(rooms[1]), "hello", ann);
    await client.say(String(rooms[0]), "unread", bob);
    using socket = await client.connect(ann);
    const inbox = await socket.ask({ type: "follow", limit: 2 });
    const rest = await client.list(ann);
    expect(Object.keys(inbox).toSorted()).toEqual(["cursor", "next_cursor", "rooms", "type", "unread_total"]);
    expect(inbox).toMatchObject({ type: "inbox", unread_total: 1, rooms: rest.data.slice(0, 2) });
    const page = await client.api.get(`/users/${encodeURIComponent(ann)}/rooms?cursor=${inbox.next_cursor}`);
    expect(page.body.data).toEqual(rest.data.slice(2));
    await client.say(other, "not for ann", bob);
    const { seq } = await client.say(String(rooms[2]), "live", bob);
    const frame = await socket.next("event", { room_id: rooms[2], seq });
    expect(frame).toMatchObject({ event: "message.posted", cursor: expect.stringMatching(/^[\w-]{22}$/) });
    expect(socket.of("event")).toHaveLength(1);
    expect(await socket.ask({ type: "follow" })).toMatchObject({ type: "error", code: "already_following" });
    expect(await socket.ask({ type: "unfollow" })).toEqual({ type: "unfollowed" });
    await client.say(String(rooms[2]), "no more", bob);
    await socket.ask({ type: "ping" });
    expect(socket.of("event")).toHaveLength(1);
    expect(await socket.ask({ type: "follow" })).toMatchObject({ type: "inbox", next_cursor: null, unread_total: 3 });
  });

  test("of a user without rooms is empty", async () => {
    using socket = await client.connect(newUser());
    expect(await socket.ask({ type: "follow" })).toMatchObject({ rooms: [], unread_total: 0, next_cursor: null });
  });
});

describe("beside what else the connection has", () => {
  test("an event of a room that is subscribed too comes once, with the cursor, and so does its end", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await client.newRoom([bob, ann]);
    await client.say(room, "old", bob);
    using socket = await client.connect(ann);
    await socket.ask({ type: "subscribe", room_id: room });
    await socket.ask({ type: "follow" });
    await client.say(room, "first", bob);
    await socket.next("event", { seq: 3 });
    expect(socket.of("event")).toMatchObject([{ seq: 3, cursor: expect.any(String) }]);
    await socket.ask({ type: "subscribe", room_id: room, after_seq: 0 });
    await socket.next("caught_up");
    await client.say(room, "second", bob);
    await socket.next("event", { seq: 4 });
    expect(socket.seqs()).toEqual([3, 1, 2, 3, 4]);
    await socket.ask({ type: "unfollow" });
    await client.say(room, "third", bob);
    await socket.next("event", { seq: 5 });
    expect(socket.of("event").at(-1)).not.toHaveProperty("cursor");
    await socket.ask({ type: "follow" });
    await client.say(room, "fourth", ann);
    await client.api.put(`/rooms/${room}/reads/${encodeURIComponent(bob)}`, { seq: 6 });
    await socket.next("read", { user_id: bob });
    await client.api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
    await socket.next("unsubscribed");
    await socket.ask({ type: "ping" });
    expect(socket.of("unsubscribed")).toMatchObject([{ reason: "removed", cursor: expect.any(String) }]);
    expect(socket.seqs()).toEqual([3, 1, 2, 3, 4, 5, 6, 7]);
  });

  test("only the user's own markers come, and neither typing nor presence", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await client.newRoom([ann, bob]);
    await client.say(room, "one", bob);
    using socket = await client.connect(ann);
    using other = await client.connect(bob);
    await socket.ask({ type: "follow" });
    await other.ask({ type: "typing", room_id: room, active: true });
    await client.say(room, "two", ann);
    await other.ask({ type: "read", room_id: room, seq: 3 });
    await client.say(room, "three", bob);
    await socket.ask({ type: "read", room_id: room, seq: 4 });
    await socket.next("read");
    expect(socket.of("read")).toMatchObject([{ user_id: ann, seq: 4, cursor: expect.any(String) }]);
    expect(socket.of("typing")).toEqual([]);
  });

  test("a notification comes once, with a cursor; and on the next connection unasked, not again", async () => {
    const [ann, bob] = [newUser(), newUser()];
    using socket = await client.connect(ann);
    using apart = await client.connect(ann);
    await socket.ask({ type: "follow" });
    const notify = (subject: string) =>
      client.api.post("/notifications", { type: "websocket", user_ids: [ann], subject, content: "text" });
    await notify("first");
    const frame = await socket.next("notification", { subject: "first" });
    expect(frame).toMatchObject({ cursor: expect.any(String), fell_back: false });
    expect(await apart.next("notification")).toEqual({ ...frame, cursor: undefined });
    await client.newRoom([bob, ann]);
    await socket.next("room");
    expect(socket.of("notification")).toHaveLength(1);
    socket.cut();
    await notify("second");
    using again = await client.connect(ann);
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
    const key = await client.api.post("/clients/me/keys", {
      ...{ name: "rooms", scopes: ["users:manage", "rooms:read", "messages:read"] },
    });
    using socket = await SocketClient.connect(client.url, await tokenOf(client.api.as(key.body.api_key), ann));
    await socket.ask({ type: "follow" });
    using allowed = await client.connect(ann);
    await allowed.ask({ type: "follow" });
    await client.api.post("/notifications", { type: "websocket", user_ids: [ann], subject: "none", content: "text" });
    await allowed.next("notification");
    const room = await client.newRoom([ann]);
    await client.say(room, "hello", ann);
    await socket.next("event", { seq: 2 });
    expect(socket.of("notification")).toEqual([]);
  });

  test("not a key that names no user, nor who lacks a scope; a key that names one follows for it", async () => {
    const ann = newUser();
    await client.newRoom([ann]);
    using observer = await SocketClient.connect(client.url, String(client.api.key));
    expect(await observer.ask({ type: "follow" })).toMatchObject({ type: "error", code: "user_required" });
    using named = await SocketClient.connect(
      client.url,
      String(client.api.key),
      `/ws?user_id=${encodeURIComponent(ann)}`,
    );
    expect(await named.ask({ type: "follow" })).toMatchObject({ type: "inbox", rooms: [{}] });
    for (const missing of ["rooms:read", "messages:read"]) {
      const scopes = ["users:manage", "rooms:read", "messages:read"].filter((scope) => scope !== missing);
      const key = await client.api.post("/clients/me/keys", { name: "few", scopes });
      const token = await tokenOf(client.api.as(key.body.api_key), ann);
      using few = await SocketClient.connect(client.url, token);
      expect(await few.ask({ type: "follow" })).toMatchObject({ code: "insufficient_scope" });
      for (const bearer of [token, String(key.body.api_key)]) {
        using stream = await SseClient.open(given.server.url, `/users/${encodeURIComponent(ann)}/events`, bearer);
        expect(stream.status).toBe(403);
      }
    }
  });
});

describe("messages for later", () => {
  test("are told to their sender alone, each event once, on a socket, its stream and after a cut", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await client.newRoom([ann, bob]);
    const path = `/rooms/${room}/scheduled-messages`;
    const later = { sender_id: ann, content: "Later", send_at: new Date(Date.now() + 86_400_000).toISOString() };
    const schedule = async () => String((await client.api.post(`/rooms/${room}/messages`, later)).body.id);
    using socket = await client.connect(ann);
    using other = await client.connect(bob);
    using stream = await SseClient.open(given.server.url, `/users/${encodeURIComponent(ann)}/events`, client.api.key);
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
    await client.api.patch(`${path}/${id}`, { content: "Changed" });
    await client.api.delete(`${path}/${id}`);
    await client.api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
    await client.api.post(`${path}/${before}/send-now`);
    using again = await client.connect(ann);
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
    await client.say(room, "hello", bob);
    await other.next("event", { event: "message.posted" });
    expect(other.of("event").map(({ event }) => event)).toEqual(["member.left", "message.posted"]);
    expect(socket.of("event")).toHaveLength(2);
  });
});
