// The embedded PostgreSQL, from an empty folder to a database that is ours alone, and back to a stopped one.

import { mkdir, realpath } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { failpoint } from "../platform/failpoint.ts";
import { holderOf, LOCKS, tryLockSession } from "../platform/locks.ts";
import { DataFolderInUse, lockFolder } from "./data-folder.ts";
import { findPostgresHome, openPostgresHome, type PostgresHome, readPassword, SUPERUSER } from "./postgres-home.ts";
import {
  findPostmaster,
  isRunning,
  lastLogLines,
  type Postmaster,
  startPostmaster,
  stopPostmaster,
} from "./postmaster.ts";

/** Both the role that the server works as (no superuser) and its database. */
const ROLE = "chatapi";
const ADOPT_TIMEOUT_MS = 60_000;
const ADOPT_POLL_MS = 50;
const WATCH_MS = 1_000;
const CONNECT_TIMEOUT_MS = 5_000;

/** A running PostgreSQL of our own. Disposing it stops PostgreSQL ("fast") and then frees the data folder. */
export type EmbeddedPostgres = {
  /** `postgresql://` with password, for the role `chatapi`, which owns the database `chatapi` and may make others. */
  readonly url: string;
  /** Whether an earlier server that was killed had left it running. */
  readonly adopted: boolean;
  [Symbol.asyncDispose](): Promise<void>;
};

type EmbeddedPostgresOptions = {
  /** Made when absent. As root, PostgreSQL's own account must be able to enter it; its data is kept elsewhere if not. */
  readonly dataDir: string;
  /** One line for the operator, never a secret. */
  readonly log: (line: string) => void;
  /** Called once when PostgreSQL ends, or the lock on it is lost, while it should run. The server should then end. */
  readonly onExit?: (error: Error) => void;
  /** PostgreSQL settings over ours. With `fsync` off, making the cluster does not wait for the disk either. */
  readonly settings?: Readonly<Record<string, string>>;
};

/**
 * Starts PostgreSQL for a data folder, making the cluster at the first start, or adopts the one that a killed server
 * left running. Until disposed, or until this process ends, the folder is locked. If the process ends without
 * disposing, PostgreSQL runs on and the next start adopts it. Throws `DataFolderInUse` when another server has the
 * folder, else an `Error` whose message is one clear line.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  await mkdir(options.dataDir, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 });
  const dataDir = await realpath(options.dataDir);
  const { log, settings = {} } = options;

  await using onFailure = new AsyncDisposableStack();
  onFailure.use(await lockFolder(dataDir));
  const home = await openPostgresHome(dataDir, { durable: settings.fsync !== "off", log });
  failpoint("cluster-in-place/postmaster");
  const startedAt = Date.now();
  const found = await adopt(home, settings, log);
  const postmaster = found ?? (await startPostmaster(home, settings));
  let stopping = false;
  onFailure.defer(async () => {
    stopping = true;
    await stopPostmaster(postmaster, home.cluster);
  });
  const url = urlOf(postmaster.port, home.password, ROLE, ROLE);
  failpoint("postmaster/role-made");
  await ensureDatabase(url, home, postmaster);

  const report = once((error: Error) => {
    if (!stopping) options.onExit?.(error);
  });
  onFailure.use(await holdServerLock({ url, dataDir, log, onLost: report }));
  onFailure.defer(
    watch(postmaster, home, async () => report(new Error(`PostgreSQL ended: ${await lastLogLines(home, startedAt)}`))),
  );

  const owned = onFailure.move();
  return {
    url,
    adopted: found !== undefined,
    async [Symbol.asyncDispose]() {
      stopping = true;
      await owned.disposeAsync();
    },
  };
}

/** The URL of the embedded PostgreSQL that a running server has started on this folder, for tools beside it. */
export async function runningEmbeddedPostgres(dataDir: string): Promise<string | undefined> {
  const home = await findPostgresHome(dataDir);
  const postmaster = home === undefined ? undefined : await findPostmaster(`${await realpath(home)}/cluster`);
  if (home === undefined || postmaster === undefined) return undefined;
  return urlOf(postmaster.port, await readPassword(home), ROLE, ROLE);
}

/**
 * The postmaster left by a killed server, once it answers with our password. One that is on its way out is waited for; one that
 * takes fewer connections than are wanted now is stopped.
 */
async function adopt(
  home: PostgresHome,
  { max_connections: wanted = "0" }: Readonly<Record<string, string>>,
  log: (line: string) => void,
): Promise<Postmaster | undefined> {
  const found = await findPostmaster(home.cluster);
  if (found === undefined) return undefined;
  const deadline = Date.now() + ADOPT_TIMEOUT_MS;
  const superuserUrl = urlOf(found.port, home.password, SUPERUSER, "postgres");
  while (await isRunning(found, home.cluster)) {
    const problem = await tryConnect(superuserUrl);
    if (problem === undefined && (await maxConnections(superuserUrl)) < Number(wanted)) {
      log(`PostgreSQL (pid ${found.pid}) was left running by an earlier server with fewer connections; stopping it`);
      await stopPostmaster(found, home.cluster);
      return undefined;
    }
    if (problem === undefined) {
      log(`PostgreSQL (pid ${found.pid}) was left running by an earlier server; adopting it`);
      return found;
    }
    if (problem.code === "28P01" || Date.now() > deadline) {
      throw new Error(
        `PostgreSQL (pid ${found.pid}) runs on ${home.cluster} but does not answer as ours (${problem.message}): stop it first`,
      );
    }
    await sleep(ADOPT_POLL_MS);
  }
  return undefined;
}

