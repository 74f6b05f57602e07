// Counts the files of src whose functions run for one POST of a message: from the request to the frame on a socket and the
// row in the read model. A server that has done the same before, so that loading and opening are not counted.
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { Session } from "node:inspector/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pino from "pino";
import { WebSocket } from "ws";
import { compose } from "../src/compose.ts";
import { type Config, readConfig } from "../src/config.ts";
import { openStorage } from "../src/storage.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SRC = new URL("../src/", import.meta.url).href;
const WARM_UP_POSTS = 20;

const dataDir = await mkdtemp(join(tmpdir(), "chatapi-trace-"));
// Nothing is delivered: workers would only look for jobs meanwhile.
const roles = new Set(["api", "projector"] as const);
const config: Config = {
  ...readConfig({ DATA_DIR: dataDir, PORT: "0", ENCRYPTION_KEYS: randomBytes(32).toString("base64") }),
  roles,
};
const logger = pino({ level: "error" });
const storage = await openStorage({ config, logger });
const node = await compose({ config, logger, storage });
await new Promise<void>((resolve) => void node.server.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${(node.server.address() as AddressInfo).port}`;

async function call<T>(path: string, body: unknown, key?: string): Promise<T> {
  const authorization = key === undefined ? {} : { authorization: `Bearer ${key}` };
  const headers = { "content-type": "application/json", ...authorization };
  const answer = await fetch(`${url}/api/v1${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

const { api_key: key } = await call<{ api_key: string }>("/clients", { name: "Trace" });
const members = [{ user_id: "alice" }, { user_id: "bob" }];
const room = await call<{ id: string }>("/rooms", { name: "Trace", members }, key);
const { token } = await call<{ token: string }>("/users/bob/tokens", {}, key);
const socket = new WebSocket(`${url.replace("http", "ws")}/ws?token=${token}`);
const seen = new Set<number>();
socket.on("message", (bytes) => {
  const frame = JSON.parse(String(bytes)) as { type: string; seq?: number };
  if (frame.type === "welcome") socket.send(JSON.stringify({ type: "subscribe", room_id: room.id }));
  if (frame.type === "event" && frame.seq !== undefined) seen.add(frame.seq);
});

/** Posts, and waits for the frame and the row. */
async function post(): Promise<void> {
  const { seq } = await call<{ seq: number }>(
    `/rooms/${room.id}/messages`,
    { sender_id: "alice", content: "Hello" },
    key,
  );
  while (!seen.has(seq)) await sleep(5);
  await storage.readSide.caughtUp();
}

while (socket.readyState !== WebSocket.OPEN) await sleep(5);
await sleep(500);
for (let n = 0; n < WARM_UP_POSTS; n += 1) await post();

const session = new Session();
session.connect();
await session.post("Profiler.enable");
await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
await session.post("Profiler.takePreciseCoverage"); // what ran before
await post();
const { result } = await session.post("Profiler.takePreciseCoverage");
session.disconnect();

const ran = result
  .filter(({ url: file }) => file.startsWith(SRC))
  .map(({ url: file, functions }) => ({
    file: relative(ROOT, fileURLToPath(file)),
    functions: functions.filter(({ functionName, ranges }) => functionName !== "" && (ranges[0]?.count ?? 0) > 0)
      .length,
  }))
  .filter(({ functions }) => functions > 0)
  .toSorted((a, b) => a.file.localeCompare(b.file));
for (const { file, functions } of ran) console.log(`${String(functions).padStart(4)}  ${file}`);
const total = ran.reduce((sum, { functions }) => sum + functions, 0);
console.log(`${total} named functions in ${ran.length} files`);

socket.terminate();
node.server.closeAllConnections();
node.server.close();
await node[Symbol.asyncDispose]();
await storage[Symbol.asyncDispose]();
await rm(dataDir, { recursive: true, force: true });
process.exit(0);
