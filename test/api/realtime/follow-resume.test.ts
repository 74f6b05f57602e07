// `follow` with a cursor: what was missed comes once, in order; where it is too much or too old, the window comes anew.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RoomId } from "../../../src/contract/ids.ts";
import { roomStream } from "../../../src/domain/room.ts";
import { encode } from "../../../src/event-store/envelope.ts";
import { positionOf } from "../../../src/event-store/event-store.ts";
import { type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { posted } from "../../projections/log.ts";
import {
  cursorOf,
  type FollowClient,
  type Following,
  inShort,
  newUser,
  startFollowing,
} from "../../support/following.ts";
import { contextOf } from "../../support/live.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { SseClient } from "../../support/sse-client.ts";

let given: Following;
let client: FollowClient;
beforeAll(async () => {
  given = await startFollowing();
  ({ client } = given);
});
afterAll(() => given[Symbol.asyncDispose]());

describe("after a cut", () => {
  test("`after` brings what was missed, in order, once, then says so, then goes on live", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const stays = await client.newRoom([ann, bob]);
    const lost = await client.newRoom([bob, ann]);
    const flapped = await client.newRoom([bob, ann]);
    let cursor = "";
    {
      using socket = await client.connect(ann);
      await socket.ask({ type: "follow" });
      await client.say(stays, "seen", bob);
      await socket.next("event", { room_id: stays });
      cursor = cursorOf(socket.frames);
    }
    const as = encodeURIComponent(ann);
    await client.say(stays, "missed", bob);
    await client.say(lost, "missed too", bob);
    await client.api.delete(`/rooms/${lost}/members/${as}`);
    await client.say(lost, "not for ann", bob);
    await client.api.delete(`/rooms/${flapped}/members/${as}`);
    await client.say(flapped, "not for ann either", bob);
    await client.api.put(`/rooms/${flapped}/members/${as}`, {});
    await client.say(flapped, "again", bob);
    const brief = await client.newRoom([bob, ann]);
    await client.api.delete(`/rooms/${brief}`);
    await client.api.put(`/rooms/${stays}/reads/${as}`, { seq: 3 });
    using socket = await client.connect(ann);
    expect(await socket.ask({ type: "follow", after: cursor })).toEqual({
      type: "following",
      cursor: expect.stringMatching(/^[\w-]{22}$/),
    });
    await socket.next("caught_up");
    await client.say(stays, "live", bob);
    await socket.next("event", { room_id: stays, seq: 4 });
    expect(inShort(socket)).toEqual([
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
    const room = await client.newRoom([bob]);
    using socket = await client.connect(ann);
    await socket.ask({ type: "follow" });
    await client.api.put(`/rooms/${room}/members/${encodeURIComponent(ann)}`, {});
    await client.api.delete(`/rooms/${room}/members/${encodeURIComponent(ann)}`);
    await socket.next("unsubscribed");
    const all = socket.frames.filter(({ type }) => ["inbox", "room", "event", "unsubscribed"].includes(type));
    expect(all.map(({ type }) => type)).toEqual(["inbox", "room", "event", "event", "unsubscribed"]);
    for (const [index, { cursor }] of all.entries()) {
      using again = await client.connect(ann);
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
    const room = await client.newRoom([ann]);
    using socket = await client.connect(ann);
    const { cursor } = await socket.ask({ type: "follow" });
    const other = await newClient(given.server.url);
    using stranger = await SocketClient.connect(client.url, await tokenOf(other, ann));
    const position = (await client.api.get(`/rooms/${room}`)).headers.get("position") ?? "x".repeat(22);
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
    const { services } = given.server;
    const { tenant } = given;
    const now = services.now();
    const old = services.positions.cursorUpTo(tenant, positionOf(services.store.logId, 0));
    const room = await client.newRoom([ann]);
    // A key does not expire meanwhile.
    using socket = await SocketClient.connect(
      client.url,
      String(client.api.key),
      `/ws?user_id=${encodeURIComponent(ann)}`,
    );
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
    await client.say(room, "live", ann);
    await socket.next("event", { room_id: room, seq: 2 });
  });

  test("10,000 missed events come, and of more the window comes anew, with the rooms as they are, and says so", async () => {
    const [ann, bob] = [newUser(), newUser()];
    const room = (await client.newRoom([ann, bob])) as RoomId;
    const lost = await client.newRoom([bob, ann]);
    using socket = await client.connect(ann);
    const { cursor } = await socket.ask({ type: "follow" });
    socket.cut();
    await postMany(room, bob, MAX_MISSED);
    using all = await client.connect(ann);
    expect(await all.ask({ type: "follow", after: cursor })).toMatchObject({ type: "following" });
    await all.next("caught_up");
    expect(all.seqs()).toEqual(Array.from({ length: MAX_MISSED }, (_, n) => n + 2));
    expect(all.of("inbox")).toEqual([]);

    await client.api.delete(`/rooms/${lost}/members/${encodeURIComponent(ann)}`);
    const gained = await client.newRoom([bob, ann]);
    using again = await client.connect(ann);
    const inbox = await again.ask({ type: "follow", after: cursor });
    expect(inbox).toMatchObject({ type: "inbox", reset: true, unread_total: MAX_MISSED, next_cursor: null });
    expect((inbox.rooms as Body[]).map((one) => one.room.id)).toEqual([gained, room]);
    const path = `/users/${encodeURIComponent(ann)}/events?after=${cursor}`;
    using stream = await SseClient.open(given.server.url, path, client.api.key);
    const { data } = await stream.next("inbox");
    expect(data).toMatchObject({ reset: true, rooms: inbox.rooms, unread_total: MAX_MISSED });
    const { seq } = await client.say(room, "live", bob);
    await again.next("event", { room_id: room, seq });
    await stream.next("message.posted");
    expect(inShort(again)).toEqual([["message.posted", room, seq]]);
    expect(stream.types()).toEqual(["inbox", "message.posted"]);
    // From the new window's cursor on it resumes.
    using resumed = await client.connect(ann);
    expect(await resumed.ask({ type: "follow", after: inbox.cursor })).toMatchObject({ type: "following" });
    await resumed.next("caught_up");
    expect(inShort(resumed)).toEqual([["message.posted", room, seq]]);
  });
});

const MAX_MISSED = 10_000;
const COMMIT = 500;

/** So many messages in a new room, as if they had been posted. */
async function postMany(room: RoomId, user: string, count: number): Promise<void> {
  const { store, keyring, readSide } = given.server.services;
  const sender = await keyring.subjectOfUser(given.tenant, user);
  for (let done = 0; done < count; done += COMMIT) {
    const events = Array.from({ length: COMMIT }, (_, n) => posted(sender, done + n + 2, done + n + 1, { room }));
    const at = { stream: roomStream(room), at: Date.now(), firstRevision: done + 1 };
    await store.append(at.stream, done, await encode(keyring, { ...at, events, context: contextOf(given.tenant) }));
  }
  await readSide.caughtUp();
}
