// Hears how far the log has grown: by NOTIFY, and by a slow poll.

import { type Connection, connect, within } from "../../platform/postgres.ts";
import { backoffMs, pause, type WarnLogger } from "../../platform/supervise.ts";
import type { Reach } from "./reach.ts";
import { CHANNEL } from "./schema.ts";

/** For notifications that got lost, and to notice a connection that died in silence. */
const POLL_MS = 1_000;
const POLL_TIMEOUT_MS = 5_000;

/** One listening connection for all subscriptions of this process, made again whenever it drops. */
export class Announcer {
  readonly #url: string;
  readonly #reach: Reach;
  readonly #logger: WarnLogger | undefined;
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;

  constructor(url: string, reach: Reach, logger: WarnLogger | undefined) {
    this.#url = url;
    this.#reach = reach;
    this.#logger = logger;
    this.#loop = this.#keepListening();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
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
        this.#reach.failed(error);
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
    client.on("notification", ({ payload }) => this.#reach.reached(Number(payload)));
    await within(POLL_TIMEOUT_MS, client.query(`LISTEN ${CHANNEL}`), "LISTEN got no answer");
    while (!this.#closing.signal.aborted) {
      const poll = client.query<{ tail: string }>("SELECT coalesce(max(position), 0) AS tail FROM log.events");
      const { rows } = await within(POLL_TIMEOUT_MS, poll, "the log did not answer");
      // fence: poll-durable
      await within(POLL_TIMEOUT_MS, this.#reach.untilDurable(Number(rows[0]?.tail)), "the log does not become durable");
      succeeded();
      await pause(POLL_MS, interrupted);
      if (reason !== undefined) throw reason;
    }
  }
}
