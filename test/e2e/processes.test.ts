// One node of several processes on an embedded PostgreSQL: what they share, and what becomes of the others when one ends.
import { randomBytes } from "node:crypto";
import { get } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { processIsAlive } from "../../src/embedded/os.ts";
import { databaseWithTables } from "../support/database-with-tables.ts";
import { apiOf, type Body, newClient, notificationUntil, tokenOf } from "./support/api.ts";
import { faithful, headOnceAt, makeRooms, readiness, timeUntil, WAIT_MS, writers } from "./support/cluster.ts";
import { type dataFolder, folderWithCluster, type Running, startServer } from "./support/server.ts";
import { ADMIN_KEY, START_TIMEOUT_MS } from "./support/setups.ts";

/** One that keeps the read models and delivers, and two that serve callers. */
const env = { PROCESSES: "3", RETRY_SCHEDULE: "1s,1s", RETRY_JITTER: "0" };
const BACKGROUND = "1";
const SERVING = ["2", "3"];

type Folder = Awaited<ReturnType<typeof dataFolder>>;
let folder: Folder;
let node: Running;

beforeAll(async () => {
  folder = await folderWithCluster();
  node = await startServer({ dataDir: folder.path, env });
}, START_TIMEOUT_MS);
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
}, 60_000);

/** The answer on a connection of its own: connections go to the processes in turn. */
const answerOf = (path: string): Promise<string> =>
  new Promise((resolve, reject) => {
    get(`${node.url}${path}`, { agent: false, headers: { accept: "application/json" } }, async (response) => {
      let text = "";
      for await (const bytes of response) text += String(bytes);
      resolve(text);
    }).on("error", reject);
  });

/** The process ids by number, once every process is ready: each process that serves names the others. */
async function processIds(): Promise<Readonly<Record<string, number>>> {
  const ids: Record<string, number> = {};
  const areReady = async () => {
    const { status, parts } = JSON.parse(await answerOf("/readyz")) as Body;
    for (const number of [BACKGROUND, ...SERVING]) {
      const pid = parts.processes[number]?.pid;
      if (pid !== undefined) ids[number] = pid;
    }
    return status === "ready" && Object.keys(ids).length === 1 + SERVING.length;
  };
  await timeUntil(areReady, WAIT_MS, "processes");
  return ids;
}

const kill = (pid: number | undefined) => process.kill(pid ?? Number.NaN, "SIGKILL");

/** A metric's values by process. */
async function valuesOf(name: string): Promise<Readonly<Record<string, number>>> {
  const values: Record<string, number> = {};
  for (const line of (await answerOf("/metrics")).split("\n")) {
    const [, number, value] = new RegExp(`^${name}\\{.*process="(\\d+)".*\\} (\\S+)$`).exec(line) ?? [];
    if (number !== undefined) values[number] = (values[number] ?? 0) + Number(value);
  }
  return values;
}

/** Posts over several connections to rooms with sockets at every process, meanwhile does something, and compares. */
async function postMeanwhile(meanwhile: () => Promise<void>): Promise<void> {
  const api = await newClient(node.url);
  const rooms = await makeRooms(api, 3);
  const token = await tokenOf(api, "bob");
  const sockets = await Promise.all(Array.from({ length: 4 }, () => faithful(node.url, token, rooms)));
  expect(Object.entries(await valuesOf("chatapi_sockets")).sort()).toEqual(SERVING.map((number) => [number, 2]));
  const posting = writers(api, node.url, rooms, 8);
  const posted = () => posting.posted.acknowledged.length;
  await timeUntil(async () => posted() > 50, WAIT_MS, "posts");
  await meanwhile();
  const before = posted();
  await timeUntil(async () => posted() > before + 50, WAIT_MS, "posts afterwards");
  await posting.stop();
  expect(posting.unclear).toEqual([]);
  for (const room of rooms) {
    const own = posting.posted.acknowledged.filter((one) => one.room === room).map((one) => one.seq);
    const seq = await headOnceAt(api, room, Math.max(0, ...own));
    const every = Array.from({ length: seq }, (_, n) => n + 1);
    expect(new Set(own).size).toBe(own.length);
    expect(every).toEqual(expect.arrayContaining(own));
    for (const socket of sockets) {
      await timeUntil(async () => socket.seqs(room).length >= seq, WAIT_MS, "every frame");
      expect(socket.seqs(room)).toEqual(every);
    }
  }
  await Promise.all(sockets.map((one) => one.close()));
}

test("posts over several connections reach the sockets of every process, each of which answers some", async () => {
  const before = await valuesOf("chatapi_http_requests_total");
  await postMeanwhile(async () => undefined);
  const after = await valuesOf("chatapi_http_requests_total");
  for (const number of SERVING) expect(after[number]).toBeGreaterThan(before[number] ?? 0);
}, 120_000);

