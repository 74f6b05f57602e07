// One flush: many appends to `log.append_v3` in one round trip and one commit, and what came of each.

import type pg from "pg";
import { type Appended, type NewEvent, positionOf, type RecordedEvent, WrongExpectedRevision } from "../event-store.ts";

/** An append as a flush carries it. */
export type FlushAppend = { readonly stream: string; readonly expected: number; readonly events: readonly NewEvent[] };

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
export async function prepareForFlushes(client: pg.ClientBase, timeoutMs: number): Promise<number | undefined> {
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
export async function sendFlush(
  client: pg.ClientBase,
  logId: string,
  appends: readonly FlushAppend[],
): Promise<FlushResult> {
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
