// Group commit without a timer: whatever waits goes out as soon as one of two connections is free.

import { setImmediate as turnOfTheLoop } from "node:timers/promises";
import pg from "pg";
import { failpoint } from "../../platform/failpoint.ts";
import { type Connection, connect, within } from "../../platform/postgres.ts";
import { backoffMs, messageOf, pause, type WarnLogger } from "../../platform/supervise.ts";
import { type Appended, type NewEvent, OutcomeUnknown, type RecordedEvent, StoreUnavailable } from "../event-store.ts";
import { AppendQueue, type Flush, type WaitingAppend } from "./append-queue.ts";
import { prepareForFlushes, sendFlush } from "./flush.ts";

/** Flushes on their way at once, each on its own connection. */
const FLUSHES_IN_FLIGHT = 2;
/** Callers that may be held while the queue is full; the next is told at once to send again. */
const MAX_HELD_CALLERS = 10_000;
/** What an event costs in memory and on the wire beside its bytes. */
const EVENT_OVERHEAD_BYTES = 128;

/** Errors of the server (their class) that pass, or that no single append is to blame for. */
const PASSING = new Set(["08", "25", "40", "53", "55", "57", "58", "XX"]);

type FlusherOptions = {
  readonly url: string;
  readonly logId: string;
  readonly appendTimeoutMs: number;
  /** Number of the last event known to be in the log. */
  readonly end: () => number;
  /** Called with what a flush wrote once it is durable, in position order without gaps, before its callers get their answers. */
  readonly written: (events: readonly RecordedEvent[]) => void;
  readonly logger?: WarnLogger | undefined;
};

export class Flusher {
  readonly #options: FlusherOptions;
  readonly #queue = new AppendQueue();
  readonly #held: (() => void)[] = [];
  readonly #closing = new AbortController();
  readonly #cut = new AbortController();
  readonly #loops: readonly Promise<void>[];
  /** Loops that wait for work. */
  readonly #idle = new Set<() => void>();
  /** Flushes without an outcome yet; the numbers of their events are greater than `after`. */
  readonly #underWay = new Set<{ readonly after: number; readonly outcome: Promise<void> }>();

  constructor(options: FlusherOptions) {
    this.#options = options;
    this.#loops = Array.from({ length: FLUSHES_IN_FLIGHT }, () => this.#keepFlushing());
  }

