// Rooms over real sockets: who may subscribe, what is sent, and when it ends.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { externalIdClaim } from "../../../src/app/rooms.ts";
import type { RoomId } from "../../../src/contract/ids.ts";
import { claimDecider } from "../../../src/domain/claim.ts";
import { contextOf, createRoom, post } from "../../support/live.ts";
import { issueToken, type LiveServer, newClient, startLiveServer, type TestClient } from "../../support/live-server.ts";
import { roomCommands } from "../../support/room-commands.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: LiveServer;
let client: TestClient;
let rooms = 0;
beforeAll(async () => {
  server = await startLiveServer();
  client = await newClient(server);
});
afterAll(() => server[Symbol.asyncDispose]());

const newRoom = async (members: Parameters<typeof createRoom>[3]): Promise<RoomId> => {
  rooms += 1;
  const room: RoomId = `room_${rooms.toString().padStart(26, "0")}`;
  await createRoom(server.services, client.id, room, members);
  return room;
};
const say = (room: RoomId, content: string, user = "ann") => post(server.services, client.id, room, user, content);
const connect = async (user: string) =>
  SocketClient.connect(server.url, (await issueToken(server, client.id, user)).token);
const inRoom = (room: RoomId) => roomCommands(server.services, client.id, room);

describe("subscribing", () => {
  test("to several rooms in one frame, each answered by itself, errors with the room that they are about", async () => {
    const [first, second, hidden] = await Promise.all([
      newRoom({ ann: "owner" }),
      newRoom({ ann: "owner" }),
      newRoom({ bob: "owner" }),
    ]);
    await say(second, "missed");
    using ann = await connect("ann");
    const wanted = [
      { room_id: first },
      { room_id: hidden },
      { room_id: second, after_seq: 1 },
      { room_id: second },
      { room_id: first, after_seq: 9 },
    ];
    ann.send({ type: "subscribe", rooms: wanted, ref: "all" });
    await ann.next("error", { code: "seq_out_of_range" });
    await ann.next("caught_up", { room_id: second });
    const answers = ann.frames.flatMap(({ type, room_id, code, ref }) =>
      ref === "all" ? [[type, room_id, code]] : [],
    );
    expect(answers).toEqual([
      ["subscribed", first, undefined],
      ["error", hidden, "not_found"],
      ["subscribed", second, undefined],
      ["error", second, "already_subscribed"],
      ["error", first, "seq_out_of_range"],
    ]);
    const live = [await say(first, "live"), await say(second, "live")];
    await ann.next("event", { room_id: second, seq: live[1]?.seq });
    expect(ann.of("event").map((frame) => [frame.room_id, frame.seq])).toEqual([
      [second, 2],
      [first, 2],
      [second, 3],
    ]);
  });

  test("takes one room or up to a hundred, not both", async () => {
    const room = await newRoom({ ann: "owner" });
    using ann = await connect("ann");
    const wrong = [
      { rooms: [] },
      {},
      { room_id: room, rooms: [{ room_id: room }] },
      { after_seq: 1, rooms: [{ room_id: room }] },
      { rooms: Array.from({ length: 101 }, () => ({ room_id: room })) },
      { rooms: [{ room_id: room, since: 1 }] },
    ];
    const answers = await Promise.all(wrong.map((frame) => ann.ask({ type: "subscribe", ...frame })));
    expect(answers.map(({ code, message }) => [code, String(message).split(":", 1)[0]])).toEqual([
      ["validation_failed", "rooms"],
      ["validation_failed", "room_id"],
      ["validation_failed", "room_id"],
      ["validation_failed", "after_seq"],
      ["validation_failed", "rooms"],
      ["validation_failed", "rooms.0.since"],
    ]);
    expect(await ann.ask({ type: "subscribe", room_id: room })).toMatchObject({ type: "subscribed" });
  });

  test("both sockets of a room get a message with the seq that its posting has", async () => {
    const room = await newRoom({ ann: "owner", bob: "member" });
    using ann = await connect("ann");
    using bob = await connect("bob");
    expect(await ann.ask({ type: "subscribe", room_id: room })).toEqual({ type: "subscribed", room_id: room, seq: 1 });
    await bob.ask({ type: "subscribe", room_id: room });
    const { seq, id } = await say(room, "hello");
    for (const socket of [ann, bob]) {
      const frame = await socket.next("event", { seq });
      expect(frame).toMatchObject({ room_id: room, event: "message.posted", actor: { type: "key", id: "key_1" } });
      expect(frame.data).toMatchObject({
        id,
        seq,
        room_id: room,
        sender_id: "ann",
        content: "hello",
        deleted_at: null,
      });
      expect(String(frame.position)).toMatch(/^[\w-]{22}$/);
    }
    expect(ann.of("caught_up")).toEqual([]);
  });

  test("after_seq brings what was missed, then says so, then goes on live", async () => {
    const room = await newRoom({ ann: "owner" });
    for (let n = 0; n < 250; n += 1) await say(room, `m${n}`);
    using ann = await connect("ann");
    expect(await ann.ask({ type: "subscribe", room_id: room, after_seq: 0 })).toMatchObject({ seq: 251 });
    expect(await ann.next("caught_up")).toEqual({ type: "caught_up", room_id: room, seq: 251 });
    await say(room, "live");
    await ann.next("event", { seq: 252 });
    expect(ann.seqs()).toEqual(Array.from({ length: 252 }, (_, index) => index + 1));
    const at = ann.frames.findIndex((frame) => frame.type === "caught_up");
    expect(ann.frames[at - 1]).toMatchObject({ seq: 251 });
  });

  test("at the head there is nothing to catch up with; past it is an error; twice is one", async () => {
    const room = await newRoom({ ann: "owner" });
    using ann = await connect("ann");
    expect(await ann.ask({ type: "subscribe", room_id: room, after_seq: 2 })).toMatchObject({
      type: "error",
      code: "seq_out_of_range",
    });
    await ann.ask({ type: "subscribe", room_id: room, after_seq: 1 });
    expect(await ann.next("caught_up")).toMatchObject({ seq: 1 });
    expect(ann.seqs()).toEqual([]);
    expect(await ann.ask({ type: "subscribe", room_id: room })).toMatchObject({ code: "already_subscribed" });
    expect(await ann.ask({ type: "unsubscribe", room_id: room })).toMatchObject({
      type: "unsubscribed",
      reason: "asked",
    });
    await say(room, "unheard");
    expect(await ann.ask({ type: "subscribe", room_id: room })).toMatchObject({ type: "subscribed", seq: 2 });
    await say(room, "heard");
    await ann.next("event", { seq: 3 });
    expect(ann.seqs()).toEqual([3]);
  });

  test("again with after_seq starts anew from there, and each event comes once", async () => {
    const room = await newRoom({ ann: "owner" });
    await say(room, "one");
    using ann = await connect("ann");
    await ann.ask({ type: "subscribe", room_id: room });
    await say(room, "two");
    await ann.next("event", { seq: 3 });
    expect(await ann.ask({ type: "subscribe", room_id: room, after_seq: 9 })).toMatchObject({
      code: "seq_out_of_range",
    });
    expect(await ann.ask({ type: "subscribe", room_id: room, after_seq: 1 })).toMatchObject({
      type: "subscribed",
      seq: 3,
    });
    await ann.next("caught_up");
    await say(room, "three");
    await ann.next("event", { seq: 4 });
    expect(ann.seqs()).toEqual([3, 2, 3, 4]);
  });

  test("a room that is unknown, another client's or one's own but private answers the same", async () => {
    const room = await newRoom({ ann: "owner" });
    const other = await newClient(server);
    using eve = await connect("eve");
    using stranger = await SocketClient.connect(server.url, other.key);
    const answers = [
      await eve.ask({ type: "subscribe", room_id: room }),
      await eve.ask({ type: "subscribe", room_id: "room_unknown" }),
      await eve.ask({ type: "subscribe", room_id: "ext:unknown" }),
      await stranger.ask({ type: "subscribe", room_id: room }),
      await stranger.ask({ type: "unsubscribe", room_id: room }),
      await eve.ask({ type: "unsubscribe", room_id: room }),
      await eve.ask({ type: "read", room_id: room, seq: 1 }),
    ];
    // Beside the room that the client has named itself.
    const told = answers.map(({ room_id: _named, ...answer }) => answer);
    for (const answer of told) expect(answer).toEqual(told[0]);
    expect(told[0]).toMatchObject({ type: "error", code: "not_found" });
    expect(server.gateway.counts().rooms).toBe(0);
  });

  test("a key without a user watches any room of its client, and cannot act", async () => {
    const room = await newRoom({ ann: "owner" });
    using key = await SocketClient.connect(server.url, client.key);
    expect(key.frames[0]).toMatchObject({ user_id: null });
    await key.ask({ type: "subscribe", room_id: room });
    await say(room, "seen");
    await key.next("event", { seq: 2 });
    expect(await key.ask({ type: "read", room_id: room, seq: 1 })).toMatchObject({ code: "user_required" });
    expect(await key.ask({ type: "ack", delivery_id: "dlv_1" })).toMatchObject({ code: "user_required" });
  });
});

