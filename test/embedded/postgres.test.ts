// The embedded PostgreSQL in ordinary life: first start, later starts, two servers, and troubles at the start.

import { lstat, readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DataFolderInUse } from "../../src/embedded/data-folder.ts";
import { processIsAlive } from "../../src/embedded/os.ts";
import { type EmbeddedPostgres, runningEmbeddedPostgres, startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { childServer, dataFolder, postmasterPid, query } from "./data-folder.ts";

let folder: Awaited<ReturnType<typeof dataFolder>>;
const lines: string[] = [];
const log = (line: string) => void lines.push(line);
const start = (): Promise<EmbeddedPostgres> => startEmbeddedPostgres({ dataDir: folder.path, log });
const home = () => join(folder.path, "postgres");

beforeAll(async () => {
  folder = await dataFolder();
  await using postgres = await start();
  await query(postgres.url, "create table kept as select 1 as n");
});
afterAll(async () => await folder[Symbol.asyncDispose]());

test("a stopped server leaves no process, and the next start finds its data and its port", async () => {
  const urls: string[] = [];
  for (let round = 0; round < 2; round += 1) {
    await using postgres = await start();
    expect(postgres.adopted).toBe(false);
    expect(await query(postgres.url, "select n from kept")).toEqual([{ n: 1 }]);
    urls.push(postgres.url);
    const pid = await postmasterPid(home());
    await postgres[Symbol.asyncDispose]();
    expect(processIsAlive(pid)).toBe(false);
    expect(await runningEmbeddedPostgres(folder.path)).toBeUndefined();
  }
  expect(urls[1]).toBe(urls[0]);
});

test("it is set up to keep what it promised, for us alone", async () => {
  await using postgres = await start();
  const settings = ["fsync", "synchronous_commit", "full_page_writes", "data_checksums", "server_encoding", "TimeZone"];
  const rows = await query(
    postgres.url,
    `select ${settings.map((name) => `current_setting('${name}')`).join(" || ' ' || ")} as all`,
  );
  expect(rows).toEqual([{ all: "on on on on UTF8 UTC" }]);
  expect(await query(postgres.url, "select rolsuper from pg_roles where rolname = current_user")).toEqual([
    { rolsuper: false },
  ]);
  for (const secret of [join(home(), "password"), join(folder.path, "server.lock")]) {
    expect((await stat(secret)).mode & 0o777).toBe(0o600);
  }
  const wrong = new URL(postgres.url);
  wrong.password = "wrong";
  await expect(query(wrong.href, "select 1")).rejects.toThrow(/password authentication failed/);
  // A session of its own: Ctrl-C on our terminal goes to our process group only.
  const fields = (await readFile(`/proc/${await postmasterPid(home())}/stat`, "utf8")).split(") ")[1]?.split(" ");
  expect(Number(fields?.[2])).toBe(await postmasterPid(home()));
});

test("a second server is refused with the pid of the first, which goes on; tools beside it find the database", async () => {
  await using postgres = await start();
  await using second = await childServer(folder.path);
  expect(second.said.error).toBe(
    `DataFolderInUse: another ChatAPI server (pid ${process.pid}) is using the data folder ${folder.path}`,
  );
  expect(await second.ended()).toBe(78);
  await expect(start()).rejects.toSatisfy((error) => error instanceof DataFolderInUse && error.pid === process.pid);
  expect(await runningEmbeddedPostgres(folder.path)).toBe(postgres.url);
  expect(await query(postgres.url, "select n from kept")).toEqual([{ n: 1 }]);
});

test("of servers that start on an empty folder at the same moment one wins", async () => {
  await using empty = await dataFolder();
  const starting = [childServer(empty.path), childServer(empty.path), childServer(empty.path)] as const;
  await using one = await starting[0];
  await using two = await starting[1];
  await using three = await starting[2];
  const servers = [one, two, three];
  const [winner, ...others] = servers.filter(({ said }) => said.url !== undefined);
  expect(others).toEqual([]);
  expect(servers.flatMap(({ said }) => said.error ?? [])).toEqual(
    Array.from({ length: 2 }, () => expect.stringContaining(`(pid ${winner?.pid}) is using the data folder`)),
  );
  expect(await winner?.end("SIGTERM")).toBe(0);
});

test.each([
  ["is gone", 2 ** 22 - 3],
  ["is another program by now", process.pid],
])("a pid file whose process %s stops nothing", async (_, pid) => {
  const stale = [pid, join(home(), "cluster"), 1, 65_000, "", "127.0.0.1", "0 0", "ready", ""].join("\n");
  await writeFile(join(home(), "cluster", "postmaster.pid"), stale);
  await using postgres = await start();
  expect(postgres.adopted).toBe(false);
  expect(await query(postgres.url, "select n from kept")).toEqual([{ n: 1 }]);
});

test("when its port is taken it moves to another", async () => {
  const port = Number(await readFile(join(home(), "port"), "utf8"));
  const squatter = createServer().listen(port, "127.0.0.1");
  try {
    await using postgres = await start();
    expect(Number(new URL(postgres.url).port)).not.toBe(port);
    expect(await query(postgres.url, "select n from kept")).toEqual([{ n: 1 }]);
  } finally {
    squatter.close();
  }
});

test("a first start that was cut short leaves nothing in the way", async () => {
  await using postgres = await start();
  await query(postgres.url.replace(/chatapi$/, "postgres"), "select 1");
  const admin = postgres.url.replace("//chatapi:", "//postgres:").replace(/chatapi$/, "postgres");
  await query(admin, "drop database chatapi with (force)");
  await postgres[Symbol.asyncDispose]();
  await using again = await start();
  expect(await query(again.url, "create table kept as select 1 as n")).toEqual([]);
});

test("PostgreSQL's own words are in the error when it ends at its start, and the folder is free again", async () => {
  const failing = startEmbeddedPostgres({
    dataDir: folder.path,
    log,
    settings: { shared_preload_libraries: "nonsense" },
  });
  await expect(failing).rejects.toThrow(/^PostgreSQL ended at its start \(exit code 1\): .*nonsense/);
  await writeFile(join(home(), "cluster", "PG_VERSION"), "9\n");
  await expect(start()).rejects.toThrow(/was made by PostgreSQL 9, this version brings \d+/);
  await writeFile(join(home(), "cluster", "PG_VERSION"), "18\n");
  await using postgres = await start();
  expect(await query(postgres.url, "select n from kept")).toEqual([{ n: 1 }]);
  expect((await lstat(join(home(), "log", "start.log"))).isFile()).toBe(true);
});
