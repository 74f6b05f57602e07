// Starting, stopping, crashing: what whoever runs the server meets first.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { socketServer } from "../channels/servers.ts";
import { apiOf, newClient } from "./support/api.ts";
import { dataFolder, folderWithCluster, startRefused, startServer } from "./support/server.ts";
import { ADMIN_KEY } from "./support/setups.ts";

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

test("addresses that cannot be listened on, and keys that are none, are refused by their variables", async () => {
  await using folder = await folderWithCluster();
  await using taken = await socketServer(() => undefined);
  const { port } = taken;
  const refused = async (options: Omit<Parameters<typeof startRefused>[0], "dataDir">) => {
    const { code, output } = await startRefused({ dataDir: folder.path, ...options });
    return [code, output.trim().split("\n").at(-1)];
  };
  expect(await refused({ port })).toEqual([78, `PORT: cannot listen on 127.0.0.1:${port} (EADDRINUSE)`]);
  const inbound = `127.0.0.1:${port}`;
  expect(await refused({ env: { INBOUND_SMTP: inbound } })).toEqual([
    78,
    `INBOUND_SMTP: cannot listen on ${inbound} (EADDRINUSE)`,
  ]);
  expect(await refused({ env: { ENCRYPTION_KEYS: "short" } })).toEqual([
    78,
    expect.stringMatching(/^ENCRYPTION_KEYS: /),
  ]);
  // Beyond this machine it takes the operator's key, and the ring of the database.
  const ENCRYPTION_KEYS = (await readFile(join(folder.path, "encryption-keys"), "utf8")).trim();
  expect(await refused({ env: { HOST: "192.0.2.1", ADMIN_KEY, ENCRYPTION_KEYS } })).toEqual([
    78,
    "HOST: cannot listen on 192.0.2.1:0 (EADDRNOTAVAIL)",
  ]);
}, 180_000);

// Each variable's own line is in test/config.test.ts.
test("a wrong set-up ends the start with one clear line that names the variable", async () => {
  await using folder = await dataFolder();
  const cases: [Record<string, string>, string][] = [
    [{ PORT: "eighty" }, "PORT"],
    [{ INBOUND_SMTP: "mx.example.com" }, "INBOUND_SMTP"],
    [{ DATA_DIR: import.meta.filename }, "DATA_DIR"],
    [{ EVENTSTORE_URL: "esdb://127.0.0.1:2113?tls=false" }, "EVENTSTORE_URL"],
    [{ HOST: "0.0.0.0" }, "ADMIN_KEY"],
    [{ PROCESSES: "0" }, "PROCESSES"],
    [{ PROCESSES: "abc" }, "PROCESSES"],
  ];
  for (const [env, variable] of cases) {
    const { code, output } = await startRefused({ dataDir: folder.path, env });
    expect([code, output.trim().split("\n").length], output).toEqual([78, 1]);
    expect(output).toContain(variable);
  }
}, 180_000);
