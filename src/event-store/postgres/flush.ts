// One flush: many appends to `log.append_v2` in one round trip, and what came of each once it is durable.

import type pg from "pg";
import type { Appended, RecordedEvent } from "../event-store.ts";
import { positionOf, WrongExpectedRevision } from "../event-store.ts";
import { CHANNEL } from "./schema.ts";
import { encodeFlush, type WireAppend } from "./wire.ts";

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
  readonly x_status: number[] | null;
  readonly x_revision: number[] | null;
  readonly x_position: (string | null)[] | null;
};

const ALREADY_THERE = 1;

const APPEND = {
  name: "chatapi-append-v2",
  text: `SELECT base, recorded_ms, x_append, x_status, x_revision, x_position
    FROM log.append_v2($1::text[], $2::int[], $3::int[], $4::int[], $5::int[], $6::text[], $7::int[], $8::uuid[], $9::text[], $10::bytea[], $11::bytea[])`,
};

/** Sent right behind it. Others are told as well, and not before: what they read must be there after a crash. */
const SETTLE = {
  name: "chatapi-settle-v1",
  text: `SELECT pg_notify('${CHANNEL}', log.durable_v1()::text)`,
};

/**
 * Sets a connection up for writing, whatever the server's defaults are. Each statement of a function sees what was committed before it got the lock; and the function's plans stay those by index, also
 * when they are made while the table is empty.
 */
export async function prepareForFlushing(client: pg.ClientBase, timeoutMs: number): Promise<void> {
  await client.query(`
    SET synchronous_commit = on;
    SET default_transaction_isolation = 'read committed';
    SET default_transaction_read_only = off;
    SET statement_timeout = ${Math.ceil(timeoutMs)};
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET jit = off;
    SET work_mem = '32MB';
  `);
}

/** Sends a flush and waits until it is durable. When it throws a `DatabaseError`, nothing was written. */
export async function sendFlush(
  client: pg.ClientBase,
  logId: string,
  appends: readonly WireAppend[],
): Promise<FlushResult> {
  const [written, durable] = await Promise.allSettled([
    client.query<FlushRow>({ ...APPEND, values: encodeFlush(appends) }),
    /* fence: flush-durable */ client.query(SETTLE),
  ]);
  if (written.status === "rejected") throw written.reason;
  if (durable.status === "rejected") throw new Error("a flush did not become durable", { cause: durable.reason });
  return resultOf(written.value, logId, appends);
}

function resultOf(result: pg.QueryResult<FlushRow>, logId: string, appends: readonly WireAppend[]): FlushResult {
  const row = result.rows[0];
  if (row === undefined) throw new Error("a flush got no answer");
  const exceptions = new Map((row.x_append ?? []).map((append, at) => [append - 1, at]));
  const recordedAt = Number(row.recorded_ms);
  const written: RecordedEvent[] = [];
  let last = Number(row.base);
  const outcomes = appends.map(({ stream, expected, events }, index): Appended | WrongExpectedRevision => {
    const at = exceptions.get(index);
    if (at !== undefined) {
      const revision = row.x_revision?.[at] ?? Number.NaN;
      if (row.x_status?.[at] !== ALREADY_THERE) return new WrongExpectedRevision(stream, expected, revision);
      return { revision, position: positionOf(logId, Number(row.x_position?.[at])) };
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
