// Slow readers, silence and floods: what waits is bounded, and who does not read or answer is let go.
import { EventEmitter } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { WebSocket } from "ws";
import { newTally } from "../../../src/api/realtime/outbox.ts";
import { Receiver } from "../../../src/api/realtime/receiver.ts";
import type { RoomId } from "../../../src/contract/ids.ts";
import { createRoom, post } from "../../support/live.ts";
import { issueToken, type LiveServer, newClient, startLiveServer, type TestClient } from "../../support/live-server.ts";
import { roomCommands } from "../../support/room-commands.ts";
import { SocketClient } from "../../support/socket-client.ts";

const MAX_QUEUE_BYTES = 1024 * 1024;

let server: LiveServer;
let client: TestClient;
beforeAll(async () => {
  server = await startLiveServer({ timings: { heartbeatMs: 200, silenceMs: 1_000_000, closeMs: 500 } });
  client = await newClient(server);
});
afterAll(() => server[Symbol.asyncDispose]());

const BIG = "x".repeat(10_000);

/** Posts big messages, in batches, until it holds or some 60 MB were posted. */
async function flood(
  room: RoomId,
  holds: () => boolean,
  keepUp: (seq: number) => Promise<unknown> = async () => undefined,
): Promise<number> {
  let seq = 1;
  for (let n = 0; n < 300 && !holds(); n += 1) {
    const posted = Array.from({ length: 20 }, () => post(server.services, client.id, room, "ann", BIG));
    seq = Math.max(...(await Promise.all(posted)).map((one) => one.seq));
    await keepUp(seq);
  }
  return seq;
}

test("who does not read live frames is closed with 4008; the others of the room lose nothing", async () => {
  const room: RoomId = "room_slowreader";
  await createRoom(server.services, client.id, room, { ann: "owner" });
  const { token } = await issueToken(server, client.id, "ann");
  using slow = await SocketClient.connect(server.url, token);
  using fast = await SocketClient.connect(server.url, token);
  for (const socket of [slow, fast]) await socket.ask({ type: "subscribe", room_id: room });
  const before = server.gateway.counts().sockets;
  slow.socket.pause();
  // It shares a thread with the server: a reader that is not waited for would be a slow one too.
  const keepUp = (seq: number) => fast.until(() => fast.seqs().includes(seq));
  const head = await flood(room, () => server.gateway.counts().sockets < before, keepUp);
  expect(server.gateway.counts().sockets).toBe(before - 1);
  await fast.until(() => fast.seqs().includes(head));
  expect(fast.seqs()).toHaveLength(head - 1);
  slow.socket.resume();
  // Cut off while it did not answer, or told why when it reads on in time.
  expect([1006, 4008]).toContain(await slow.closed());
});

test("who reads is not cut off for what comes at once: more than may wait on a socket, in one moment", async () => {
  const room: RoomId = "room_everything";
  await createRoom(server.services, client.id, room, { ann: "owner" });
  using reader = await SocketClient.connect(server.url, (await issueToken(server, client.id, "ann")).token);
  await reader.ask({ type: "subscribe", room_id: room });
  const count = (3 * MAX_QUEUE_BYTES) / BIG.length;
  const posts = Array.from({ length: count }, () => post(server.services, client.id, room, "ann", BIG));
  const head = Math.max(...(await Promise.all(posts)).map((one) => one.seq));
  await reader.until(() => reader.seqs().includes(head));
  expect(reader.seqs()).toEqual(Array.from({ length: posts.length }, (_, index) => index + 2));
});

