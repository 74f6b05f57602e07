// Starting, stopping, crashing: what whoever runs the server meets first.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { apiOf, newClient } from "./support/api.ts";
import { dataFolder, startRefused, startServer } from "./support/server.ts";

const run = promisify(execFile);

test("a first start, what is refused beside it, a crash, a start that recovers by itself, SIGTERM, and a later start", async () => {
  await using folder = await dataFolder();
  const first = await startServer({ dataDir: folder.path });
  // It logs warnings and worse, and a first start has none.
  expect(
    first
      .output()
      .split("\n")
      .filter((line) => line.startsWith("{")),
  ).toEqual([]);
  const api = await newClient(first.url);
  const { body: room } = await api.post("/rooms", { name: "General", members: [{ user_id: "alice" }] });

  const second = await startRefused({ dataDir: folder.path });
  expect([second.code, second.output.trim().split("\n").length]).toEqual([78, 1]);
  expect(second.output).toContain(String(first.process.pid));

  await using other = await dataFolder();
  const taken = await startRefused({ dataDir: other.path, port: Number(new URL(first.url).port) });
  expect(taken.code).toBe(78);
  expect(taken.output).toContain("PORT");

  const { body: posted } = await api.post(`/rooms/${room.id}/messages`, {
    sender_id: "alice",
    content: "before the crash",
  });
  await first.kill();

  const again = await startServer({ dataDir: folder.path });
  const after = await apiOf(again.url, api.key).get(`/rooms/${room.id}/messages`);
  expect(after.body).toMatchObject({ data: [{ id: posted.id, content: "before the crash" }] });

  expect(await again.stop()).toBe(0);
  const { stdout } = await run("ps", ["-eo", "args"]);
  expect(stdout.split("\n").filter((line) => line.includes(folder.path))).toEqual([]);

  await using later = await startServer({ dataDir: folder.path });
  expect((await fetch(`${later.url}/livez`)).status).toBe(200);
}, 120_000);

// Each variable's own line is in test/config.test.ts.
test("a wrong set-up ends the start with one clear line that names the variable", async () => {
  await using folder = await dataFolder();
  const cases: [Record<string, string>, string][] = [
    [{ PORT: "eighty" }, "PORT"],
    [{ EVENTSTORE_URL: "esdb://127.0.0.1:2113?tls=false" }, "EVENTSTORE_URL"],
    [{ HOST: "0.0.0.0" }, "ADMIN_KEY"],
  ];
  for (const [env, variable] of cases) {
    const { code, output } = await startRefused({ dataDir: folder.path, env });
    expect([code, output.trim().split("\n").length], output).toEqual([78, 1]);
    expect(output).toContain(variable);
  }
}, 180_000);
