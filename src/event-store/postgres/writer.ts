// Group commit without a timer: what waits goes out together as soon as a flush before it has its outcome.

import { setImmediate as tick } from "node:timers/promises";
import pg from "pg";
import { failpoint } from "../../platform/failpoint.ts";
import { type Connection, connect, within } from "../../platform/postgres.ts";
import { backoffMs, messageOf, pause, type WarnLogger } from "../../platform/supervise.ts";
import {
  type Appended,
  type NewEvent,
  OutcomeUnknown,
  positionOf,
  type RecordedEvent,
  StoreUnavailable,
  WrongExpectedRevision,
} from "../event-store.ts";

// One flush: many appends to `log.append_v3` in one round trip and one commit, and what came of each.

/** An append as a flush carries it. */
type FlushAppend = { readonly stream: string; readonly expected: number; readonly events: readonly NewEvent[] };

type FlushResult = {
  /** By append: where its events are, or why they are not in the log. */
  readonly outcomes: readonly (Appended | WrongExpectedRevision)[];
  /** What was written, in position order without gaps. */
  readonly written: readonly RecordedEvent[];
};

type FlushRow = {
  readonly base: string;
  readonly recorded_ms: string;
  readonly x_append: number[] | null;
  readonly x_revision: number[] | null;
  readonly x_position: (string | null)[] | null;
};

const APPEND = {
  name: "chatapi-append-v3",
  text: `SELECT base, recorded_ms, x_append, x_revision, x_position
    FROM log.append_v3($1::text[], $2::int[], $3::int[], $4::int[], $5::int[], $6::text[], $7::int[], $8::uuid[], $9::text[], $10::bytea[], $11::bytea[])`,
};

/**
 * Sets a connection up for flushes, whatever the server's defaults are. The commit waits for the disk. Each statement of
 * the function sees what was committed before it got the lock. Its plans use the indexes, also those that are made while
 * the table is empty. Returns the id of PostgreSQL's process that serves the connection.
 */
async function prepareForFlushes(client: pg.ClientBase, timeoutMs: number): Promise<number | undefined> {
  await client.query(`
    /* fence: durable-answer */ SET synchronous_commit = on;
    SET default_transaction_isolation = 'read committed';
    SET default_transaction_read_only = off;
    SET statement_timeout = ${Math.ceil(timeoutMs)};
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET jit = off;
    SET work_mem = '32MB';
  `);
  const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  return rows[0]?.pid;
}

/**
 * Sends a flush. Of one stream each append must expect the revision that its last one in the flush leaves. When it throws a
 * `DatabaseError`, nothing was written; after any other error the outcome is unknown.
 */
async function sendFlush(client: pg.ClientBase, logId: string, appends: readonly FlushAppend[]): Promise<FlushResult> {
  const { rows } = await client.query<FlushRow>({ ...APPEND, values: encode(appends) });
  const row = rows[0];
  if (row === undefined) throw new Error("a flush got no answer");
  const exceptions = new Map((row.x_append ?? []).map((append, at) => [append - 1, at]));
  const recordedAt = Number(row.recorded_ms);
  const written: RecordedEvent[] = [];
  let last = Number(row.base);
  const outcomes = appends.map(({ stream, expected, events }, index): Appended | WrongExpectedRevision => {
    const at = exceptions.get(index);
    if (at !== undefined) {
      const revision = row.x_revision?.[at] ?? Number.NaN;
      const position = row.x_position?.[at] ?? null; // null unless its events were there already
      if (position === null) return new WrongExpectedRevision(stream, expected, revision);
      return { revision, position: positionOf(logId, Number(position)) };
    }
    let revision = expected;
    for (const event of events) {
      revision += 1;
      last += 1;
      written.push({ ...event, stream, revision, position: positionOf(logId, last), recordedAt });
    }
    return { revision, position: positionOf(logId, last) };
  });
  return { outcomes, written };
}

/** The parameters of `log.append_v3`. */
function encode(appends: readonly FlushAppend[]): Buffer[] {
  const firsts = new Map<string, number>();
  for (const { stream, expected } of appends) if (!firsts.has(stream)) firsts.set(stream, expected);
  const events = appends.flatMap(({ stream, expected, events }, index) =>
    events.map((event, nth) => ({ event, stream, append: index + 1, revision: expected + 1 + nth })),
  );
  return [
    textArray(appends.map(({ stream }) => stream)),
    intArray(appends.map(({ expected }) => expected)),
    intArray(appends.map(({ stream }) => firsts.get(stream) ?? Number.NaN)),
    intArray(appends.map((append) => append.events.length)),
    intArray(events.map(({ append }) => append)),
    textArray(events.map(({ stream }) => stream)),
    intArray(events.map(({ revision }) => revision)),
    uuidArray(events.map(({ event }) => event.id)),
    textArray(events.map(({ event }) => event.type)),
    bytesArray(events.map(({ event }) => event.data)),
    bytesArray(events.map(({ event }) => event.metadata)),
  ];
}

// Arrays in PostgreSQL's binary format: as text, the driver would escape each value and double every byte.

const INT4 = 23;
const TEXT = 25;
const BYTEA = 17;
const UUID = 2950;

const intArray = (values: readonly number[]): Buffer =>
  arrayOf(
    INT4,
    values,
    () => 4,
    (array, value, at) => array.writeInt32BE(value, at),
  );

const textArray = (values: readonly string[]): Buffer =>
  arrayOf(TEXT, values, Buffer.byteLength, (array, value, at) => array.write(value, at, "utf8"));

const uuidArray = (values: readonly string[]): Buffer =>
  arrayOf(
    UUID,
    values,
    () => 16,
    (array, value, at) => array.write(value.replaceAll("-", ""), at, "hex"),
  );

const bytesArray = (values: readonly Uint8Array[]): Buffer =>
  arrayOf(
    BYTEA,
    values,
    (value) => value.byteLength,
    (array, value, at) => array.set(value, at),
  );

/** One dimension without nulls, subscripts from 1. */
function arrayOf<T>(
  type: number,
  values: readonly T[],
  sizeOf: (value: T) => number,
  write: (array: Buffer, value: T, at: number) => unknown,
): Buffer {
  const sizes = values.map((value) => sizeOf(value));
  const array = Buffer.allocUnsafe(20 + sizes.reduce((sum, size) => sum + 4 + size, 0));
  let at = 0;
  for (const header of [1, 0, type, values.length, 1]) at = array.writeInt32BE(header, at);
  values.forEach((value, index) => {
    const size = sizes[index] ?? 0;
    at = array.writeInt32BE(size, at);
    write(array, value, at);
    at += size;
  });
  return array;
}

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
