// What wakes the subscriptions of this process, and what it wrote last: they need not read that back.

import { type Connection, connect, within } from "../../platform/postgres.ts";
import { backoffMs, pause, type WarnLogger } from "../../platform/supervise.ts";
import { positionOf, type RecordedEvent, withoutContent } from "../event-store.ts";
import type { FeedListener } from "../subscription.ts";

/** Notified once a flush, with the number of the log's last event as the payload. */
export const CHANNEL = "chatapi_log";
/** Finds appends whose notification was lost, and a connection that died silently. */
const POLL_MS = 2_000;
const POLL_TIMEOUT_MS = 5_000;

/** How many bytes of its own events a process keeps, counting EVENT_OVERHEAD_BYTES for each. */
const MAX_RECENT_BYTES = 16 * 1024 * 1024;
const EVENT_OVERHEAD_BYTES = 256;

type WakeUpsOptions = {
  readonly url: string;
  readonly logId: string;
  /** Whether the notifications of this process of PostgreSQL are of our own appends, which the writer announces. */
  readonly isOwn: (processId: number) => boolean;
  readonly logger: WarnLogger | undefined;
};

/**
 * Announces appends to the subscriptions of this process: its own as soon as they are answered, those of others by NOTIFY, and
 * by a slow poll. It holds one listening connection, opened again whenever it drops.
 */
export class WakeUps {
  readonly #options: WakeUpsOptions;
  readonly #listeners = new Set<FeedListener>();
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  /** Number of the last event known to be in the log. */
  #end = 0;

  constructor(options: WakeUpsOptions) {
    this.#options = options;
    this.#loop = this.#keepListening();
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
    client.on("notification", ({ processId, payload }) => {
      // Our own flush is announced with its answer, when its events are in memory; the notification may come first.
      if (!this.#options.isOwn(processId)) this.announce(Number(payload));
    });
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

/** The newest run of events without gaps that this process wrote, blobs without their content. Another process's append starts a new run. */
export class RecentEvents {
  readonly #maxBytes: number;
  #events: RecordedEvent[] = [];
  /** Number of the first event kept. */
  #first = 1;
  #bytes = 0;

  constructor(maxBytes = MAX_RECENT_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** Keeps events without gaps, the first of which is the log's `first`-th. The oldest go when there are too many bytes. */
  add(first: number, events: readonly RecordedEvent[]): void {
    if (first !== this.#first + this.#events.length) {
      this.#first = first;
      this.#events = [];
      this.#bytes = 0;
    }
    for (const event of events.map(withoutContent)) {
      this.#events.push(event);
      this.#bytes += bytesOf(event);
    }
    let dropped = 0;
    for (const event of this.#events) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#bytes -= bytesOf(event);
      dropped += 1;
    }
    this.#events.splice(0, dropped);
    this.#first += dropped;
  }

  /** At most `limit` events after the number `after`, without gaps; none when the next one is not here. */
  read(after: number, limit: number): readonly RecordedEvent[] {
    const from = after + 1 - this.#first;
    return from < 0 ? [] : this.#events.slice(from, from + limit);
  }
}

const bytesOf = ({ data, metadata }: RecordedEvent): number =>
  data.byteLength + metadata.byteLength + EVENT_OVERHEAD_BYTES;