test("a write is there for a read with Read-After on another process", async () => {
  const api = await newClient(node.url);
  const [room] = await makeRooms(api, 1);
  for (let time = 0; time < 10; time += 1) {
    const posted = await api.post(`/rooms/${room}/messages`, { sender_id: "alice", content: `${time}` });
    const headers = { "read-after": String(posted.headers.get("position")) };
    const pages = await Promise.all(
      SERVING.map(() => api.get(`/rooms/${room}/messages?limit=1`, { ...headers, connection: "close" })),
    );
    for (const { status, body } of pages) expect([status, body.data[0]?.id]).toEqual([200, posted.body.id]);
  }
}, 120_000);

test("every process shows the mails that one of them sent, and deletes them for all", async () => {
  const api = await newClient(node.url);
  const to = "shared@example.com";
  const { body } = await api.post("/notifications", { type: "email", to_email: to, subject: "S", content: "C" });
  expect((await notificationUntil(api, body.id, ({ status }) => status === "sent", WAIT_MS)).status).toBe("sent");
  const shown = async (): Promise<readonly number[]> =>
    Promise.all(
      SERVING.map(async () => (JSON.parse(await answerOf(`/dev/mailbox?to=${to}`)) as Body).data.length as number),
    );
  expect(await shown()).toEqual([1, 1]);
  expect((await fetch(`${node.url}/dev/mailbox`, { method: "DELETE" })).status).toBe(204);
  expect(await shown()).toEqual([0, 0]);
}, 120_000);

test("a process that serves is killed under load: nothing acknowledged is lost, and clients go on", async () => {
  const ids = await processIds();
  await postMeanwhile(async () => void kill(ids["2"]));
  const now = await processIds();
  expect([now["2"] !== ids["2"], now["3"] === ids["3"], now[BACKGROUND] === ids[BACKGROUND]]).toEqual([
    true,
    true,
    true,
  ]);
}, 180_000);

test("the process with the read models and the workers is killed under load: posting goes on, and mails come", async () => {
  const ids = await processIds();
  await postMeanwhile(async () => void kill(ids[BACKGROUND]));
  const api = await newClient(node.url);
  const { body } = await api.post("/notifications", {
    ...{ type: "email", to_email: "after@example.com", subject: "After", content: "Hello" },
  });
  expect((await notificationUntil(api, body.id, ({ status }) => status === "sent", WAIT_MS)).status).toBe("sent");
}, 180_000);

test("the first process is killed: the others end at once; the next start adopts PostgreSQL; SIGTERM leaves nothing", async () => {
  const api = await newClient(node.url);
  const [room = ""] = await makeRooms(api, 1);
  const { body: posted } = await api.post(`/rooms/${room}/messages`, { sender_id: "alice", content: "kept" });
  const before = Object.values(await processIds());
  await node.kill();
  await timeUntil(async () => !before.some(processIsAlive), WAIT_MS, "the others' end");

  // More processes than the PostgreSQL that runs has connections for.
  node = await startServer({ dataDir: folder.path, env: { ...env, PROCESSES: "4" } });
  const { body } = await apiOf(node.url, api.key).get(`/rooms/${room}/messages`);
  expect(body).toMatchObject({ data: [{ id: posted.id, content: "kept" }] });
  const after = Object.values(await processIds());
  expect(await node.stop()).toBe(0);
  expect(after.filter(processIsAlive)).toEqual([]);
}, 240_000);

test("on a PostgreSQL that is not its own, with one role for all processes, and with several", async () => {
  await using database = await databaseWithTables();
  const servers = { DATABASE_URL: database.url, ADMIN_KEY, ENCRYPTION_KEYS: randomBytes(32).toString("base64") };
  const started = (more: Readonly<Record<string, string>>) =>
    startServer({ dataDir: folder.path, env: { ...env, ...servers, PROCESSES: "2", ...more } });
  await using background = await started({ ROLES: "projector,worker" });
  await using serving = await started({ ROLES: "api" });
  expect((await apiOf(serving.url, ADMIN_KEY).post("/clients", { name: "Mine" })).status).toBe(201);
  const { parts } = (await readiness(background)).body;
  expect(Object.values<Body>(parts.processes).filter(({ parts: of }) => of?.workers?.ok === true)).toHaveLength(1);
  expect([await serving.stop(), await background.stop()]).toEqual([0, 0]);
  await using both = await started({});
  expect((await apiOf(both.url, ADMIN_KEY).post("/clients", { name: "Theirs" })).status).toBe(201);
}, 240_000);