async function maxConnections(connectionString: string): Promise<number> {
  const client = new pg.Client({ connectionString });
  client.on("error", () => {}); // the query reports it
  await client.connect();
  try {
    const { rows } = await client.query<{ max_connections: string }>("show max_connections");
    return Number(rows[0]?.max_connections);
  } finally {
    await client.end();
  }
}

/** Role and database; made when the first start got no further than the cluster, so made again by any later start. */
async function ensureDatabase(url: string, home: PostgresHome, postmaster: Postmaster): Promise<void> {
  const problem = await tryConnect(url);
  if (problem === undefined) return;
  if (problem.code !== "28P01" && problem.code !== "28000" && problem.code !== "3D000") throw problem;
  const client = new pg.Client({ connectionString: urlOf(postmaster.port, home.password, SUPERUSER, "postgres") });
  client.on("error", () => {}); // the query under way reports it
  await client.connect();
  try {
    const { rowCount } = await client.query("select from pg_roles where rolname = $1", [ROLE]);
    const password = client.escapeLiteral(home.password);
    await client.query(`${rowCount === 0 ? "create" : "alter"} role ${ROLE} login createdb password ${password}`);
    failpoint("role-made/database-made");
    const databases = await client.query("select from pg_database where datname = $1", [ROLE]);
    if (databases.rowCount === 0) await client.query(`create database ${ROLE} owner ${ROLE} template template0`);
  } finally {
    await client.end();
  }
}

async function tryConnect(url: string): Promise<(Error & { code?: string }) | undefined> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  client.on("error", () => {}); // connect() reports it
  try {
    await client.connect();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  } finally {
    await client.end().catch(() => {});
  }
}

/** Calls `onEnd` when the postmaster ends. Returns how to stop watching. */
function watch(postmaster: Postmaster, home: PostgresHome, onEnd: () => Promise<void>): () => void {
  const ended = once(() => void onEnd().catch(() => {}));
  if (postmaster.child !== undefined) {
    const { child } = postmaster;
    child.once("exit", ended);
    if (child.exitCode !== null || child.signalCode !== null) ended();
    return () => void child.off("exit", ended);
  }
  // Not our child: its end raises no event.
  const timer = setInterval(async () => {
    if (!(await isRunning(postmaster, home.cluster))) ended();
  }, WATCH_MS);
  timer.unref();
  return () => clearInterval(timer);
}

function once<A extends readonly unknown[]>(f: (...args: A) => void): (...args: A) => void {
  let called = false;
  return (...args) => {
    if (called) return;
    called = true;
    f(...args);
  };
}

function urlOf(port: number, password: string, role: string, database: string): string {
  return `postgresql://${role}:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}`;
}

const NAME_PREFIX = "chatapi server ";
/** How long the session of a killed server may take to end once its connection is gone. */
const LOCK_TIMEOUT_MS = 3_000;
const LOCK_POLL_MS = 50;
const RELOCK_FIRST_MS = 50;
const RELOCK_MAX_MS = 5_000;

/**
 * Takes the lock on the database at `url` and holds it in a session of its own; when that session breaks (PostgreSQL
 * restarts its sessions after a crash of one) it is taken again, with backoff. Throws `DataFolderInUse` when another
 * server holds it. `onLost` is called once, with that error, when another server took it in such a moment.
 */
async function holdServerLock(options: {
  url: string;
  dataDir: string;
  log: (line: string) => void;
  onLost: (error: DataFolderInUse) => void;
}): Promise<AsyncDisposable> {
  const stop = new AbortController();
  let session = await openLockSession(options);
  const held = (async () => {
    while (!stop.signal.aborted) {
      await session.broken;
      for (let waitMs = RELOCK_FIRST_MS; !stop.signal.aborted; waitMs = Math.min(waitMs * 2, RELOCK_MAX_MS)) {
        await sleep(waitMs, undefined, { signal: stop.signal, ref: false }).catch(() => {});
        if (stop.signal.aborted) return;
        try {
          session = await openLockSession(options);
          options.log("server lock was lost with its session and is held again");
          break;
        } catch (error) {
          if (error instanceof DataFolderInUse) return options.onLost(error);
          options.log(`server lock is not held; retrying: ${error instanceof Error ? error.message : error}`);
        }
      }
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await session.end();
      await held;
    },
  };
}

type Session = { readonly broken: Promise<void>; end(): Promise<void> };

async function openLockSession({ url, dataDir }: { url: string; dataDir: string }): Promise<Session> {
  const client = new pg.Client({
    connectionString: url,
    application_name: `${NAME_PREFIX}${process.pid}`,
    keepAlive: true,
  });
  const broken = new Promise<void>((resolve) => {
    client.once("end", resolve);
    client.on("error", () => resolve());
  });
  const end = async () => await client.end().catch(() => {});
  try {
    await client.connect();
    const deadline = Date.now() + LOCK_TIMEOUT_MS;
    for (;;) {
      if (await tryLockSession(client, LOCKS.server)) return { broken, end };
      if (Date.now() > deadline) throw new DataFolderInUse(dataDir, await holderPid(client));
      await sleep(LOCK_POLL_MS);
    }
  } catch (error) {
    await end();
    throw error;
  }
}

async function holderPid(client: pg.Client): Promise<number | undefined> {
  const name = await holderOf(client, LOCKS.server);
  const pid = Number(name.slice(NAME_PREFIX.length));
  return name.startsWith(NAME_PREFIX) && Number.isInteger(pid) ? pid : undefined;
}