describe("losing a room", () => {
  test("who is removed or leaves is told why, and gets no event after the one that removed it", async () => {
    const room = await newRoom({ ann: "owner", bob: "member", cat: "member" });
    using bob = await connect("bob");
    using cat = await connect("cat");
    for (const socket of [bob, cat]) await socket.ask({ type: "subscribe", room_id: room });
    expect(await inRoom(room).remove("bob")).toBe(2);
    await say(room, "between");
    await inRoom(room).remove("cat", true);
    await say(room, "after");
    expect(await bob.next("unsubscribed")).toMatchObject({ room_id: room, reason: "removed" });
    expect(await cat.next("unsubscribed")).toMatchObject({ room_id: room, reason: "left" });
    expect(bob.seqs()).toEqual([2]);
    expect(cat.seqs()).toEqual([2, 3, 4]);
    expect(bob.frames.at(-2)).toMatchObject({ event: "member.left", data: { user_id: "bob", reason: "removed" } });
    expect(await bob.ask({ type: "subscribe", room_id: room })).toMatchObject({ code: "not_found" });
  });

  test("when the room is deleted, everyone gets the event and then the end", async () => {
    const room = await newRoom({ ann: "owner" });
    using ann = await connect("ann");
    using key = await SocketClient.connect(server.url, client.key);
    for (const socket of [ann, key]) await socket.ask({ type: "subscribe", room_id: room });
    await inRoom(room).deleteRoom();
    for (const socket of [ann, key]) {
      expect(await socket.next("unsubscribed")).toMatchObject({ reason: "room_deleted" });
      expect(socket.frames.at(-2)).toMatchObject({ event: "room.deleted", seq: 2, data: { id: room, seq: 2 } });
    }
    expect(await ann.ask({ type: "subscribe", room_id: room })).toMatchObject({ code: "not_found" });
  });

  test("rooms are open only while somebody listens", async () => {
    const before = server.gateway.counts().rooms;
    const room = await newRoom({ ann: "owner" });
    using ann = await connect("ann");
    using again = await connect("ann");
    await ann.ask({ type: "subscribe", room_id: room });
    await again.ask({ type: "subscribe", room_id: room });
    expect(server.gateway.counts().rooms).toBe(before + 1);
    await ann.ask({ type: "unsubscribe", room_id: room });
    expect(server.gateway.counts().rooms).toBe(before + 1);
    again.cut();
    while (server.gateway.counts().rooms > before) await new Promise((resolve) => setTimeout(resolve, 10));
  });
});

