// How far the log reaches, as this process knows: told by its own writer, by NOTIFY, and by a slow poll.

import { backoffMs, pause, type WarnLogger } from "../backoff.ts";
import { type Position, positionOf } from "../event-store.ts";
import type { FeedListener } from "../subscription.ts";
import { type Connection, connect, within } from "./connect.ts";
import { CHANNEL } from "./schema.ts";

/** For notifications that got lost, and to notice a connection that died in silence. */
const POLL_MS = 1_000;
const POLL_TIMEOUT_MS = 5_000;

/** One listening connection for all subscriptions of this process, made again whenever it drops. */
export class Announcer {
  readonly #url: string;
  readonly #logId: string;
  readonly #logger: WarnLogger | undefined;
  readonly #listeners = new Set<FeedListener>();
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  #tail = 0;

  constructor(url: string, logId: string, logger: WarnLogger | undefined) {
    this.#url = url;
    this.#logId = logId;
    this.#logger = logger;
    this.#loop = this.#keepListening();
  }

  /** The number of the last event that is known to be in the log. */
  get tail(): number {
    return this.#tail;
  }

  /** The log holds everything up to this number. */
  reached(number: number): void {
    if (!(number > this.#tail)) return;
    this.#tail = number;
    const position = this.#position();
    for (const listener of this.#listeners) listener.appended(position);
  }

  listen(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    if (this.#tail > 0) listener.appended(this.#position());
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
  }

  #position(): Position {
    return positionOf(this.#logId, this.#tail);
  }

  async #keepListening(): Promise<void> {
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      let connection: Connection | undefined;
      try {
        connection = await connect(this.#url, "chatapi log listener");
        await this.#listenOn(connection, () => {
          failures = 0;
        });
      } catch (error) {
        failures += 1;
        this.#logger?.warn({ failures, err: error }, "listening to the log failed");
        for (const listener of this.#listeners) listener.failed(error);
      }
      await connection?.close();
      if (failures > 0) await pause(backoffMs(failures), this.#closing.signal);
    }
  }

  /** Throws when the connection ends or does not answer in time. */
  async #listenOn({ client, ended }: Connection, succeeded: () => void): Promise<void> {
    const lost = new AbortController();
    let reason: Error | undefined;
    ended.then((error) => {
      reason = error;
      lost.abort();
    });
    const interrupted = AbortSignal.any([this.#closing.signal, lost.signal]);
    client.on("notification", ({ payload }) => this.reached(Number(payload)));
    await within(POLL_TIMEOUT_MS, client.query(`LISTEN ${CHANNEL}`), "LISTEN got no answer");
    while (!this.#closing.signal.aborted) {
      const poll = client.query<{ tail: string }>("SELECT coalesce(max(position), 0) AS tail FROM log.events");
      const { rows } = await within(POLL_TIMEOUT_MS, poll, "the log did not answer");
      this.reached(Number(rows[0]?.tail));
      succeeded();
      await pause(POLL_MS, interrupted);
      if (reason !== undefined) throw reason;
    }
  }
}
