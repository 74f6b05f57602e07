// The load: keep-alive connections that each send the next request when the answer to the last has come. No HTTP
// library, because on two cores what the load costs is taken from what is measured.
import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { serveCalls } from "../support/process.ts";

export type Target = { readonly path: string; readonly body: string };
export type Load = {
  readonly url: string;
  readonly key: string;
  readonly connections: number;
  readonly ms: number;
  /** Connection n takes the n-th, then the one that is as many further on as there are connections, around. */
  readonly targets: readonly Target[];
};
export type Loaded = {
  readonly perSecond: number;
  /** From the request's last byte out to the answer's last byte in, in milliseconds. */
  readonly latencies: Float64Array;
  /** From an answer to the frame of what was written, for those that a listening socket saw; 0 when the frame came first. */
  readonly visible: Float64Array;
};
export type Listening = { readonly url: string; readonly token: string; readonly rooms: readonly string[] };

/** How long frames may take that did not come before the last answer. */
const FRAMES_WAIT_MS = 10_000;
const FRAME_POLL_MS = 10;

const listening: WebSocket[] = [];
/** What was answered or seen of a message first, by room and seq, until the other has come. */
const answered = new Map<string, number>();
const seen = new Map<string, number>();
let visible: number[] = [];
/** The rooms that are listened to. */
const watched = new Set<string>();

serveCalls({
  run: (load: Load): Promise<Loaded> => run(load),
  /** The same posts as frames, each connection with the user of its target. */
  runSockets: (load: Load): Promise<Loaded> => runSockets(load),
  /** Opens a socket that listens to rooms. */
  async listen({ url, token, rooms }: Listening): Promise<void> {
    const socket = new WebSocket(`${url.replace("http", "ws")}/ws?token=${token}`);
    listening.push(socket);
    let subscribed = 0;
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.on("message", (data: Buffer) => {
        const text = data.toString("latin1", 0, 256);
        if (text.startsWith('{"type":"event"')) return saw(text);
        const frame: { type: string } = JSON.parse(data.toString());
        if (frame.type === "welcome") {
          for (const room of rooms) socket.send(JSON.stringify({ type: "subscribe", room_id: room }));
        }
        if (frame.type === "error") reject(new Error(data.toString()));
        if (frame.type === "subscribed") subscribed += 1;
        if (subscribed === rooms.length) resolve();
      });
    });
    for (const room of rooms) watched.add(room);
  },
  silence(): void {
    for (const socket of listening.splice(0)) socket.terminate();
    watched.clear();
  },
});

const ROOM_AND_SEQ = /"room_id":"([^"]+)","seq":(\d+)/;

function saw(text: string): void {
  const match = ROOM_AND_SEQ.exec(text);
  if (match === null) return;
  const name = `${match[1]} ${match[2]}`;
  const now = performance.now();
  const before = answered.get(name);
  if (before === undefined) seen.set(name, seen.get(name) ?? now);
  else {
    answered.delete(name);
    visible.push(now - before);
  }
}

function wasAnswered(text: string, now: number): void {
  const match = ROOM_AND_SEQ.exec(text);
  if (match === null || !watched.has(match[1] ?? "")) return;
  const name = `${match[1]} ${match[2]}`;
  if (seen.delete(name)) visible.push(0);
  else answered.set(name, now);
}

async function run({ url, key, connections, ms, targets }: Load): Promise<Loaded> {
  const { hostname, port, host } = new URL(url);
  const requests = targets.map(({ path, body }) =>
    Buffer.from(
      `POST /api/v1${path} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${key}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    ),
  );
  const latencies: number[] = [];
  visible = [];
  answered.clear();
  seen.clear();
  const sockets = await Promise.all(Array.from({ length: connections }, () => open(hostname, Number(port))));
  const start = performance.now();
  const until = start + ms;
  await Promise.all(sockets.map((socket, lane) => drive(socket, lane)));
  const took = performance.now() - start;
  for (let waited = 0; answered.size > 0; waited += FRAME_POLL_MS) {
    if (waited > FRAMES_WAIT_MS) throw new Error(`${answered.size} messages were answered and never seen on a socket`);
    await sleep(FRAME_POLL_MS);
  }
  for (const socket of sockets) socket.destroy();
  const perSecond = (latencies.length * 1_000) / took;
  return { perSecond, latencies: Float64Array.from(latencies), visible: Float64Array.from(visible) };

  function drive(socket: Socket, lane: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let next = lane % requests.length;
      let sent = 0;
      let text = "";
      const send = () => {
        const request = requests[next];
        next = (next + connections) % requests.length;
        sent = performance.now();
        if (request !== undefined) socket.write(request);
      };
      socket.on("error", reject);
      socket.on("close", () => reject(new Error("the server closed a connection")));
      socket.on("data", (chunk) => {
        text += chunk.toString("latin1");
        const head = text.indexOf("\r\n\r\n");
        if (head < 0) return;
        const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? "0");
        if (text.length < head + 4 + length) return;
        if (!text.startsWith("HTTP/1.1 201")) return reject(new Error(text));
        const now = performance.now();
        latencies.push(now - sent);
        if (watched.size > 0) wasAnswered(text.slice(head + 4), now);
        text = "";
        if (now < until) send();
        else resolve();
      });
      send();
    });
  }
}

/** Stays open from run to run, as a user's does. */
type Lane = { readonly socket: WebSocket; readonly frame: string };

async function openLanes({ url, key, targets }: Load): Promise<readonly Lane[]> {
  const headers = { authorization: `Bearer ${key}` };
  return Promise.all(
    targets.map(async ({ path, body }) => {
      const { sender_id, content } = JSON.parse(body);
      const frame = JSON.stringify({ type: "post", room_id: path.split("/")[2], content });
      const socket = new WebSocket(`${url.replace("http", "ws")}/ws?user_id=${sender_id}`, { headers });
      await once(socket, "message"); // welcome
      return { socket, frame };
    }),
  );
}

let lanes: Promise<readonly Lane[]> | undefined;

async function runSockets(load: Load): Promise<Loaded> {
  const { targets, connections, ms } = load;
  if (targets.length !== connections) throw new Error("a socket is of one user: each connection needs its target");
  lanes ??= openLanes(load);
  const opened = await lanes;
  const latencies: number[] = [];
  const start = performance.now();
  const until = start + ms;
  const drive = ({ socket, frame }: Lane) =>
    new Promise<void>((resolve, reject) => {
      let sent = 0;
      const send = () => {
        sent = performance.now();
        socket.send(frame);
      };
      socket.removeAllListeners();
      socket.on("error", reject);
      socket.on("close", () => reject(new Error("the server closed a socket")));
      socket.on("message", (data: Buffer) => {
        const text = data.toString();
        if (!text.startsWith('{"type":"ok"')) return reject(new Error(text));
        const now = performance.now();
        latencies.push(now - sent);
        if (now < until) send();
        else resolve();
      });
      send();
    });
  await Promise.all(opened.map(drive));
  const perSecond = (latencies.length * 1_000) / (performance.now() - start);
  return { perSecond, latencies: Float64Array.from(latencies), visible: new Float64Array() };
}

function open(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host, port, noDelay: true }, () => {
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
  });
}
