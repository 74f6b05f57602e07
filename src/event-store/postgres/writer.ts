// Group commit without a timer: what waits goes out together as soon as a flush before it has its outcome.

import { setImmediate as tick } from "node:timers/promises";
import pg from "pg";
import { failpoint } from "../../platform/failpoint.ts";
import { type Connection, connect, within } from "../../platform/postgres.ts";
import { backoffMs, messageOf, pause, type WarnLogger } from "../../platform/supervise.ts";
import { type Appended, type NewEvent, OutcomeUnknown, type RecordedEvent, StoreUnavailable } from "../event-store.ts";
import { type FlushAppend, prepareForFlushes, sendFlush } from "./flush.ts";

const MAX_FLUSH_APPENDS = 2_000;
/** A flush of so many bytes, counting EVENT_OVERHEAD_BYTES an event, takes no further append. */
const MAX_FLUSH_BYTES = 8 * 1024 * 1024;
/** Appends and bytes that may wait for a flush; an append beyond them is rejected at once and may be sent again. */
const MAX_WAITING_APPENDS = 20_000;
const MAX_WAITING_BYTES = 64 * 1024 * 1024;
/** What an event costs in memory and on the wire besides its bytes. */
const EVENT_OVERHEAD_BYTES = 128;

/** SQLSTATE classes of errors that pass, or that no single append is to blame for. */
const PASSING = new Set(["08", "25", "40", "53", "55", "57", "58", "XX"]);

type WriterOptions = {
  readonly url: string;
  readonly logId: string;
  /** How long an append waits for its answer, including its wait for a flush. */
  readonly appendTimeoutMs: number;
  /** Called with what a flush wrote, in position order without gaps, before its callers are answered. */
  readonly onWritten: (events: readonly RecordedEvent[]) => void;
  readonly logger: WarnLogger | undefined;
};

type WaitingAppend = FlushAppend & {
  readonly bytes: number;
  /** Answers the caller; the first answer counts. */
  readonly resolve: (appended: Appended) => void;
  readonly reject: (error: Error) => void;
};

