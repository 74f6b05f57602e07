// A database whose tables are there and empty, copied from one that is made once a run: making them anew takes a second.
import { randomBytes } from "node:crypto";
import { pino } from "pino";
import { inject } from "vitest";
import { openKeyring } from "../../src/event-store/keyring.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { postgresSnapshots } from "../../src/event-store/stream-state.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { openReadSide } from "../../src/projections/read-side.ts";
import { JobQueue } from "../../src/workers/queue.ts";
import { copyDatabase, poolOf, type TestDatabase } from "./postgres.ts";
import { until } from "./until.ts";

const TEMPLATE = "chatapi_tables";
/** Advisory lock of the process that makes the template; the others wait for it. */
const TEMPLATE_LOCK = 0x74657374;

let template: Promise<void> | undefined;

/**
 * Creates a database with every table of this version and no row: no log, no keys. What opens it first goes on as a first
 * start does, and finds its tables made. Tests of how they are made use `testDatabase`.
 */
export async function databaseWithTables(): Promise<TestDatabase> {
  template ??= ensureTemplate();
  await template;
  return copyDatabase(TEMPLATE);
}

async function ensureTemplate(): Promise<void> {
  await using pool = poolOf(inject("postgresUrl"), 1);
  // Held for as long as the lock: a connection that is idle in a pool is closed after a while, and the lock with it.
  const server = await pool.connect();
  using _held = { [Symbol.dispose]: () => server.release(true) };
  await server.query("select pg_advisory_lock($1)", [TEMPLATE_LOCK]);
  const { rowCount } = await server.query("select from pg_database where datname = $1", [TEMPLATE]);
  if (rowCount === 1) return; // the lock goes with the connection
  const unfinished = `${TEMPLATE}_${randomBytes(4).toString("hex")}`;
  await server.query(`create database ${unfinished} template template0`);
  const url = new URL(inject("postgresUrl"));
  url.pathname = `/${unfinished}`;
  await makeTables(url.href);
  // A session that was closed is gone a moment later, and until then the database keeps its name.
  await until(
    async () => (await server.query("select from pg_stat_activity where datname = $1", [unfinished])).rowCount,
    (sessions) => sessions === 0,
  );
  await server.query(`alter database ${unfinished} rename to ${TEMPLATE}`);
}

async function makeTables(url: string): Promise<void> {
  await using pool = poolOf(url, 5);
  const logger = pino({ level: "silent" });
  {
    const keyring = await openKeyring({ pool, encryptionKeys: [randomBytes(32).toString("base64")] });
    await using log = await openPostgresLog({ url, logger });
    const store = await keyring.trust(log);
    await using readSide = await openReadSide({ pool, store, keyring, logger, projections: storedProjections });
    await readSide.start();
    await postgresSnapshots(pool, store.logId).load("none", NO_CODEC, 0);
    await using _jobs = await JobQueue.open({ pool, logger, now: Date.now });
  }
  await pool.query(EMPTY);
}

/** Of a snapshot that is not there. */
const NO_CODEC = { version: 0, toJson: () => null, fromJson: () => null };

/**
 * Takes out the rows, and has the first row of `read.groups` name the tables that are there: with it they count as built
 * from the beginning of the log. A group that is made anew later names none, as ever.
 */
const EMPTY = `
do $$ declare emptied text; begin
  select string_agg(format('%I.%I', schemaname, tablename), ', ') into emptied
    from pg_tables where schemaname in ('keys', 'log', 'read');
  execute 'truncate ' || emptied;
end $$;
create table public.unopened as select;
insert into public.unopened default values;
create function public.name_tables() returns trigger language plpgsql as $$ begin
  delete from public.unopened;
  if found then
    select array_agg(tablename::text) into new.tables from pg_tables where schemaname = 'read';
  end if;
  return new;
end $$;
create trigger name_tables before insert on read.groups for each row execute function public.name_tables();
`;
