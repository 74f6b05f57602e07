// The session in which a server holds its database: an advisory lock that other tools can see, with our pid in its name.

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { holderOf, LOCKS, tryLockSession } from "../platform/locks.ts";
import { DataFolderInUse } from "./folder-lock.ts";

const NAME_PREFIX = "chatapi server ";
/** How long the session of a killed server may take to end once its connection is gone. */
const TAKE_TIMEOUT_MS = 3_000;
const TAKE_POLL_MS = 50;
const RETAKE_FIRST_MS = 50;
const RETAKE_MAX_MS = 5_000;

/**
 * Takes the lock on the database at `url` and holds it in a session of its own; when that session breaks (PostgreSQL
 * restarts its sessions after a crash of one) it is taken again, with backoff. Throws `DataFolderInUse` when another
 * server holds it. `onLost` is called once, with that error, when another server took it in such a moment.
 */
export async function holdServerLock(options: {
  url: string;
  dataDir: string;
  log: (line: string) => void;
  onLost: (error: DataFolderInUse) => void;
}): Promise<AsyncDisposable> {
  const stop = new AbortController();
  let session = await take(options);
  const held = (async () => {
    while (!stop.signal.aborted) {
      await session.broken;
      for (let waitMs = RETAKE_FIRST_MS; !stop.signal.aborted; waitMs = Math.min(waitMs * 2, RETAKE_MAX_MS)) {
        await sleep(waitMs, undefined, { signal: stop.signal, ref: false }).catch(() => {});
        if (stop.signal.aborted) return;
        try {
          session = await take(options);
          options.log("the lock on the database broke with its session and is held again");
          break;
        } catch (error) {
          if (error instanceof DataFolderInUse) return options.onLost(error);
          options.log(`the lock on the database is not held: ${error instanceof Error ? error.message : error}`);
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

async function take({ url, dataDir }: { url: string; dataDir: string }): Promise<Session> {
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
    const deadline = Date.now() + TAKE_TIMEOUT_MS;
    for (;;) {
      if (await tryLockSession(client, LOCKS.server)) return { broken, end };
      if (Date.now() > deadline) throw new DataFolderInUse(dataDir, await holderPid(client));
      await sleep(TAKE_POLL_MS);
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
