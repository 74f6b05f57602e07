// A connection to PostgreSQL outside a pool, with bounded waits and no unhandled error.

import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const CONNECT_TIMEOUT_MS = 5_000;
/** How long an orderly end may take before the socket is cut. */
const END_TIMEOUT_MS = 2_000;

export type Connection = {
  readonly client: pg.Client;
  /** Resolves with the reason when the connection has ended, by itself or by `close`. */
  readonly ended: Promise<Error>;
  /** Closes the socket at once, whatever is under way. */
  cut(): void;
  /** Ends the session in order, within END_TIMEOUT_MS; a query under way is cut, unless the connection pipelines. Never throws. */
  close(): Promise<void>;
};

/**
 * Opens one connection. With `pipeline`, a query is sent without waiting for the answers to those before it. Throws when
 * connecting fails or takes longer than CONNECT_TIMEOUT_MS.
 */
export async function connect(url: string, name: string, { pipeline = false } = {}): Promise<Connection> {
  const socket = new Socket();
  const client = new pg.Client({
    connectionString: url,
    stream: () => socket,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    application_name: name,
    pipeline,
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

/** The promise's result; throws an error with this message when `ms` pass first. */
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
