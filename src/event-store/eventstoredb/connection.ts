// The client that reads go through, replaced when its server was away: what it connects with waits up to two minutes.
import { EventStoreDBClient } from "@eventstore/db-client";
import { isUnavailable } from "./records.ts";

/** The client's own default. */
const KEEP_ALIVE_TIMEOUT_MS = 10_000;
/** How many clients in a row have connections of their own. */
const DISTINCT = 1_000;
/** How often a client is replaced at most. */
const REPLACE_EVERY_MS = 1_000;

let made = 0;

/**
 * Makes a client that connects at once. gRPC keeps connections in one pool for the process, by their options, and those
 * that failed wait before they are tried again: a second at first, in the end two minutes. A client with the options of
 * another one waits with it, so each has a keepalive timeout that differs by some milliseconds.
 */
export function connectTo(url: string): EventStoreDBClient {
  made += 1;
  const named = [...url.matchAll(/[?&]keepAliveTimeout=(-?\d+)/gi)].at(-1);
  const timeoutMs = Number(named?.[1] ?? KEEP_ALIVE_TIMEOUT_MS);
  // Negative: none. Of an option that is there twice, the client takes the last.
  const option = `keepAliveTimeout=${timeoutMs < 0 ? timeoutMs : timeoutMs + (made % DISTINCT)}`;
  return EventStoreDBClient.connectionString(`${url}${url.includes("?") ? "&" : "?"}${option}`);
}

/** The client for reads and the live subscription. */
export class Connection {
  readonly #url: string;
  /** Monotonic, in milliseconds. */
  readonly #clock: () => number;
  #client: EventStoreDBClient;
  #connectedAt: number;

  constructor(url: string, clock = () => performance.now()) {
    this.#url = url;
    this.#clock = clock;
    this.#client = connectTo(url);
    this.#connectedAt = clock();
  }

  get client(): EventStoreDBClient {
    return this.#client;
  }

  /**
   * Replaces the client when its server was not there, so that the next call finds it as soon as it is. What the old one has
   * under way fails by itself.
   */
  failed(client: EventStoreDBClient, error: unknown): void {
    const now = this.#clock();
    if (client !== this.#client || !isUnavailable(error) || now < this.#connectedAt + REPLACE_EVERY_MS) return;
    this.#client = connectTo(this.#url);
    this.#connectedAt = now;
  }
}

/** What reads need of it. */
export type ReadConnection = Pick<Connection, "client" | "failed">;
