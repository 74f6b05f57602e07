// The embedded PostgreSQL when something dies: our server, PostgreSQL, both, or a single session of it.

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { processIsAlive } from "../../src/embedded/os.ts";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { LOCKS } from "../../src/platform/locks.ts";
import { childServer, dataFolder, postmasterPid, query } from "./data-folder.ts";

let folder: Awaited<ReturnType<typeof dataFolder>>;
const log = () => {};
const home = () => join(folder.path, "postgres");
const held = `select 1 from pg_locks where locktype = 'advisory' and classid = ${LOCKS.server[0]} and granted`;

beforeAll(async () => {
  folder = await dataFolder();
});
afterAll(async () => await folder[Symbol.asyncDispose]());

test("after kill -9 of the server, the next one adopts its PostgreSQL, and stops it at its end", async () => {
  await using child = await childServer(folder.path);
  await query(child.said.url ?? "", "create table kept as select 1 as n");
  await child.end("SIGKILL");
  const pid = await postmasterPid(home());
  expect(processIsAlive(pid)).toBe(true);

  const lines: string[] = [];
  let exits = 0;
  await using postgres = await startEmbeddedPostgres({
    dataDir: folder.path,
    log: (line) => lines.push(line),
    onExit: () => {
      exits += 1;
    },
  });
  expect(postgres).toMatchObject({ adopted: true, url: child.said.url });
  expect(lines).toEqual([`PostgreSQL (pid ${pid}) was left running by an earlier server; adopting it`]);
  expect(await query(postgres.url, "select n from kept")).toEqual([{ n: 1 }]);
  expect(await query(postgres.url, held)).toHaveLength(1);
  await postgres[Symbol.asyncDispose]();
  await expect.poll(() => query(postgres.url, "select 1").catch(() => "gone")).toBe("gone");
  expect(exits).toBe(0);
});

test("after kill -9 of both, the next start recovers what was committed", async () => {
  await using child = await childServer(folder.path);
  await query(child.said.url ?? "", "insert into kept values (2)");
  process.kill(await postmasterPid(home()), "SIGKILL");
  await child.end("SIGKILL");
  await using postgres = await startEmbeddedPostgres({ dataDir: folder.path, log });
  expect(postgres.adopted).toBe(false);
  expect(await query(postgres.url, "select n from kept order by n")).toEqual([{ n: 1 }, { n: 2 }]);
});

test.each([{ adopted: false }, { adopted: true }])("the end of PostgreSQL is told once: %o", async ({ adopted }) => {
  if (adopted) {
    await using child = await childServer(folder.path);
    await child.end("SIGKILL");
  }
  const ends: string[] = [];
  await using postgres = await startEmbeddedPostgres({
    dataDir: folder.path,
    log,
    onExit: (error) => ends.push(error.message),
  });
  expect(postgres.adopted).toBe(adopted);
  process.kill(await postmasterPid(home()), "SIGINT");
  await expect.poll(() => ends, { timeout: 30_000 }).toEqual([expect.stringMatching(/^PostgreSQL ended/)]);
  await postgres[Symbol.asyncDispose]();
  expect(ends).toHaveLength(1);
});

test("when the session that holds the lock breaks, it is taken again; while another has it, the server must end", async () => {
  const ends: string[] = [];
  await using postgres = await startEmbeddedPostgres({
    dataDir: folder.path,
    log,
    onExit: (error) => ends.push(error.message),
  });
  const breakIt =
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'chatapi server %'";
  await query(postgres.url, breakIt);
  await expect.poll(() => query(postgres.url, held), { timeout: 30_000 }).toHaveLength(1);
  expect(ends).toEqual([]);

  // Another server waits for the lock and gets it in that moment.
  const take = `set application_name = 'chatapi server 4711'; select pg_advisory_lock(${LOCKS.server}); select pg_sleep(8)`;
  const other = query(postgres.url, take).catch(() => {});
  await sleep(300);
  await query(postgres.url, breakIt.replace("like 'chatapi server %'", `= 'chatapi server ${process.pid}'`));
  await expect
    .poll(() => ends, { timeout: 30_000 })
    .toEqual([`another ChatAPI server (pid 4711) is using the data folder ${folder.path}`]);
  await postgres[Symbol.asyncDispose]();
  await other;
});
