// The Postgres log when PostgreSQL is killed at once: what anybody was answered or given is there afterwards.

import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { processIsAlive } from "../../src/embedded/os.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { type EventStore, NO_STREAM } from "../../src/event-store/event-store.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { encodeFlush } from "../../src/event-store/postgres/wire.ts";
import { collect, eventually, newEvents, newStream } from "../contracts/subject.ts";
import { dataFolder, postmasterPid, query } from "../embedded/data-folder.ts";
import { superuserUrl } from "../support/postgres.ts";

let folder: Awaited<ReturnType<typeof dataFolder>>;
let postgres: EmbeddedPostgres;

/** With nobody who writes to disk of his own accord what was committed without waiting for it. */
async function start(): Promise<void> {
  // An answer means durable, whatever the server's default is.
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

/** A log that has just polled, so that for a second it makes nothing durable of its own accord. */
async function openPolled(): Promise<EventStore> {
  const store = await openPostgresLog({ url: postgres.url });
  // Its first poll finds more than it knows of, and makes that durable.
  const polled = `select from pg_stat_activity
    where application_name = 'chatapi log reader' and state = 'idle' and query like '%durable_v1%'`;
  await eventually(async () => expect(await query(superuserUrl(postgres), polled)).toHaveLength(1));
  return store;
}

/** An append as it is when its process dies before it is durable: committed, and on no disk. */
async function appendUnsettled(stream: string): Promise<void> {
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  const values = encodeFlush([{ stream, expected: NO_STREAM, events: newEvents(1) }]);
  await client.query(`select log.append_v2(${values.map((_, index) => `$${index + 1}`).join(", ")})`, values);
  await client.end();
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
  test("what was appended and neither answered nor read may be gone", async () => {
    const stream = newStream();
    await (await openPostgresLog({ url: postgres.url }))[Symbol.asyncDispose]();
    await appendUnsettled(stream);
    expect(await afterKill(stream)).toBe(0);
  });

  test("what was answered is there", async () => {
    const stream = newStream();
    await using store = await openPolled();
    await store.append(stream, NO_STREAM, newEvents(1));
    expect(await afterKill(stream)).toBe(1);
  });

  test.each<[string, (store: EventStore, stream: string) => Promise<unknown>]>([
    ["of a stream", (store, stream) => store.readStream(stream, { limit: 10 })],
    ["of all", (store) => store.readAll({ after: "start", limit: 1_000 })],
    ["of the last position", (store) => store.tail()],
    [
      "of a subscription",
      async (store, stream) => {
        await using seen = collect(store, "start");
        await eventually(() => expect(seen.events.map((event) => event.stream)).toContain(stream));
      },
    ],
  ])("what another process had not been answered yet is there after a read %s", async (_name, read) => {
    const stream = newStream();
    await using store = await openPolled();
    await appendUnsettled(stream);
    await read(store, stream);
    expect(await afterKill(stream)).toBe(1);
  });
});
