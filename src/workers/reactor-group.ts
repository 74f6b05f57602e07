// Runs the reactors: in one process at a time, their jobs and their checkpoint in one transaction.
import type pg from "pg";
import type { Logger } from "pino";
import { SECOND_MS } from "../contract/time.ts";
import { decode } from "../event-store/envelope.ts";
import { type Batch, type EventStore, type Position, parsePosition } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import { holds, type LeaseTerm } from "../platform/leader.ts";
import { type Checkpoint, Consumer, FenceLost, lagOf } from "../projections/consumer.ts";
import { ForeignCheckpoint } from "../projections/group.ts";
import { inTransaction, type JobQueue, type Sql } from "./queue.ts";
import { jobsOf, REACTED_TYPES } from "./reactors.ts";

const GROUP = "reactors";
/** How often the checkpoint moves over events that lead to no job. They are read again after a crash, which is harmless. */
const IDLE_CHECKPOINT_MS = SECOND_MS;
/** A transaction costs as much as many jobs. */
const LINGER_MS = 5;

export type ReactorStatus = {
  readonly state: string;
  readonly handled: Checkpoint;
  /** How far they are behind the log's end, in positions; null when the end cannot be read now. */
  readonly lag: number | null;
  readonly lastError: string | null;
};

type ReactorGroupOptions = {
  readonly pool: pg.Pool;
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly jobs: JobQueue;
  readonly logger: Logger;
  readonly now: () => number;
  /** No other process works on this database: a crashed one's lease is taken at once. Default false. */
  readonly alone?: boolean;
};

/**
 * Begins at the stored checkpoint, on a fresh schema at the log's end, in the process that leads. Throws ForeignCheckpoint.
 */
export async function startReactors(options: ReactorGroupOptions) {
  const { pool, store, keyring, jobs, logger, now, alone = false } = options;
  /** The checkpoint as last read. */
  let stored = await openCheckpoint(options);
  failpoint("reactors-placed/lead");

  async function open(term: LeaseTerm | undefined) {
    stored = await openCheckpoint(options);
    let saved = stored;
    let savedAt = now();
    const handle = async ({ events, upTo }: Batch) => {
      const opened = await decode(
        keyring,
        events.filter((event) => REACTED_TYPES.has(event.type)),
      );
      const due = opened.flatMap(jobsOf);
      if (due.length === 0 && now() < savedAt + IDLE_CHECKPOINT_MS) return;
      failpoint("jobs-due/checkpoint-moved");
      await inTransaction(pool, async (sql) => {
        await moveCheckpoint(sql, term, saved, upTo);
        failpoint("checkpoint-moved/enqueued");
        if (due.length > 0) await jobs.enqueue(sql, due);
        failpoint("enqueued/commit");
      });
      failpoint("jobs-committed/workers-notified");
      jobs.notifyQueued(due);
      saved = upTo;
      savedAt = now();
    };
    return { after: saved, handle };
  }

  const lease = { pool, table: "jobs.leases", name: GROUP, alone } as const;
  const consumer = new Consumer({ name: GROUP, store, logger, lingerMs: LINGER_MS, lease, open });
  await consumer.start();
  return {
    /** Whether this process runs them. */
    leads: () => consumer.leads,
    /** All events up to here have led to their jobs, as far as this process knows: the one that leads knows best. */
    handled: (): Checkpoint => consumer.status().handled ?? stored,
    async status(): Promise<ReactorStatus> {
      const { state, handled = stored, lastError } = consumer.status();
      if (state === "standby") stored = (await readCheckpoint(options)) ?? stored;
      const known = state === "standby" ? stored : handled;
      return { state, handled: known, lag: await lagOf(store, known), lastError };
    },
    [Symbol.asyncDispose]: () => consumer[Symbol.asyncDispose](),
  };
}

/** Begins at the log's end when there is none yet. Throws ForeignCheckpoint. */
async function openCheckpoint(options: ReactorGroupOptions): Promise<Position> {
  const tail = await options.store.tail();
  await options.pool.query(
    "insert into jobs.reactor_checkpoints (name, position) values ($1, $2) on conflict do nothing",
    [GROUP, tail],
  );
  return (await readCheckpoint(options)) ?? tail;
}

/** Undefined when there is none. Throws ForeignCheckpoint when it is another log's. */
async function readCheckpoint({ pool, store }: ReactorGroupOptions): Promise<Position | undefined> {
  const { rows } = await pool.query<{ position: Position }>(
    "select position from jobs.reactor_checkpoints where name = $1",
    [GROUP],
  );
  const position = rows[0]?.position;
  if (position !== undefined && parsePosition(position)?.logId !== store.logId) {
    throw new ForeignCheckpoint(`the schema jobs belongs to another log than ${store.logId}: drop it to start afresh`);
  }
  return position;
}

async function moveCheckpoint(sql: Sql, term: LeaseTerm | undefined, from: Position, to: Position): Promise<void> {
  const values: unknown[] = [GROUP, from, to];
  const add = (value: unknown) => `$${values.push(value)}`;
  const text = `update jobs.reactor_checkpoints set position = $3 where name = $1
    and /* fence: reactors-checkpoint */ position = $2 /* end */
    ${term === undefined ? "" : `and /* fence: reactors-lease */ ${holds(term, add)}`} returning name`;
  const { rows } = await sql.executeSql(text, values);
  if (rows.length === 0) throw new FenceLost("another process moved the reactors' checkpoint, or leads");
}
