// What wakes this process's subscriptions: NOTIFY, a slow poll for lost notifications, and its own appends.

import { type Connection, connect, within } from "../../platform/postgres.ts";
import { backoffMs, pause, type WarnLogger } from "../../platform/supervise.ts";
import { positionOf } from "../event-store.ts";
import type { FeedListener } from "../subscription.ts";
import { CHANNEL } from "./schema.ts";

/** Finds appends whose notification was lost, and a connection that died silently. */
const POLL_MS = 1_000;
const POLL_TIMEOUT_MS = 5_000;

type WakeUpsOptions = {
  readonly url: string;
  readonly logId: string;
  readonly logger: WarnLogger | undefined;
};

/** One listening connection for all subscriptions of this process, opened again whenever it drops. */
export class WakeUps {
  readonly #options: WakeUpsOptions;
  readonly #listeners = new Set<FeedListener>();
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  #end = 0;

  constructor(options: WakeUpsOptions) {
    this.#options = options;
    this.#loop = this.#keepListening();
  }

  /** Number of the last event known to be in the log. */
  get end(): number {
    return this.#end;
  }

  /** Tells the subscriptions that the log has an event of this number. */
  announce(number: number): void {
    if (!(number > this.#end)) return;
    this.#end = number;
    for (const listener of this.#listeners) listener.appended(this.#position());
  }

  /** Adds a listener and tells it how far the log goes; returns how to remove it. */
  listen(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    if (this.#end > 0) listener.appended(this.#position());
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
  }

  #position() {
    return positionOf(this.#options.logId, this.#end);
  }

  async #keepListening(): Promise<void> {
    const { url, logger } = this.#options;
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      let connection: Connection | undefined;
      try {
        connection = await connect(url, "chatapi log listener");
        await this.#listenOn(connection, () => {
          failures = 0;
        });
      } catch (error) {
        failures += 1;
        logger?.warn({ failures, err: error }, "listening to the log failed; connecting again");
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
    client.on("notification", ({ payload }) => this.announce(Number(payload)));
    await within(POLL_TIMEOUT_MS, client.query(`LISTEN ${CHANNEL}`), "LISTEN got no answer");
    while (!this.#closing.signal.aborted) {
      const poll = client.query<{ tail: string }>("SELECT coalesce(max(position), 0) AS tail FROM log.events");
      const { rows } = await within(POLL_TIMEOUT_MS, poll, "the log did not answer");
      this.announce(Number(rows[0]?.tail));
      succeeded();
      await pause(POLL_MS, interrupted);
      if (reason !== undefined) throw reason;
    }
  }
}
