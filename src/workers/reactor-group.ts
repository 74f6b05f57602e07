// Runs the reactors: in one process at a time, their jobs and their checkpoint in one transaction.
import type pg from "pg";
import type { Logger } from "pino";
import { SECOND_MS } from "../contract/time.ts";
import { decode } from "../event-store/envelope.ts";
import type { Batch, EventStore } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { LeaseTerm } from "../platform/leader.ts";
import { type Checkpoint, Consumer, lagOf } from "../projections/consumer.ts";
import { moveCheckpoint, openCheckpoint, readCheckpoint } from "./checkpoints.ts";
import { inTransaction, type JobQueue, onPool } from "./queue.ts";
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
  const checkpoints = { sql: onPool(pool), store };
  /** The checkpoint as last read. */
  let stored = await openCheckpoint(checkpoints, GROUP);
  failpoint("reactors-placed/lead");

  async function open(term: LeaseTerm | undefined) {
    stored = await openCheckpoint(checkpoints, GROUP);
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
        await moveCheckpoint(sql, { name: GROUP, term, from: saved, to: upTo });
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
      if (state === "standby") stored = (await readCheckpoint(checkpoints, GROUP)) ?? stored;
      const known = state === "standby" ? stored : handled;
      return { state, handled: known, lag: await lagOf(store, known), lastError };
    },
    [Symbol.asyncDispose]: () => consumer[Symbol.asyncDispose](),
  };
}