/** Writes over one connection, opened again whenever it drops. */
export class Writer {
  readonly #options: WriterOptions;
  readonly #closing = new AbortController();
  /** Aborted when what still waits is given up. */
  readonly #stopped = new AbortController();
  readonly #loop: Promise<void>;
  #waiting: WaitingAppend[] = [];
  #waitingBytes = 0;
  #wake: () => void = () => {};
  #processId: number | undefined;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#loop = this.#keepFlushing();
  }

  /** PostgreSQL's process that serves the writer now; it is the sender of the notifications of its flushes. */
  get processId(): number | undefined {
    return this.#processId;
  }

  /** `bytes` is the size of the events, which the caller has checked. Rejects as `EventStore.append` does. */
  append(stream: string, expected: number, events: readonly NewEvent[], bytes: number): Promise<Appended> {
    if (this.#closing.signal.aborted) return Promise.reject(new StoreUnavailable("the log is closed"));
    if (this.#waiting.length >= MAX_WAITING_APPENDS || this.#waitingBytes >= MAX_WAITING_BYTES) {
      return Promise.reject(new OutcomeUnknown("too many appends wait; this one was not sent"));
    }
    return new Promise((resolve, reject) => {
      const append: WaitingAppend = {
        stream,
        expected,
        events,
        bytes: bytes + events.length * EVENT_OVERHEAD_BYTES,
        resolve: (appended) => {
          clearTimeout(timer);
          resolve(appended);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        const at = this.#waiting.indexOf(append);
        if (at >= 0) {
          this.#waiting.splice(at, 1);
          this.#waitingBytes -= append.bytes;
        }
        reject(new OutcomeUnknown(`no answer within ${this.#options.appendTimeoutMs} ms`));
      }, this.#options.appendTimeoutMs);
      this.#waiting.push(append);
      this.#waitingBytes += append.bytes;
      this.#wake();
    });
  }

  /** Takes no further append, sends what waits (each within its own time), and closes the connection. */
  async close(): Promise<void> {
    this.#closing.abort();
    if (this.#waiting.length === 0) this.#stopped.abort();
    const timer = setTimeout(() => this.#stopped.abort(), this.#options.appendTimeoutMs);
    this.#wake();
    await this.#loop;
    clearTimeout(timer);
  }

  get #isDone(): boolean {
    return this.#closing.signal.aborted && (this.#waiting.length === 0 || this.#stopped.signal.aborted);
  }

  async #keepFlushing(): Promise<void> {
    const { url, appendTimeoutMs, logger } = this.#options;
    let failures = 0;
    while (!this.#isDone) {
      let connection: Connection | undefined;
      try {
        connection = await connect(url, "chatapi log writer");
        const prepared = prepareForFlushes(connection.client, appendTimeoutMs);
        this.#processId = await within(appendTimeoutMs, prepared, "no answer in time");
        await this.#flushOn(connection, () => {
          failures = 0;
        });
      } catch (error) {
        failures += 1;
        logger?.warn({ failures, err: error }, "connection of the log's writer failed; connecting again");
        connection?.cut();
      }
      await connection?.close();
      if (!this.#isDone && failures > 0) await pause(backoffMs(failures), this.#stopped.signal);
    }
  }

  /**
   * Flushes until the connection fails (throws), or the log is closed and every append has its outcome. One flush at a time: a
   * second one behind it would leave with the first append that comes, and all the others would wait for two.
   */
  async #flushOn(connection: Connection, succeeded: () => void): Promise<void> {
    let failure: Error | undefined;
    void connection.ended.then((error) => {
      failure = error;
      this.#wake();
    });
    for (;;) {
      await tick(); // so that callers that the last flush answered can be in the next one
      if (failure !== undefined) throw failure;
      if (this.#waiting.length > 0) {
        const appends = this.#take();
        try {
          await this.#send(connection, appends);
        } catch (error) {
          rejectUnknown(appends, error);
          throw error;
        }
        succeeded();
      } else if (this.#isDone) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /**
   * What the next flush carries, in the order of the calls. Of a stream each append must expect what the one before leaves; those
   * that do not wait for the next flush, with all that come after them in their stream.
   */
  #take(): readonly WaitingAppend[] {
    const taken: WaitingAppend[] = [];
    const skipped: WaitingAppend[] = [];
    const revisions = new Map<string, number>();
    let bytes = 0;
    let index = 0;
    for (const append of this.#waiting) {
      if (taken.length >= MAX_FLUSH_APPENDS || bytes >= MAX_FLUSH_BYTES) break;
      index += 1;
      const { stream, expected, events } = append;
      if ((revisions.get(stream) ?? expected) === expected) {
        revisions.set(stream, expected + events.length);
        taken.push(append);
        bytes += append.bytes;
      } else {
        revisions.set(stream, Number.NaN);
        skipped.push(append);
      }
    }
    this.#waiting = [...skipped, ...this.#waiting.slice(index)];
    this.#waitingBytes -= bytes;
    return taken;
  }

  /** Sends appends and answers them. Throws when the connection is of no more use; then some may be without an answer. */
  async #send(connection: Connection, appends: readonly WaitingAppend[]): Promise<void> {
    const { logId, appendTimeoutMs, onWritten, logger } = this.#options;
    try {
      const sending = sendFlush(connection.client, logId, appends);
      failpoint("flush-sent/commit-known");
      const { outcomes, written } = await within(appendTimeoutMs, sending, "a flush got no answer in time");
      failpoint("commit-known/subscribers-notified");
      if (written.length > 0) onWritten(written);
      appends.forEach((append, index) => {
        const outcome = outcomes[index];
        if (outcome instanceof Error) append.reject(outcome);
        else if (outcome !== undefined) append.resolve(outcome);
      });
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.severity !== "ERROR") throw error;
      if (PASSING.has(error.code?.slice(0, 2) ?? "")) {
        logger?.warn({ appends: appends.length, err: error }, "flush failed; its appends may be sent again");
        rejectUnknown(appends, error);
        return;
      }
      // One append that the server cannot take must not take the others with it.
      const [only] = appends;
      if (appends.length === 1 && only !== undefined) {
        only.reject(new Error(`the log refused an append: ${messageOf(error)}`, { cause: error }));
        return;
      }
      const half = appends.length >> 1;
      await this.#send(connection, appends.slice(0, half));
      await this.#send(connection, appends.slice(half));
    }
  }
}

function rejectUnknown(appends: readonly WaitingAppend[], cause: unknown): void {
  for (const append of appends) {
    append.reject(new OutcomeUnknown(`the flush failed: ${messageOf(cause)}`, { cause }));
  }
}