test("who catches up slowly is waited for, and has everything in the end", async () => {
  const room: RoomId = "room_patient";
  await createRoom(server.services, client.id, room, { ann: "owner" });
  const posts = Array.from({ length: 1_500 }, () => post(server.services, client.id, room, "ann", BIG));
  await Promise.all(posts);
  using slow = await SocketClient.connect(server.url, (await issueToken(server, client.id, "ann")).token);
  slow.send({ type: "subscribe", room_id: room, after_seq: 0 });
  slow.socket.pause();
  const { sent } = server.gateway.counts();
  for (let n = 0; n < 20; n += 1) await post(server.services, client.id, room, "ann", "meanwhile");
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  // What is made for it waits in the process, or in the buffers of the connection's two ends.
  expect(server.gateway.counts().sent - sent).toBeLessThan(1_000);
  slow.socket.resume();
  await slow.until(() => slow.seqs().length >= 1_521);
  expect(slow.seqs()).toEqual(Array.from({ length: 1_521 }, (_, index) => index + 1));
});

test("who is removed while it catches up is told, and gets nothing more", async () => {
  const room: RoomId = "room_removed";
  await createRoom(server.services, client.id, room, { ann: "owner", bob: "member" });
  await Promise.all(Array.from({ length: 1_500 }, () => post(server.services, client.id, room, "ann", BIG)));
  using slow = await SocketClient.connect(server.url, (await issueToken(server, client.id, "bob")).token);
  slow.send({ type: "subscribe", room_id: room, after_seq: 0 });
  await slow.next("subscribed");
  slow.socket.pause();
  const removed = await roomCommands(server.services, client.id, room).remove("bob");
  await post(server.services, client.id, room, "ann", "not for bob");
  while (server.gateway.counts().rooms > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  slow.socket.resume();
  expect(await slow.next("unsubscribed")).toMatchObject({ room_id: room, reason: "removed" });
  expect(await slow.ask({ type: "ping" })).toEqual({ type: "pong" });
  const seqs = slow.seqs();
  expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, index) => index + 1));
  expect(seqs.length).toBeLessThan(removed);
  const said = slow.frames.filter((frame) => frame.type !== "heartbeat"); // on a machine that is busy
  expect(said.slice(-2).map((frame) => frame.type)).toEqual(["unsubscribed", "pong"]);
  expect(slow.of("caught_up")).toEqual([]);
});

test("silence is broken by heartbeats and pings; who answers stays, who does not is let go with 4003", async () => {
  await using quick = await startLiveServer({ timings: { heartbeatMs: 100, silenceMs: 600, closeMs: 300 } });
  const own = await newClient(quick);
  using answering = await SocketClient.connect(quick.url, own.key);
  using mute = new SocketClient(`${quick.url}/ws`, { authorization: `Bearer ${own.key}` });
  mute.socket.pong = () => undefined; // as a client that is gone without a word
  Object.assign(mute.socket, { _autoPong: false });
  await mute.next("welcome");
  const connected = performance.now();
  expect(await mute.closed()).toBe(4003);
  expect(performance.now() - connected).toBeGreaterThanOrEqual(500);
  await answering.until(() => answering.of("heartbeat").length >= 8);
  expect(await answering.ask({ type: "ping" })).toEqual({ type: "pong" });
});

test("large commands that wait stop the reading of their socket until there is room for more", async () => {
  let isPaused = false;
  class Sounding extends EventEmitter {
    get isPaused() {
      return isPaused;
    }
    pause() {
      isPaused = true;
    }
    resume() {
      isPaused = false;
    }
  }
  const socket = new Sounding() as unknown as WebSocket;
  const held = Promise.withResolvers<void>();
  let handled = 0;
  const handle = async () => {
    await held.promise;
    handled += 1;
  };
  const { signal } = new AbortController();
  new Receiver({ ...{ socket, signal, handle, tally: newTally() }, onFault: () => undefined, isOpen: () => true });
  const message = Buffer.from(
    JSON.stringify({ type: "post", room_id: "r", content: BIG, meta: { a: "x".repeat(8_000) } }),
  );
  let sent = 0;
  while (!isPaused && sent < 90) {
    socket.emit("message", message, false);
    sent += 1;
  }
  expect(sent * message.byteLength).toBeLessThan(600 * 1024);
  held.resolve();
  await expect.poll(() => handled).toBe(sent);
  expect(isPaused).toBe(false);
});
