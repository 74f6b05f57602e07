// Drop the schemas `read` and `jobs`, start, rebuild: every answer is as before, and unfinished deliveries finish once.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";
import { expect, test } from "vitest";
import { runningEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { httpServer } from "../channels/servers.ts";
import { type Api, apiOf, type Body, newClient, notificationUntil, tokenOf } from "./support/api.ts";
import { folderWithCluster, startServer } from "./support/server.ts";

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const chatapi = async (dataDir: string, ...args: string[]) => {
  const env = { ...process.env, DATA_DIR: dataDir, LOG_LEVEL: "silent" };
  return (await run(process.execPath, ["src/cli/chatapi.ts", ...args], { cwd: ROOT, env })).stdout;
};

/** Every list and object that the client can read. */
async function everything(api: Api, rooms: readonly string[], notifications: readonly string[]): Promise<Body[]> {
  const paths = [
    "/clients/me",
    "/users",
    "/users/alice/rooms",
    "/users/bob/rooms",
    "/rooms",
    "/rooms?sort=name",
    "/email-providers",
    "/notifications?limit=100",
    ...rooms.flatMap((id) => [
      `/rooms/${id}`,
      `/rooms/${id}/members`,
      `/rooms/${id}/reads`,
      `/rooms/${id}/messages?include_deleted=true`,
    ]),
    ...notifications.flatMap((id) => [`/notifications/${id}`, `/notifications/${id}/timeline`]),
    "/audit/events?limit=100",
  ];
  return Promise.all(paths.map(async (path) => ({ path, body: (await api.get(path)).body })));
}

test("everything reads as before, and what was unfinished finishes once", async () => {
  let answering = 500;
  const received: string[] = [];
  await using http = await httpServer((request, response) => {
    received.push(String(request.headers["webhook-id"]));
    response.writeHead(answering).end();
  });
  const hook = `http://127.0.0.1:${http.port}/`;
  await using folder = await folderWithCluster();
  // Longer than a busy machine takes to start the server again.
  const env = { RETRY_SCHEDULE: "40s,1s", RETRY_JITTER: "0" };
  let server = await startServer({ dataDir: folder.path, env });
  let api: Api = await newClient(server.url);

  const rooms: string[] = [];
  for (const name of ["One", "Two"]) {
    const { body: room } = await api.post("/rooms", {
      name,
      members: [{ user_id: "alice", name: "Alice" }, { user_id: "bob" }],
    });
    rooms.push(room.id);
    for (let n = 0; n < 5; n += 1)
      await api.post(`/rooms/${room.id}/messages`, { sender_id: "alice", content: `${name} ${n}` });
    const { body: list } = await api.get(`/rooms/${room.id}/messages`);
    await api.patch(`/rooms/${room.id}/messages/${list.data[0].id}`, { content: "edited" });
    await api.delete(`/rooms/${room.id}/messages/${list.data[1].id}`);
    await api.put(`/rooms/${room.id}/reads/bob`, { seq: 4 });
  }
  const { body: mail } = await api.post("/notifications", {
    type: "email",
    to_email: "user@example.com",
    subject: "Hi",
    content: "Hello",
  });
  await notificationUntil(api, mail.id, (body) => body.status === "sent");
  const { body: open } = await api.post("/notifications", {
    type: "websocket",
    user_ids: ["alice"],
    content: "Read me",
  });
  const { body: failing } = await api.post("/notifications", { type: "webhook", url: hook, content: { n: 1 } });
  await notificationUntil(api, failing.id, (body) => body.deliveries[0]?.status === "retrying");
  const { body: scheduled } = await api.post("/notifications", {
    ...{ type: "email", to_email: "later@example.com", subject: "Later", content: "Hello" },
    send_at: new Date(Date.now() + 45_000).toISOString(),
  });
  const ids = [mail.id, open.id, failing.id, scheduled.id];
  const before = await everything(api, rooms, ids);

  const url = await runningEmbeddedPostgres(folder.path);
  await server.kill();
  const database = new pg.Client({ connectionString: url });
  await database.connect();
  await database.query("drop schema read cascade; drop schema jobs cascade");
  await database.end();

  answering = 200;
  server = await startServer({ dataDir: folder.path, env });
  api = apiOf(server.url, api.key);
  expect(await everything(api, rooms, ids)).toEqual(before);
  const report = JSON.parse(await chatapi(folder.path, "projections", "rebuild", "--all", "--verify", "--json"));
  expect(JSON.stringify(report)).toContain('"differences":[]');
  expect((await api.get(`/rooms/${rooms[0]}`)).body).toEqual(
    before.find((one) => one.path === `/rooms/${rooms[0]}`)?.body,
  );

  const delivered = await notificationUntil(api, failing.id, (body) => body.status === "delivered", 90_000);
  expect(delivered.deliveries[0]).toMatchObject({ status: "delivered", attempt_count: 2 });
  expect(received).toHaveLength(2);
  expect(new Set(received).size).toBe(1);
  const sent = await notificationUntil(api, scheduled.id, (body) => body.status === "sent", 90_000);
  expect(sent.deliveries[0]).toMatchObject({ attempt_count: 1 });
  expect((await api.as(await tokenOf(api, "alice")).get(`/notifications/${open.id}`)).status).toBe(403);
  await server.stop();
}, 300_000);
