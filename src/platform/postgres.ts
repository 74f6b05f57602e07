// PostgreSQL: how connections and transactions are made, with bounded waits and no error that nobody handles.
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { WarnLogger } from "./supervise.ts";

const CONNECT_TIMEOUT_MS = 5_000;
/** How long a connection stays in a pool that nobody needs: making one costs as much as a hundred small queries. */
const IDLE_CONNECTION_MS = 60_000;
/** How long an orderly end may take before the socket is cut. */
const END_TIMEOUT_MS = 2_000;
/** How long PostgreSQL keeps a transaction open, and rows locked, whose client sends nothing more: it may be gone. */
const SILENCE_MS = 5_000;

const TIMED = { connectionTimeoutMillis: CONNECT_TIMEOUT_MS, keepAlive: true };

type PoolOptions = pg.PoolConfig & { readonly connectionString: string; readonly logger: WarnLogger | undefined };

/** Opens a pool; whoever opens it ends it. An idle connection that ends is logged, and replaced when one is needed. */
export function createPool({ logger, ...config }: PoolOptions): pg.Pool {
  const pool = new pg.Pool({ idleTimeoutMillis: IDLE_CONNECTION_MS, ...TIMED, ...config });
  const name = config.application_name ?? "chatapi";
  pool.on("error", (error) =>
    logger?.warn({ pool: name, err: error }, "database connection lost; the pool replaces it"),
  );
  return pool;
}

export type Connection = {
  readonly client: pg.Client;
  /** Resolves with the reason when the connection has ended, by itself or by `close`. */
  readonly ended: Promise<Error>;
  /** Cuts it off, whatever is under way. */
  cut(): void;
  /** Ends it in order; cuts it when a query is under way. Never throws. */
  close(): Promise<void>;
};

/** Opens one connection outside of any pool. Throws when that fails or takes longer than 5 s. */
export async function connect(url: string, name: string): Promise<Connection> {
  const socket = new Socket();
  const client = new pg.Client({
    connectionString: url,
    stream: () => socket,
    ...TIMED,
    application_name: name,
  });
  let reason = new Error("the connection ended");
  const ended = new Promise<Error>((resolve) => {
    client.on("error", (error) => {
      reason = error;
    });
    client.once("end", () => resolve(reason));
  });
  const cut = () => {
    socket.destroy();
  };
  try {
    await client.connect();
  } catch (error) {
    cut();
    throw error;
  }
  const close = async () => {
    const ending = client.end().catch(() => {}); // it had ended already
    await Promise.race([ending, sleep(END_TIMEOUT_MS, undefined, { ref: false })]);
    cut();
  };
  return { client, ended, cut, close };
}

type TransactionOptions = {
  readonly isolation?: "repeatable read";
  /** How long the transaction may stay idle before PostgreSQL ends it, in milliseconds. Default 5 s; 0: for ever. */
  readonly silenceMs?: number;
};

/** Runs `work` on a connection of its own, which goes back to the pool unless it broke. */
export async function withClient<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient, onBroken: (error: Error) => void) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  const onError = (error: Error) => {
    broken = error;
  };
  client.on("error", onError);
  try {
    return await work(client, onError);
  } finally {
    client.off("error", onError);
    client.release(broken);
  }
}

/** Runs `work` in a transaction on a connection of its own: commits what it did, or nothing when it throws. */
export const inTransaction = <T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
  options?: TransactionOptions,
): Promise<T> => withClient(pool, (client, onBroken) => transactionOn(client, () => work(client), options, onBroken));

/** The same on a connection that the caller holds. `onBroken` is called when not even the rollback succeeds. */
export async function transactionOn<T>(
  client: pg.ClientBase,
  work: () => Promise<T>,
  { isolation, silenceMs = SILENCE_MS }: TransactionOptions = {},
  onBroken: (error: Error) => void = () => {},
): Promise<T> {
  const begin = isolation === undefined ? "begin" : `begin isolation level ${isolation}`;
  try {
    // fence: transaction
    await client.query(`${begin}; set local idle_in_transaction_session_timeout = ${silenceMs}`);
    const result = await work();
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch(onBroken); // the first error says more
    throw error;
  }
}

/** The promise's result, or an error with this message when the time is up first. */
export async function within<T>(ms: number, work: Promise<T>, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeIsUp = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), ms);
  });
  try {
    return await Promise.race([work, timeIsUp]);
  } finally {
    clearTimeout(timer);
  }
}

/** The message of an error of ours: PostgreSQL took a query and did not answer it in time. */
export const NO_ANSWER = "PostgreSQL did not answer in time";

/** Of sockets and of name resolution. */
const NETWORK_CODES = new Set([
  ...["ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"],
  ...["ENOTFOUND", "EAI_AGAIN"],
]);
/** Of PostgreSQL: connection exceptions, no resources left, and a server that stops, starts or ended the session. */
const AWAY_STATES = /^(08...|53...|57P0[1-5]|25P0[34])$/;
/** What the client library says without a code. */
const AWAY_MESSAGES = [
  NO_ANSWER,
  "Connection terminated",
  "timeout exceeded when trying to connect",
  "Query read timeout",
  "Client has encountered a connection error and is not queryable",
  "Client was closed and is not queryable",
  "Cannot use a pool after calling end on the pool",
];

/** SQLSTATE of a table, or schema, that does not exist. */
export const UNDEFINED_TABLE = "42P01";

/** Whether PostgreSQL refused with one of these codes (SQLSTATE). */
export const hasCode = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof Error && "code" in error && typeof error.code === "string" && codes.includes(error.code);

/** Whether the error says that the database, or the way to it, is away for now. What was asked may have been done. */
export function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ("code" in error && typeof error.code === "string") {
    if (NETWORK_CODES.has(error.code) || AWAY_STATES.test(error.code)) return true;
  }
  return AWAY_MESSAGES.some((message) => error.message.startsWith(message)) || isDatabaseAway(error.cause);
}
