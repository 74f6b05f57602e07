// What clients send wrong: some of it is answered, some of it ends the connection.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseFrame } from "../../../src/contract/frames.ts";
import { issueToken, type LiveServer, newClient, startLiveServer, type TestClient } from "../../support/live-server.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: LiveServer;
let client: TestClient;
beforeAll(async () => {
  server = await startLiveServer();
  client = await newClient(server);
});
afterAll(() => server[Symbol.asyncDispose]());
const connect = async () => SocketClient.connect(server.url, (await issueToken(server, client.id, "ann")).token);

test("what cannot be carried out is answered with its ref, and the connection stays", async () => {
  using socket = await connect();
  expect(await socket.ask({ type: "dance" })).toMatchObject({ type: "error", code: "unknown_type" });
  expect(await socket.ask({ type: "constructor" })).toMatchObject({ code: "unknown_type" });
  expect(await socket.ask({ type: "subscribe" })).toMatchObject({
    code: "validation_failed",
    message: "room_id: is required",
  });
  expect(await socket.ask({ type: "subscribe", room_id: "room_1", after_seq: -1 })).toMatchObject({
    code: "validation_failed",
  });
  expect(await socket.ask({ type: "subscribe", room_id: "room_1", afterseq: 1 })).toMatchObject({
    code: "validation_failed",
    message: expect.stringContaining("after_seq"),
  });
  expect(await socket.ask({ type: "subscribe", room_id: "r\0" })).toMatchObject({ code: "not_found" });
  expect(await socket.ask({ type: "ack", delivery_id: "dlv_unknown" })).toMatchObject({ code: "not_found" });
  expect(await socket.ask({ type: "ack", delivery_id: "\ud800" })).toMatchObject({ code: "not_found" });
  expect(await socket.ask({ type: "ping" })).toEqual({ type: "pong" });
  socket.send({ type: "ping", ref: {} });
  expect(await socket.next("error", { code: "validation_failed" }, socket.frames.length)).not.toHaveProperty("ref");
});

describe("what ends the connection", () => {
  test.each([
    ["not JSON", "{", 4504],
    ["an array", "[]", 4504],
    ["null", "null", 4504],
    ["a string", '"ping"', 4504],
    ["no type", "{}", 4504],
    ["a type that is none", '{"type":1}', 4504],
    ["more than 256 KiB", JSON.stringify({ type: "ping", ref: "x".repeat(256 * 1024) }), 1009],
    ["a lot more", JSON.stringify({ type: "ping", ref: "x".repeat(8 * 1024 * 1024) }), 1009],
  ])("%s", async (_what, text, code) => {
    using socket = await connect();
    socket.send(text);
    expect(await socket.closed()).toBe(code);
  });

  test("binary frames", async () => {
    using socket = await connect();
    socket.socket.send(Buffer.from('{"type":"ping"}'));
    expect(await socket.closed()).toBe(4504);
  });

  test("more than 100 frames in a second", async () => {
    using socket = await connect();
    for (let n = 0; n < 100; n += 1) socket.send({ type: "ping" });
    await socket.until(() => socket.of("pong").length === 100);
    using flood = await connect();
    for (let n = 0; n < 300; n += 1) flood.send({ type: "ping" });
    expect(await flood.closed()).toBe(4029);
  });

  test("more than 100 pings in a second", async () => {
    using flood = await connect();
    for (let n = 0; n < 150; n += 1) flood.socket.ping("x".repeat(125));
    expect(await flood.closed()).toBe(4029);
  });

  test("a message in far too many pieces", async () => {
    using flood = await connect();
    for (let n = 0; n < 17_000; n += 1) flood.socket.send(" ", { fin: false });
    expect(await flood.closed()).toBe(1008);
  });
});

test("256 KiB exactly are taken", async () => {
  using socket = await connect();
  const empty = JSON.stringify({ type: "dance", more: "" }).length;
  socket.send({ type: "dance", more: "x".repeat(256 * 1024 - empty) });
  expect(await socket.next("error")).toMatchObject({ code: "unknown_type" });
});

test("answers come in the order of what they answer", async () => {
  using socket = await connect();
  for (let n = 0; n < 50; n += 1) {
    socket.send(n % 2 === 0 ? { type: "ping", ref: n } : { type: "subscribe", room_id: "room_unknown", ref: n });
  }
  await socket.until(() => socket.frames.length === 51);
  expect(socket.frames.slice(1).map((frame) => frame.ref)).toEqual(Array.from({ length: 50 }, (_, index) => index));
});

test("a type is looked up among ours alone", () => {
  for (const type of ["__proto__", "toString", "hasOwnProperty"]) {
    expect(parseFrame(JSON.stringify({ type }))).toMatchObject({ kind: "wrong", fault: { code: "unknown_type" } });
  }
});
