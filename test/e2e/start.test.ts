// Starting, stopping, crashing: what whoever runs the server meets first.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { apiOf, newClient } from "./support/api.ts";
import { dataFolder, startRefused, startServer } from "./support/server.ts";

const run = promisify(execFile);

test("a first start, a second server on the folder, a crash, and a start that recovers by itself", async () => {
  await using folder = await dataFolder();
  const first = await startServer({ dataDir: folder.path });
  const api = await newClient(first.url);
  const { body: room } = await api.post("/rooms", { name: "General", members: [{ user_id: "alice" }] });

  const second = await startRefused({ dataDir: folder.path });
  expect(second.code).toBe(78);
  const lines = second.output.trim().split("\n");
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain(String(first.process.pid));

  const { body: posted } = await api.post(`/rooms/${room.id}/messages`, {
    sender_id: "alice",
    content: "before the crash",
  });
  await first.kill();

  await using again = await startServer({ dataDir: folder.path });
  const after = await apiOf(again.url, api.key).get(`/rooms/${room.id}/messages`);
  expect(after.body).toMatchObject({ data: [{ id: posted.id, content: "before the crash" }] });
});

test("SIGTERM: exit 0, PostgreSQL stopped as well, and a later start", async () => {
  await using folder = await dataFolder();
  const first = await startServer({ dataDir: folder.path });
  expect(await first.stop()).toBe(0);
  const { stdout } = await run("ps", ["-eo", "args"]);
  expect(stdout.split("\n").filter((line) => line.includes(folder.path))).toEqual([]);
  await using again = await startServer({ dataDir: folder.path });
  expect((await fetch(`${again.url}/livez`)).status).toBe(200);
});

test("a wrong set-up ends the start with one clear line that names the variable", async () => {
  await using folder = await dataFolder();
  const cases: [Record<string, string>, string][] = [
    [{ PORT: "eighty" }, "PORT"],
    [{ EVENTSTORE_URL: "esdb://127.0.0.1:2113?tls=false" }, "EVENTSTORE_URL"],
    [{ REDIS_URL: "http://127.0.0.1:6379" }, "REDIS_URL"],
    [{ ROLES: "api" }, "ROLES"],
    [{ HOST: "0.0.0.0" }, "ADMIN_KEY"],
    [{ ADMIN_KEY: "short" }, "ADMIN_KEY"],
    [{ RETRY_SCHEDULE: "5 apples" }, "RETRY_SCHEDULE"],
    [{ OUTBOUND_ALLOW: "everything" }, "OUTBOUND_ALLOW"],
  ];
  for (const [env, variable] of cases) {
    const { code, output } = await startRefused({ dataDir: folder.path, env });
    expect([code, output.trim().split("\n").length], output).toEqual([78, 1]);
    expect(output).toContain(variable);
  }
}, 60_000);

test("a port that is taken ends the start with one clear line", async () => {
  await using folder = await dataFolder();
  await using other = await dataFolder();
  await using first = await startServer({ dataDir: folder.path });
  const port = Number(new URL(first.url).port);
  const { code, output } = await startRefused({ dataDir: other.path, port });
  expect(code).toBe(78);
  expect(output).toContain("PORT");
});
