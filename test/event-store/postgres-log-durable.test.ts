// The Postgres log when PostgreSQL is killed: what was answered is there afterwards.

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { processIsAlive } from "../../src/embedded/os.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { NO_STREAM } from "../../src/event-store/event-store.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { eventually, newEvents, newStream } from "../contracts/subject.ts";
import { dataFolder, postmasterPid, query } from "../embedded/data-folder.ts";
import { superuserUrl } from "../support/postgres.ts";

let folder: Awaited<ReturnType<typeof dataFolder>>;
let postgres: EmbeddedPostgres;

/** Starts PostgreSQL so that a commit does not wait for the disk by default, and nothing flushes the WAL in the background. */
async function start(): Promise<void> {
  const settings = { synchronous_commit: "off" };
  postgres = await startEmbeddedPostgres({ dataDir: folder.path, log: () => {}, settings });
  process.kill(await walWriter(), "SIGSTOP");
}

async function walWriter(): Promise<number> {
  await eventually(async () => expect(await processes("walwriter")).toHaveLength(1));
  const [pid] = await processes("walwriter");
  if (pid === undefined) throw new Error("the writer of the WAL is gone");
  return pid;
}

async function processes(kind = "%"): Promise<readonly number[]> {
  const sql = `select pid from pg_stat_activity where backend_type like '${kind}'`;
  return ((await query(superuserUrl(postgres), sql)) as { pid: number }[]).map(({ pid }) => pid);
}

/** Kills all of PostgreSQL at once, then starts it again; gives what the log holds of a stream. */
async function afterKill(stream: string): Promise<number> {
  const postmaster = await postmasterPid(join(folder.path, "postgres"));
  const all = [postmaster, ...(await processes())];
  for (const pid of all) if (processIsAlive(pid)) process.kill(pid, "SIGKILL");
  await eventually(() => expect(all.filter(processIsAlive)).toEqual([]));
  await postgres[Symbol.asyncDispose]();
  await start();
  await using store = await openPostgresLog({ url: postgres.url });
  return (await store.readStream(stream, { limit: 10 })).length;
}

/** Commits an event without waiting for the disk. */
async function insertWithoutWaiting(stream: string): Promise<void> {
  await query(
    superuserUrl(postgres),
    `insert into log.events (position, stream, revision, id, type, data, metadata, recorded_at)
     select max(position) + 1, '${stream}', 0, gen_random_uuid(), 'Happened', '', '', now() from log.events`,
  );
}

beforeAll(async () => {
  folder = await dataFolder();
  await start();
}, 60_000);
afterAll(async () => {
  process.kill(await walWriter(), "SIGCONT");
  await postgres[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

describe("when PostgreSQL is killed at once", () => {
  test("a commit that did not wait for the disk is gone, so the next test proves something", async () => {
    const stream = newStream();
    await (await openPostgresLog({ url: postgres.url }))[Symbol.asyncDispose]();
    await insertWithoutWaiting(stream);
    expect(await afterKill(stream)).toBe(0);
  });

  test("an append that was answered is there, whatever the server's default is", async () => {
    const stream = newStream();
    await using store = await openPostgresLog({ url: postgres.url });
    await store.append(stream, NO_STREAM, newEvents(1));
    expect(await afterKill(stream)).toBe(1);
  });
});
