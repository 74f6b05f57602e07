// Connections that take their time in every way that there is: each is ended in its own, and they stop nobody else.
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { HTTP_TIMINGS, type HttpTimings } from "../../src/api/http/hardening.ts";
import { TIMINGS, type Timings } from "../../src/api/realtime/connection.ts";
import { type Api, apiOf, newClient, tokenOf } from "../e2e/support/api.ts";
import { seqs } from "../e2e/support/cluster.ts";
import { connect as connectSocket, subscribe } from "../e2e/support/socket.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { isLong, sized, sizedTimeout } from "../support/size.ts";

/** Of each kind. */
const EACH = sized(8, 64);
const DROP_EVERY_MS = sized(100, 1_000);
const MIB = 1024 * 1024;
/** The long form keeps to the times that servers have. */
const SHORT: HttpTimings = {
  headersMs: 1_500,
  requestMs: 2_500,
  bodyMs: 1_000,
  answerMs: 2_500,
  keepAliveMs: 2_500,
  checkMs: 200,
};
const http = isLong ? HTTP_TIMINGS : SHORT;
const SHORT_OF_SOCKETS = { authenticationMs: 1_000, heartbeatMs: 1_000, silenceMs: 5_000, closeMs: 500 };
const sockets: Timings = isLong ? TIMINGS : SHORT_OF_SOCKETS;
/** Answers that were asked for and not read: more than systems keep for a reader. */
const UNREAD = 24;

let server: TestServer;
let api: Api;
let room: string;
beforeAll(async () => {
  server = await startTestServer({ bounds: { http, sockets } });
  api = await newClient(server.url);
  const members = [{ user_id: "ann" }, { user_id: "bob" }];
  room = (await api.post("/rooms", { name: "Room", members })).body.id;
  const long = { sender_id: "ann", content: "é".repeat(10_000) };
  await Promise.all(Array.from({ length: 100 }, () => api.post(`/rooms/${room}/messages`, long)));
});
afterAll(() => server[Symbol.asyncDispose]());

const list = () => `/api/v1/rooms/${room}/messages?limit=100`;
const head = (first: string) => `${first} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.key}\r\n`;
const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const json = "Content-Type: application/json\r\n";

type Slow = {
  readonly what: string;
  /** Said at once, and then again and again. */
  readonly says: () => string;
  readonly drops?: string;
  /** Left out: it reads what it is sent. */
  readonly unread?: true;
  /** The server's patience; it looks every `checkMs`. */
  readonly patienceMs: number;
};

const SLOW: readonly Slow[] = [
  { what: "says nothing", says: () => "", patienceMs: http.headersMs },
  { what: "sends headers in drops", says: () => head("GET /livez"), drops: "A: b\r\n", patienceMs: http.headersMs },
  { what: "asks for a socket in drops", says: () => head("GET /ws"), drops: "A: b\r\n", patienceMs: http.headersMs },
  {
    what: "sends a body in drops",
    says: () => `${head("POST /api/v1/rooms")}${json}Content-Length: ${MIB}\r\n\r\n`,
    ...{ drops: " ", patienceMs: http.bodyMs },
  },
  {
    what: "sends a body in chunks without end",
    says: () => `${head("POST /api/v1/rooms")}${json}Transfer-Encoding: chunked\r\n\r\n`,
    ...{ drops: "1\r\n \r\n", patienceMs: http.bodyMs },
  },
  {
    what: "keeps a connection for nothing",
    ...{ says: () => `${head("GET /livez")}\r\n`, patienceMs: http.keepAliveMs },
  },
  {
    what: "does not read its answers",
    says: () => `${head(`GET ${list()}`)}\r\n`.repeat(UNREAD),
    ...{ unread: true, patienceMs: http.answerMs },
  },
  {
    what: "opens a socket and does not say who it is",
    says: () => `GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n${UPGRADE}\r\n`,
    patienceMs: sockets.authenticationMs,
  },
  {
    what: "opens a socket and is not heard of again",
    says: () => `${head("GET /ws")}${UPGRADE}\r\n`,
    ...{ unread: true, patienceMs: sockets.silenceMs },
  },
];

type Ended = { readonly what: string; readonly early: boolean; readonly bytes: number };

/** One slow connection, to its end; one that does not read finds out when it does so at last. */
async function slow({ what, says, drops, unread, patienceMs }: Slow): Promise<Ended> {
  const socket: Socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  const begun = performance.now();
  let bytes = 0;
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => undefined);
  socket.on("data", (data) => (bytes += data.byteLength));
  socket.write(says());
  const dropping = setInterval(() => {
    if (drops !== undefined && socket.writable) socket.write(drops);
  }, DROP_EVERY_MS);
  if (unread) {
    socket.pause();
    // A busy server takes its time before there is anything to read.
    await answersMade();
    await sleep(patienceMs + http.checkMs + sockets.closeMs + sockets.heartbeatMs);
    socket.resume();
  }
  await closed;
  clearInterval(dropping);
  return { what, early: performance.now() - begun < patienceMs - 50, bytes };
}

test(
  `${EACH} of each kind: the others are answered, and hear of what is posted`,
  async () => {
    const ends = Promise.all(SLOW.flatMap((one) => Array.from({ length: EACH }, () => slow(one))));
    let over = false;
    void ends.finally(() => (over = true));
    const bob = await tokenOf(api, "bob");
    await using listening = await connectSocket(server.url, bob);
    const { seq } = await subscribe(listening, room);
    const other = apiOf(server.url, api.key);
    const times: number[] = [];
    const wrong: unknown[] = [];
    const timed = async (call: Promise<{ status: number; body: unknown }>, status: number) => {
      const asked = performance.now();
      const answer = await call;
      times.push(performance.now() - asked);
      if (answer.status !== status) wrong.push(answer);
    };
    let posted = 0;
    while (!over) {
      posted += 1;
      await timed(other.post(`/rooms/${room}/messages`, { sender_id: "ann", content: "hello" }), 201);
      await timed(other.get("/rooms"), 200);
      await using _fresh = await connectSocket(server.url, bob);
      await sleep(20);
    }
    const all = await ends;
    expect(wrong).toEqual([]);
    await listening.next((frame) => frame.seq === seq + posted);
    expect(seqs(listening.frames, room)).toEqual(Array.from({ length: posted }, (_, n) => seq + 1 + n));
    expect(all.filter(({ early }) => early)).toEqual([]);
    times.sort((a, b) => a - b);
    const at = (share: number) => Math.round(times[Math.floor(times.length * share)] ?? Number.NaN);
    console.log(`${times.length} calls beside ${all.length} slow ones: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`);
    // What was asked for and not read was not made: answers do not wait for who does not take them.
    const made = await answered();
    expect(made).toBeLessThan((EACH * UNREAD) / 2);
    expect(made).toBeGreaterThanOrEqual(EACH);
  },
  sizedTimeout(60_000, 600_000),
);

/** How many lists of messages were answered. */
async function answered(): Promise<number> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/messages",status="200"} (\d+)/.exec(metrics)?.[1] ?? 0);
}

/** Waits until each of those that do not read has an answer, and no more are made. */
async function answersMade(): Promise<void> {
  for (let before = -1, now = 0; now < EACH || now > before; ) {
    await sleep(1_000);
    [before, now] = [now, await answered()];
  }
}
