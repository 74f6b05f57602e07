// Messages that grow, over requests and sockets, on two nodes.
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { requireRoomToGrow } from "../../../src/app/growing-messages.ts";
import { afterCodePoints } from "../../../src/contract/fields.ts";
import type { ClientId } from "../../../src/contract/ids.ts";
import { endSilent } from "../../../src/workers/growing-messages.ts";
import { type Api, type Body, tokenOf } from "../../e2e/support/api.ts";
import { seed } from "../../support/seed.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { startTwoServers, type TwoServers } from "../../support/two-servers.ts";

let servers: TwoServers;
/** The client's key on each node, Max on each, and Una. */
let apis: readonly [Api, Api];
let maxes: readonly [Api, Api];
let una: Api;
let clientId: ClientId;
let room: Body;
let path: string;

beforeAll(async () => {
  servers = await startTwoServers({ RATE_LIMIT_USER: "100000/10s" });
  apis = await servers.newClient();
  clientId = (await apis[0].get("/clients/me")).body.id;
  const token = await tokenOf(apis[0], "max");
  maxes = [apis[0].as(token), apis[1].as(token)];
  una = apis[0].as(await tokenOf(apis[0], "una"));
});
afterAll(() => servers[Symbol.asyncDispose]());
beforeEach(async () => {
  const members = [{ user_id: "max" }, { user_id: "una" }, { user_id: "olga", role: "owner" }];
  room = (await apis[0].post("/rooms", { name: "Talk", members })).body;
  path = `/rooms/${room.id}/messages`;
});

const begin = async (content = "", more: Body = {}): Promise<Body> =>
  (await maxes[0].post(path, { content, state: "growing", ...more })).body;
const append = (id: string, text: string, offset: number, by: Api = maxes[0]) =>
  by.post(`${path}/${id}/append`, { text, offset });
const end = (id: string, how: "complete" | "cancel", body: Body = {}, by: Api = maxes[0]) =>
  by.post(`${path}/${id}/${how}`, body);
const read = async (id: string, by: Api = maxes[0]): Promise<Body> => (await by.get(`${path}/${id}`)).body;
const codes = async (...asked: Promise<{ status: number; body: Body }>[]) =>
  (await Promise.all(asked)).map(({ status, body }) => `${status} ${body.code}`);

/** All whose writers have been silent for as long as a writer may be, end. */
async function silenceAll(forMs = 61_000): Promise<void> {
  const { storage, services } = servers.second;
  const { growing, commands, readSide, logger, newId } = services;
  await readSide.waitFor(await storage.store.tail(), 5_000);
  const now = () => Date.now() + forMs;
  await endSilent({ growing, commands, readSide, logger, newId, now }, new AbortController().signal);
}

