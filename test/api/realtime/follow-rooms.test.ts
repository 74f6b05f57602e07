// Rooms that one who follows comes into and loses: they begin and end on its cursor, and show it no more than it may see.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  cursorOf,
  type FollowClient,
  type Following,
  inShort,
  newUser,
  startFollowing,
} from "../../support/following.ts";

let given: Following;
let client: FollowClient;
beforeAll(async () => {
  given = await startFollowing();
  ({ client } = given);
});
afterAll(() => given[Symbol.asyncDispose]());

describe("rooms that a user comes into and loses", () => {
  test("begin with the room as the list has it, and end with the reason and nothing after", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = await client.newRoom([bob], { kind: "public" });
    await client.say(room, "before", bob);
    using socket = await client.connect(ann);
    await socket.ask({ type: "follow" });
    await client.api.put(`/rooms/${room}/members/${encodeURIComponent(ann)}`, {});
    const first = await socket.next("room");
    expect(first.room).toEqual((await client.list(ann)).data[0]);
    await client.say(room, "inside", bob);
    await client.api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
    await client.say(room, "after", bob);
    const made = await client.newRoom([bob, ann]);
    await socket.next("event", { room_id: made });
    expect(socket.of("room")[1]?.room).toEqual((await client.list(ann)).data[0]);
    expect((await client.api.post(`/rooms/${made}/bans/${encodeURIComponent(ann)}`, {})).status).toBe(201);
    const gone = await client.newRoom([ann]);
    await client.api.delete(`/rooms/${gone}`);
    await socket.next("unsubscribed", { room_id: gone });
    expect(inShort(socket)).toEqual([
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
      await client.newRoom([bob], { history: "from_join" }),
      await client.newRoom([bob], { history: "from_join" }),
    ];
    const as = (of: string) => `/rooms/${of}/members/${encodeURIComponent(ann)}`;
    const old = `/rooms/${room}/messages/${(await client.say(room, "Secret", bob)).id}`;
    const older = `/rooms/${lost}/messages/${(await client.say(lost, "Secret", bob)).id}`;
    using socket = await client.connect(ann);
    await socket.ask({ type: "follow" });
    using his = await client.connect(bob);
    await his.ask({ type: "follow" });
    await client.api.put(as(lost), {});
    await client.api.put(as(room), {});
    await socket.next("event", { room_id: room });
    expect(socket.of("room").map((frame) => frame.room)).toEqual((await client.list(ann)).data.toReversed());
    expect(socket.of("room")[1]?.room).toMatchObject({ room: { history: "from_join" }, last_message: null });
    await client.api.patch(old, { content: "Secret still" });
    const edited = await socket.next("event", { event: "message.edited" });
    expect(edited.data).toEqual({ id: old.split("/").at(-1), hidden: true });
    expect((await his.next("event", { event: "message.edited" })).data).toMatchObject({ content: "Secret still" });
    const cursor = cursorOf(socket.frames);
    await client.api.delete(old);
    await client.api.patch(older, { content: "Secret too" });
    await client.say(lost, "seen", bob);
    await client.api.delete(as(lost));
    await client.api.delete(as(room));
    await client.say(room, "Secret meanwhile", bob);
    await client.api.put(as(room), {});
    await client.api.post(`${old}/restore`);
    await client.say(room, "news", bob);
    using again = await client.connect(ann);
    await again.ask({ type: "follow", after: cursor });
    await again.next("caught_up");
    expect(inShort(again)).toEqual([
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
    using window = await client.connect(cat);
    await client.api.put(as(room).replace(encodeURIComponent(ann), encodeURIComponent(cat)), {});
    expect((await window.ask({ type: "follow" })).rooms).toMatchObject([{ room: { id: room }, last_message: null }]);
  });
});