  /** `bytes` is the size of the events, checked by the caller. */
  append(stream: string, expected: number, events: readonly NewEvent[], bytes: number): Promise<Appended> {
    if (this.#closing.signal.aborted) return Promise.reject(new StoreUnavailable("the log is closed"));
    const held = !this.#queue.hasRoom || this.#held.length > 0;
    if (held && this.#held.length >= MAX_HELD_CALLERS) {
      return Promise.reject(new OutcomeUnknown("too many appends wait; this one was not sent"));
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        append.settled = true;
      };
      const append: WaitingAppend = {
        stream,
        expected,
        events,
        bytes: bytes + events.length * EVENT_OVERHEAD_BYTES,
        settled: false,
        resolve: (appended) => {
          settle();
          resolve(appended);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      const enter = () => {
        this.#queue.push(append);
        this.#wakeOne();
      };
      const timer = setTimeout(() => {
        const at = this.#held.indexOf(enter);
        if (at >= 0) this.#held.splice(at, 1);
        append.reject(new OutcomeUnknown(`no answer within ${this.#options.appendTimeoutMs} ms`));
        this.#queue.remove(append);
        this.#letIn();
      }, this.#options.appendTimeoutMs);
      if (held) this.#held.push(enter);
      else enter();
    });
  }

  /** Resolves when every flush that may have written the log's event of this number has its outcome; undefined when none may. */
  outcomeOf(number: number): Promise<unknown> | undefined {
    const outcomes = [...this.#underWay].flatMap(({ after, outcome }) => (after < number ? [outcome] : []));
    return outcomes.length === 0 ? undefined : Promise.all(outcomes);
  }

  /** Takes nothing more, sends what waits (each append within its own time), and ends the connections. */
  async close(): Promise<void> {
    this.#closing.abort();
    if (this.#queue.isEmpty && this.#held.length === 0) this.#cut.abort();
    for (const wake of this.#idle) wake();
    const timer = setTimeout(() => this.#cut.abort(), this.#options.appendTimeoutMs);
    await Promise.all(this.#loops);
    clearTimeout(timer);
  }

  get #isDone(): boolean {
    return (
      this.#closing.signal.aborted && ((this.#queue.isEmpty && this.#held.length === 0) || this.#cut.signal.aborted)
    );
  }

  #wakeOne(): void {
    const [wake] = this.#idle;
    wake?.();
  }

  #letIn(): void {
    while (this.#queue.hasRoom) {
      const enter = this.#held.shift();
      if (enter === undefined) return;
      enter();
    }
  }

  /** One of the connections, for as long as the log is open. */
  async #keepFlushing(): Promise<void> {
    const { url, appendTimeoutMs, logger } = this.#options;
    let failures = 0;
    while (!this.#isDone) {
      let connection: Connection | undefined;
      try {
        connection = await connect(url, "chatapi log writer", { pipeline: true });
        await within(appendTimeoutMs, prepareForFlushes(connection.client, appendTimeoutMs), "no answer in time");
        await this.#flushOn(connection, () => {
          failures = 0;
        });
      } catch (error) {
        failures += 1;
        logger?.warn({ failures, err: error }, "a connection of the log's writer failed");
        connection?.cut();
      }
      if (this.#queue.hasReady) this.#wakeOne(); // the other connection may be better off
      await connection?.close();
      if (!this.#isDone && failures > 0) await pause(backoffMs(failures), this.#cut.signal);
    }
  }

  /** Flushes until the connection ends (throws) or the log is closed and nothing waits. */
  async #flushOn(connection: Connection, succeeded: () => void): Promise<void> {
    let lost: Error | undefined;
    let wake = () => {};
    connection.ended.then((reason) => {
      lost = reason;
      wake();
    });
    while (!this.#isDone) {
      // A turn of the event loop, so that the callers that the last flush answered can be in the next one.
      await turnOfTheLoop();
      if (lost !== undefined) throw lost;
      const flush = this.#queue.take();
      this.#letIn();
      if (flush === undefined) {
        if (this.#isDone) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
          this.#idle.add(resolve);
        });
        this.#idle.delete(wake);
        continue;
      }
      if (this.#queue.hasReady) this.#wakeOne();
      const { promise: outcome, resolve: settle } = Promise.withResolvers<void>();
      const underWay = { after: this.#options.end(), outcome };
      this.#underWay.add(underWay);
      try {
        await this.#send(connection, flush.appends);
        succeeded();
      } catch (error) {
        unknown(flush.appends, error);
        throw error;
      } finally {
        this.#underWay.delete(underWay);
        settle();
        this.#finish(flush);
      }
    }
  }

  #finish(flush: Flush): void {
    this.#queue.done(flush);
    // The other loop may sleep while streams of this flush were all that waited.
    if (this.#queue.hasReady || this.#closing.signal.aborted) this.#wakeOne();
  }

  /** Sends appends and answers them. Throws when the connection is of no more use; some may be without an answer. */
  async #send(connection: Connection, appends: readonly WaitingAppend[]): Promise<void> {
    try {
      const sending = sendFlush(connection.client, this.#options.logId, appends);
      failpoint("flush-sent/commit-known");
      const { outcomes, written } = await within(
        this.#options.appendTimeoutMs,
        sending,
        "a flush got no answer in time",
      );
      failpoint("commit-known/subscribers-told");
      if (written.length > 0) this.#options.written(written);
      appends.forEach((append, index) => {
        const outcome = outcomes[index];
        if (outcome instanceof Error) append.reject(outcome);
        else if (outcome !== undefined) append.resolve(outcome);
      });
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.severity !== "ERROR") throw error;
      if (PASSING.has(error.code?.slice(0, 2) ?? "")) {
        this.#options.logger?.warn({ appends: appends.length, err: error }, "a flush failed");
        unknown(appends, error);
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

function unknown(appends: readonly WaitingAppend[], cause: unknown): void {
  for (const append of appends) {
    if (!append.settled) append.reject(new OutcomeUnknown(`the flush failed: ${messageOf(cause)}`, { cause }));
  }
}