describe("over requests", () => {
  test("grows by appends, is shown as it grows, and is completed with two events", async () => {
    const message = await begin();
    expect(message).toMatchObject({ content: "", state: "growing", seq: 2 });
    expect((await append(message.id, "Hello", 0)).body).toMatchObject({ content: "Hello", state: "growing" });
    expect((await append(message.id, " world 👋", 5)).body.content).toBe("Hello world 👋");
    const last = await append(message.id, "!", 13);
    expect(last.body.content).toBe("Hello world 👋!");
    // It writes nothing to the log: the place is the room's.
    const after = { "read-after": last.headers.get("position") ?? "" };
    expect((await apis[1].call("GET", path, undefined, after)).body.data[0].id).toBe(message.id);
    expect((await maxes[0].get(path)).body.data[0]).toMatchObject({ content: "Hello world 👋!", state: "growing" });
    const done = await end(message.id, "complete");
    expect([done.status, done.headers.get("etag")]).toEqual([200, '"3"']);
    expect(done.body).toEqual({ ...message, content: "Hello world 👋!", state: "complete" });
    expect((await maxes[0].get(path)).body.data[0]).toEqual(done.body);
    const { data } = (await apis[0].get(`/rooms/${room.id}/events?after_seq=1`)).body;
    expect(data.map(({ type }: Body) => type)).toEqual(["message.posted", "message.completed"]);
    expect(data[0].data).toMatchObject({ content: "", state: "growing" });
    expect(data[1].data).toEqual(done.body);
    const history = (await maxes[0].get(`${path}/${message.id}/history`)).body.data;
    expect(history.map(({ event, content }: Body) => [event, content])).toEqual([
      ["message.posted", ""],
      ["message.completed", "Hello world 👋!"],
    ]);
    expect((await maxes[0].patch(`${path}/${message.id}`, { content: "Edited" })).body).toMatchObject({
      content: "Edited",
      state: "complete",
    });
  });

  test("is the last message of its room with its text so far, in lists and for who follows", async () => {
    const { id } = await begin("Hello");
    await append(id, " world", 5);
    const url = servers.second.url.replace("http", "ws");
    const ofRooms = (rooms: Body[]) => rooms.find((one) => one.room.id === room.id)?.last_message;
    using follower = await SocketClient.connect(url, await tokenOf(apis[0], "una"));
    using newcomer = await SocketClient.connect(url, await tokenOf(apis[0], "nina"));
    const inbox = await follower.ask({ type: "follow" });
    await newcomer.ask({ type: "follow" });
    await apis[1].put(`/rooms/${room.id}/members/nina`, {});
    const { room: item } = await newcomer.next("room");
    const list = (await apis[1].get("/users/una/rooms")).body.data;
    for (const last of [ofRooms(inbox.rooms as Body[]), ofRooms([item]), ofRooms(list)])
      expect(last).toMatchObject({ id, content: "Hello world", state: "growing" });
    await end(id, "cancel");
    expect(ofRooms((await apis[0].get("/users/una/rooms")).body.data)).toMatchObject({ state: "cancelled" });
  });

  test("an append sent again adds nothing; other text at its offset, or a gap, says what is expected", async () => {
    const { id } = await begin("Hi");
    await append(id, " there", 2);
    expect((await append(id, " there", 2)).body.content).toBe("Hi there");
    expect((await append(id, "there, Max", 3)).body.content).toBe("Hi there, Max");
    for (const [text, offset] of [
      ["x", 2],
      ["Hello", 0],
      ["!", 14],
    ] as const) {
      const { status, body } = await append(id, text, offset);
      expect([status, body.code, body.expected]).toEqual([409, "offset_mismatch", 13]);
    }
  });

  test("is completed anew, given up, and ended once", async () => {
    const [one, other] = [await begin("a"), await begin("b")];
    expect((await end(one.id, "complete", { content: "Whole" })).body).toMatchObject({ content: "Whole" });
    expect((await end(one.id, "complete", { content: "Whole" })).status).toBe(200);
    expect((await end(other.id, "cancel")).body).toMatchObject({ content: "b", state: "cancelled" });
    expect((await end(other.id, "cancel")).status).toBe(200);
    const late = [end(one.id, "cancel"), end(other.id, "complete"), append(one.id, "x", 5), append(other.id, "x", 1)];
    expect(await codes(...late)).toEqual(Array(4).fill("409 not_growing"));
    expect(await codes(append("msg_unknown", "x", 0), end("msg_unknown", "cancel"))).toEqual(
      Array(2).fill("404 not_found"),
    );
  });

  test("is its sender's or a client key's to write, and nobody's to edit", async () => {
    const { id } = await begin("a");
    expect((await append(id, "b", 1, apis[0])).status).toBe(200);
    const closing = vi.spyOn(servers.first.services.growing, "close");
    const others = [append(id, "c", 2, una), end(id, "complete", {}, una), end(id, "cancel", {}, una)];
    expect(await codes(...others)).toEqual(Array(3).fill("403 sender_mismatch"));
    expect(closing).not.toHaveBeenCalled();
    closing.mockRestore();
    const changes = [maxes[0].patch(`${path}/${id}`, { content: "c" }), maxes[0].post(`${path}/${id}/restore`)];
    expect(await codes(...changes)).toEqual(Array(2).fill("409 message_growing"));
    // Whoever may not end it has not stopped its writer.
    expect((await append(id, "c", 2)).body.content).toBe("abc");
  });

  test("what it may not be is told by field", async () => {
    const { id } = await begin("a");
    const faults = async (body: Body, to: string) =>
      (await maxes[0].post(`${path}/${id}/${to}`, body)).body.errors.map((one: Body) => `${one.path} ${one.code}`);
    expect(await faults({}, "append")).toEqual(["text required", "offset required"]);
    expect(await faults({ text: "", offset: -1 }, "append")).toEqual(["text too_short", "offset too_small"]);
    expect(await faults({ text: "x".repeat(10_001), offset: 1 }, "append")).toEqual(["text too_long"]);
    expect(await faults({ text: "\ud800", offset: 1 }, "append")).toEqual(["text invalid_format"]);
    expect(await faults({ content: "x".repeat(100_001) }, "complete")).toEqual(["content too_long"]);
    const empty = await begin();
    expect((await end(empty.id, "complete")).body.errors[0]).toMatchObject({ path: "content", code: "too_short" });
    expect((await append(empty.id, "after all", 0)).status).toBe(200);
  });

  test("reaches 100,000 code points, and no more", async () => {
    const { id } = await begin();
    const piece = "👋".repeat(10_000);
    for (let offset = 0; offset < 100_000; offset += 10_000)
      expect((await append(id, piece, offset, maxes[(offset / 10_000) % 2])).status).toBe(200);
    expect((await append(id, "x", 100_000)).body.errors).toMatchObject([{ path: "text", code: "too_long" }]);
    const { body } = await end(id, "complete");
    expect(body.content).toBe(piece.repeat(10));
    expect((await maxes[1].get(`${path}/${id}`)).body.content).toBe(body.content);
  });
});