test("a deleted message's text goes out to nobody who comes later, until it is restored", async () => {
  const room = await newRoom({ ann: "owner" });
  const { id, seq } = await say(room, "secret");
  await inRoom(room).edit(id, "more secret");
  using early = await connect("ann");
  await early.ask({ type: "subscribe", room_id: room, after_seq: 0 });
  await early.next("caught_up");
  await inRoom(room).delete(id);
  await early.next("event", { event: "message.deleted" });
  for (const round of [0, 1]) {
    using late = await connect("ann");
    await late.ask({ type: "subscribe", room_id: room, after_seq: round });
    await late.next("caught_up");
    expect(JSON.stringify(late.frames)).not.toContain("secret");
    const shown = late.of("event").filter((frame) => frame.event !== "room.created");
    expect(shown.map((frame) => [frame.seq, frame.event])).toEqual([
      [2, "message.posted"],
      [3, "message.edited"],
      [4, "message.deleted"],
    ]);
    expect(shown[0]?.data).toMatchObject({ id, seq, content: null, meta: {}, sender_id: "ann" });
    expect(shown[1]?.data).toMatchObject({ id, seq, content: null, sender_id: "ann" });
    expect(shown[2]?.data).toMatchObject({ id, seq });
  }
  await inRoom(room).restore(id);
  expect(await early.next("event", { event: "message.restored" })).toMatchObject({
    data: { id, seq, content: "more secret", deleted_at: null },
  });
  using last = await connect("ann");
  await last.ask({ type: "subscribe", room_id: room, after_seq: 1 });
  await last.next("caught_up");
  expect(last.of("event").map((frame) => (frame.data as { content?: unknown }).content)).toEqual([
    "secret",
    "more secret",
    undefined,
    "more secret",
  ]);
});

test("a room may be named by its external id", async () => {
  const room: RoomId = "room_external";
  const { stream } = await externalIdClaim(server.services.keyring, client.id, "order-1");
  const claim = { type: "Claim", at: Date.now(), room, abandoned: null } as const;
  await server.services.commands.execute(claimDecider, stream, claim, contextOf(client.id));
  await createRoom(server.services, client.id, room, { ann: "owner" }, "order-1");
  using ann = await connect("ann");
  expect(await ann.ask({ type: "subscribe", room_id: "ext:order-1" })).toMatchObject({ room_id: room, seq: 1 });
  expect(await ann.ask({ type: "subscribe", room_id: room })).toMatchObject({ code: "already_subscribed" });
  expect(await ann.ask({ type: "unsubscribe", room_id: "ext:order-1" })).toMatchObject({ room_id: room });
});

test("a read marker goes to all sockets of the room, a lower one to none, one past the head is refused", async () => {
  const room = await newRoom({ ann: "owner", bob: "member" });
  const { seq } = await say(room, "hello");
  using ann = await connect("ann");
  using bob = await connect("bob");
  for (const socket of [ann, bob]) await socket.ask({ type: "subscribe", room_id: room });
  expect(await bob.ask({ type: "read", room_id: room, seq })).toEqual({ type: "ok" });
  for (const socket of [ann, bob]) {
    expect(await socket.next("read")).toMatchObject({ room_id: room, user_id: "bob", seq });
  }
  expect(await bob.ask({ type: "read", room_id: room, seq: 1 })).toEqual({ type: "ok" });
  expect(await bob.ask({ type: "read", room_id: room, seq: 99 })).toMatchObject({ code: "validation_failed" });
  await bob.ask({ type: "ping" });
  expect(ann.of("read")).toHaveLength(1);
});
