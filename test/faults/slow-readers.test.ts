// Readers that stop reading, of a server in a process of its own: each is let go, memory stays, and each resumes whole.
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { WebSocket } from "ws";
import { type Api, newClient, tokenOf } from "../e2e/support/api.ts";
import { folderWithCluster, startServer } from "../e2e/support/server.ts";
import { connect, subscribe } from "../e2e/support/socket.ts";
import { isLong } from "../support/size.ts";

/** One less than a person may have sockets. */
const READERS = 19;
const AT_ONCE = 16;
const CONTENT = "é".repeat(10_000);
/** How long each reads nothing: what is posted meanwhile is more than the buffers on the way hold. */
const LOOK_MS = 8_000;
const POSTS = 12_000;
/** Of what all readers together did not read: what grew with it would be beyond this by far. */
const MOST_BYTES = 300 * 1024 * 1024;

/** Subscribes, and reads nothing more until its connection is closed; then again. Ends when told. */
async function stalling(url: string, token: string, room: string, over: AbortSignal) {
  const codes: number[] = [];
  while (!over.aborted) {
    const socket = new WebSocket(`${url.replace("http", "ws")}/ws`, { headers: { authorization: `Bearer ${token}` } });
    socket.on("error", () => undefined);
    const closed = new Promise<number>((resolve) => socket.on("close", resolve));
    socket.on("message", (bytes) => {
      const { type } = JSON.parse(String(bytes));
      if (type === "welcome") socket.send(JSON.stringify({ type: "subscribe", room_id: room }));
      if (type === "subscribed") socket.pause();
    });
    const stop = () => socket.terminate();
    over.addEventListener("abort", stop, { once: true });
    // What was sent before it was let go comes first, the reason last: it is looked at now and then.
    const looking = setInterval(() => {
      if (socket.isPaused) socket.resume();
      else if (socket.readyState === WebSocket.OPEN) socket.pause();
    }, LOOK_MS);
    const code = await closed;
    clearInterval(looking);
    over.removeEventListener("abort", stop);
    if (!over.aborted) codes.push(code);
  }
  return codes;
}

const memoryOf = async (pid: number | undefined): Promise<number> =>
  1_024 * Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]);

async function post(api: Api, room: string, count: number): Promise<void> {
  let left = count;
  const lane = async () => {
    while (left > 0) {
      left -= 1;
      const { status } = await api.post(`/rooms/${room}/messages`, { sender_id: "writer", content: CONTENT });
      expect(status).toBe(201);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

if (!isLong) console.log("slow readers: in the long form");

test.runIf(isLong && process.platform === "linux")(
  "who stops reading is let go, costs no memory that grows, and resumes without loss",
  { timeout: 1_800_000 },
  async () => {
    await using folder = await folderWithCluster();
    await using server = await startServer({ dataDir: folder.path });
    const api = await newClient(server.url);
    const members = ["writer", "reader"].map((user_id) => ({ user_id }));
    const room: string = (await api.post("/rooms", { name: "Flood", members })).body.id;
    const token = await tokenOf(api, "reader");
    await post(api, room, AT_ONCE * 4);
    const before = await memoryOf(server.process.pid);
    const over = new AbortController();
    const readers = Array.from({ length: READERS }, () => stalling(server.url, token, room, over.signal));
    let most = 0;
    for (let posted = 0; posted < POSTS; posted += POSTS / 20) {
      await post(api, room, POSTS / 20);
      most = Math.max(most, (await memoryOf(server.process.pid)) - before);
    }
    over.abort();
    const codes = (await Promise.all(readers)).flat();
    const mib = (bytes: number) => Math.round(bytes / 1_048_576);
    const unread = mib(POSTS * Buffer.byteLength(CONTENT) * READERS);
    console.log(`${codes.length} times let go of ${unread} MiB to be read, ${mib(most)} MiB more than before at most`);
    expect(codes.length).toBeGreaterThan(0);
    // Cut off, or told why when it read on in time.
    expect(codes.every((code) => code === 4008 || code === 1006)).toBe(true);
    expect(most).toBeLessThan(MOST_BYTES);

    await using again = await connect(server.url, token);
    const { seq } = (await api.get(`/rooms/${room}`)).body;
    await subscribe(again, room, seq - 500);
    await again.next((frame) => frame.type === "event" && frame.seq === seq, 60_000);
    const seqs = again.frames.filter((frame) => frame.type === "event").map((frame) => frame.seq);
    expect(seqs).toEqual(Array.from({ length: 500 }, (_, n) => seq - 499 + n));
  },
);