describe("meanwhile", () => {
  test("its deletion ends it, and restoring brings back what there was", async () => {
    const { id } = await begin("a");
    await append(id, "b", 1);
    expect((await maxes[0].delete(`${path}/${id}`)).status).toBe(204);
    expect(await read(id)).toMatchObject({ content: null, state: "cancelled" });
    expect(await codes(append(id, "c", 2))).toEqual(["409 not_growing"]);
    expect((await maxes[0].post(`${path}/${id}/restore`)).body).toMatchObject({ content: "ab", state: "cancelled" });
  });

  test("a sender that is removed writes no further, and what there was is kept after a minute", async () => {
    const { id } = await begin("a");
    await append(id, "b", 1);
    await apis[0].delete(`/rooms/${room.id}/members/max`);
    expect(await codes(append(id, "c", 2), append(id, "c", 2, apis[0]))).toEqual(["404 not_found", "403 not_a_member"]);
    await silenceAll(30_000);
    expect(await read(id, apis[0])).toMatchObject({ content: "ab", state: "growing" });
    await silenceAll();
    expect(await read(id, apis[0])).toMatchObject({ content: "ab", state: "cancelled" });
  });

  test("nothing is appended between its text's being read and its end", async () => {
    const { id } = await begin("a");
    await append(id, "b", 1, maxes[1]);
    const { growing } = servers.first.services;
    await growing.close({ room: room.id, message: id as never });
    expect(await codes(append(id, "c", 2), append(id, "c", 2, maxes[1]))).toEqual(Array(2).fill("409 not_growing"));
    await growing.reopen(id as never);
    expect((await append(id, "c", 2, maxes[1])).body.content).toBe("abc");
  });

  test("two that append at once to one place come one after the other, or are told", async () => {
    const { id } = await begin();
    const both = await Promise.all([append(id, "left", 0), append(id, "right", 0, maxes[1])]);
    expect(both.map(({ status }) => status).toSorted()).toEqual([200, 409]);
    const { content } = await read(id);
    expect(["left", "right"]).toContain(content);
    // A node that has seen the end before another wrote there.
    await append(id, "1", content.length, maxes[1]);
    await append(id, "2", content.length + 1, maxes[0]);
    expect(await codes(append(id, "3", content.length + 1, maxes[1]))).toEqual(["409 offset_mismatch"]);
    expect((await read(id)).content).toBe(`${content}12`);
  });

  test("of a user or client that has as many as it may, no other begins", async () => {
    const counted = (ofClient: number, ofSender: number) => {
      const growing = { count: async () => ({ ofClient, ofSender }) };
      const keyring = { subjectOfUser: async () => "sub_a" };
      return requireRoomToGrow({ services: { keyring, growing }, caller: { client: "cli_a" } } as never, "max");
    };
    await expect(counted(10_000, 1)).rejects.toMatchObject({ code: "too_many_growing" });
    await expect(counted(1_000, 1_000)).rejects.toMatchObject({ code: "too_many_growing" });
    await counted(9_999, 999);
  });

  test("the end of its room leaves nothing of it", async () => {
    const { id } = await begin("a");
    await apis[0].delete(`/rooms/${room.id}`);
    expect(await codes(append(id, "b", 1))).toEqual(["404 not_found"]);
    await silenceAll();
    expect(await servers.first.services.growing.read({ message: id as never, room: room.id })).toBeUndefined();
  });

  test("unread counts it by the seq of its end", async () => {
    const { positions, store } = servers.first.services;
    const now = async () => ({ "read-after": positions.ofRequest(clientId, await store.tail()) });
    const unread = async (): Promise<number> =>
      (await una.get("/users/una/rooms", await now())).body.data.find((one: Body) => one.room.id === room.id)
        .unread_count;
    const { id } = await begin("a", { mentions: ["una"] });
    await apis[0].post(path, { sender_id: "olga", content: "Meanwhile" });
    expect(await unread()).toBe(1);
    await una.put(`/rooms/${room.id}/reads/una`, { seq: 3 });
    expect(await unread()).toBe(0);
    await end(id, "complete");
    const { body } = await una.get(`/rooms/${room.id}/reads`, await now());
    expect(body.data.find((one: Body) => one.user_id === "una")).toMatchObject({ unread_count: 1, mention_count: 1 });
    expect(body.data.find((one: Body) => one.user_id === "max")).toMatchObject({ unread_count: 0 });
    await maxes[0].delete(`${path}/${id}`);
    expect(await unread()).toBe(0);
    await maxes[0].post(`${path}/${id}/restore`);
    expect(await unread()).toBe(1);
    await una.put(`/rooms/${room.id}/reads/una`, { seq: 4 });
    expect(await unread()).toBe(0);
  });

  test("no word of it lies in the tables in the clear", async () => {
    const { id } = await begin("Aardvark");
    await append(id, " Bandicoot", 8);
    const { rows } = await servers.first.storage.pool.query(
      `select message_row::text as row from jobs.growing_messages message_row where message = $1
       union all select piece::text from jobs.growing_pieces piece where message = $1`,
      [id],
    );
    expect(rows).toHaveLength(2);
    for (const { row } of rows) expect(row).not.toMatch(/Aardvark|Bandicoot/);
  });

  test("a text that the schema jobs has lost ends with what the log has", async () => {
    const { id } = await begin("Begun");
    await append(id, " well", 5);
    await servers.first.services.growing.forget(id as never);
    expect((await read(id)).content).toBe("Begun");
    await silenceAll();
    expect(await read(id)).toMatchObject({ content: "Begun", state: "cancelled" });
  });
});

