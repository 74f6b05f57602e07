// Turns at writing a stream: who loses a race waits in line instead of racing again. Turns, not safety: the expected
// revision of the append is what keeps two writers apart, also when a turn is lost with its connection.

import pg from "pg";
import { messageOf } from "../platform/backoff.ts";
import { StoreUnavailable } from "./event-store.ts";

/** First come, first served, by stream. */
export interface StreamTurns {
  /**
   * Waits for a turn at the stream; dispose it to let the next one go. `undefined` when the time (milliseconds) is
   * up: go on without. Throws `StoreUnavailable` when turns cannot be had at all.
   */
  acquire(stream: string, options: { timeoutMs: number }): Promise<AsyncDisposable | undefined>;
  /** The streams among these whose turn somebody holds right now. Throws `StoreUnavailable` when that cannot be asked. */
  taken(streams: ReadonlySet<string>): Promise<readonly string[]>;
}

/** Turns that wait or are held at once in one process; more wait for one of these connections, within their time. */
export const MAX_TURN_CONNECTIONS = 8;
const CONNECT_TIMEOUT_MS = 5_000;
/** Apart from other users of 64-bit advisory locks in the database. */
const HASH_SEED = 7_220_114_563n;
const LOCK_NOT_AVAILABLE = "55P03";

/**
 * Turns between processes: a session's advisory lock by a hash of the stream's name, which PostgreSQL gives in the
 * order of asking. Two names of the same hash share a turn. A URL opens a bounded pool, which disposing ends; a pool
 * that is handed over stays its owner's, and each turn holds one of its connections.
 */
export function postgresStreamTurns(database: pg.Pool | string): StreamTurns & AsyncDisposable {
  const own = typeof database === "string";
  const pool = own
    ? new pg.Pool({
        connectionString: database,
        max: MAX_TURN_CONNECTIONS,
        connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
        keepAlive: true,
        application_name: "chatapi turns",
      })
    : database;
  if (own) pool.on("error", () => {}); // an idle connection ended: the pool makes another
  return {
    acquire: (stream, { timeoutMs }) => acquire(pool, stream, timeoutMs),
    // Whoever stops asks no more, and what was to be asked after that is of no use.
    taken: async (streams) => (pool.ending ? [] : taken(pool, streams)),
    [Symbol.asyncDispose]: async () => {
      if (own) await pool.end();
    },
  };
}

async function acquire(pool: pg.Pool, stream: string, timeoutMs: number): Promise<AsyncDisposable | undefined> {
  const startedAt = performance.now();
  let client: pg.PoolClient | undefined;
  try {
    client = await connectWithin(pool, timeoutMs);
  } catch (error) {
    throw new StoreUnavailable(`no connection for a turn: ${messageOf(error)}`, { cause: error });
  }
  if (client === undefined) return undefined;
  // A connection that is out of its pool has nobody else who hears its errors; the query under way fails by itself.
  const ignore = () => {};
  client.on("error", ignore);
  const giveBack = (destroy: boolean) => {
    client.off("error", ignore);
    client.release(destroy);
  };
  // 0 would mean to wait for ever.
  const lockTimeoutMs = Math.max(1, Math.ceil(timeoutMs - (performance.now() - startedAt)));
  try {
    await client.query("SELECT set_config('lock_timeout', $1, false)", [`${lockTimeoutMs}ms`]);
    await client.query("SELECT pg_advisory_lock(hashtextextended($1, $2))", [stream, HASH_SEED]);
  } catch (error) {
    const timeIsUp = error instanceof pg.DatabaseError && error.code === LOCK_NOT_AVAILABLE;
    giveBack(!timeIsUp);
    if (timeIsUp) return undefined;
    throw new StoreUnavailable(`no turn: ${messageOf(error)}`, { cause: error });
  }
  return once(async () => {
    try {
      const held = await client.query<{ freed: boolean }>(
        "SELECT pg_advisory_unlock(hashtextextended($1, $2)) AS freed",
        [stream, HASH_SEED],
      );
      giveBack(held.rows[0]?.freed !== true);
    } catch {
      giveBack(true); // the lock ends with its session
    }
  });
}

/** Tries each lock and gives it back within one statement. */
async function taken(pool: pg.Pool, streams: ReadonlySet<string>): Promise<readonly string[]> {
  const key = "hashtextextended(stream, $2)";
  try {
    const { rows } = await pool.query<{ stream: string }>({
      name: "turns-taken",
      text: `SELECT stream FROM unnest($1::text[]) AS stream
             WHERE CASE WHEN pg_try_advisory_lock(${key}) THEN NOT pg_advisory_unlock(${key}) ELSE true END`,
      values: [[...streams], HASH_SEED],
    });
    return rows.map(({ stream }) => stream);
  } catch (error) {
    throw new StoreUnavailable(`no word on turns: ${messageOf(error)}`, { cause: error });
  }
}

/** A connection, or undefined when the time is up first; one that comes later goes back. */
async function connectWithin(pool: pg.Pool, timeoutMs: number): Promise<pg.PoolClient | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const timeIsUp = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, undefined);
  });
  const connecting = pool.connect();
  try {
    const client = await Promise.race([connecting, timeIsUp]);
    if (client === undefined) {
      connecting.then(
        (late) => late.release(),
        () => {},
      );
    }
    return client;
  } finally {
    clearTimeout(timer);
  }
}

/** Turns within this process alone: enough for a log that only one process writes. */
export function localTurns(): StreamTurns {
  const lines = new Map<string, (() => void)[]>();

  function turn(stream: string): AsyncDisposable {
    return once(async () => {
      const next = lines.get(stream)?.shift();
      if (next === undefined) lines.delete(stream);
      else next();
    });
  }

  return {
    taken: async (streams) => [...streams].filter((stream) => lines.has(stream)),
    acquire: (stream, { timeoutMs }) => {
      const line = lines.get(stream);
      if (line === undefined) {
        lines.set(stream, []);
        return Promise.resolve(turn(stream));
      }
      return new Promise((resolve) => {
        const go = () => {
          clearTimeout(timer);
          resolve(turn(stream));
        };
        const timer = setTimeout(() => {
          line.splice(line.indexOf(go), 1);
          resolve(undefined);
        }, timeoutMs);
        line.push(go);
      });
    },
  };
}

/** Disposing twice would give away somebody else's turn. */
function once(release: () => Promise<void>): AsyncDisposable {
  let released: Promise<void> | undefined;
  return {
    [Symbol.asyncDispose]: () => {
      released ??= release();
      return released;
    },
  };
}