describe("on sockets", () => {
  const open = (node: 0 | 1, api: Api = maxes[node]) =>
    SocketClient.connect(servers[node === 0 ? "first" : "second"].url.replace("http", "ws"), api.key ?? "");
  /** The text as a client puts it together. */
  const textOf = (socket: SocketClient, id: string): string =>
    socket.frames.reduce((text, frame) => {
      if (frame.type !== "growing" || frame.id !== id) return text;
      const offset = Number(frame.offset);
      return text.slice(0, text.length - afterCodePoints(text, offset).length) + String(frame.text);
    }, "");

  test("frames append, complete and cancel; all nodes see the text as it comes, late ones from its beginning", async () => {
    using writer = await open(0);
    using near = await open(0);
    using far = await open(1);
    for (const socket of [near, far]) await socket.ask({ type: "subscribe", room_id: room.id });
    const ask = (type: string, fields: object) => writer.ask({ type, room_id: room.id, ...fields });
    const { message_id, seq } = await ask("post", { content: "", state: "growing" });
    const about = { message_id };
    expect(await ask("append", { ...about, text: "One ", offset: 0 })).toEqual({
      type: "ok",
      room_id: room.id,
      seq,
      message_id,
      position: expect.any(String),
    });
    await ask("append", { ...about, text: "two ", offset: 4 });
    const sees = (socket: SocketClient, text: string) =>
      socket.until(() => textOf(socket, String(message_id)) === text);
    await Promise.all([sees(near, "One two "), sees(far, "One two ")]);
    using late = await open(1);
    await late.ask({ type: "subscribe", room_id: room.id, after_seq: 0 });
    await sees(late, "One two ");
    expect(late.of("growing")[0]).toEqual({
      type: "growing",
      room_id: room.id,
      id: message_id,
      seq,
      text: "One two ",
      offset: 0,
    });
    expect(await ask("append", { ...about, text: "x", offset: 9 })).toMatchObject({
      code: "offset_mismatch",
      expected: 8,
    });
    await append(String(message_id), "three", 8, maxes[1]);
    await Promise.all([near, far, late].map((socket) => sees(socket, "One two three")));
    expect(await ask("complete", about)).toMatchObject({ type: "ok", seq, message_id });
    for (const socket of [near, far, late]) {
      const done = await socket.next("event", { event: "message.completed" });
      expect(done.data).toMatchObject({ content: "One two three", state: "complete" });
      expect(socket.frames.findLastIndex(({ type }) => type === "growing")).toBeLessThan(socket.frames.indexOf(done));
    }
  });
});

test("appends cut and resumed at any point, on either node, come to the same text", { timeout: 60_000 }, async () => {
  const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 60 });
  const steps = fc.array(fc.record({ node: fc.constantFrom(0, 1), size: fc.nat(12), back: fc.nat(6) }), {
    maxLength: 12,
  });
  await fc.assert(
    fc.asyncProperty(text, steps, async (whole, cuts) => {
      const all = [...whole.replaceAll("\0", "0")];
      const { id } = await begin();
      let sent = 0;
      for (const { node, size, back } of [...cuts, { node: 0, size: all.length, back: 0 }]) {
        // What was sent before is sent again from somewhere before its end.
        const offset = Math.max(0, sent - back);
        const part = all.slice(offset, sent + size).join("");
        if (part === "") continue;
        expect((await append(id, part, offset, maxes[node])).status).toBe(200);
        sent = Math.min(all.length, sent + size);
      }
      expect((await end(id, "complete")).body.content).toBe(all.join(""));
    }),
    { numRuns: 12, seed },
  );
});
