// Runs the reactors: of all processes one at a time, with one subscription; jobs and checkpoint in one transaction.
import type pg from "pg";
import type { Logger } from "pino";
import { SECOND_MS } from "../contract/time.ts";
import { decode } from "../event-store/envelope.ts";
import {
  type Batch,
  type EventStore,
  type Position,
  parsePosition,
  type Subscription,
} from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import { holds, Leader, type LeaseTerm } from "../platform/leader.ts";
import { backoffMs, messageOf, pause } from "../platform/supervise.ts";
import { ForeignCheckpoint } from "../projections/projector.ts";
import type { Job } from "./jobs.ts";
import { inTransaction, type JobQueue, type Sql } from "./queue.ts";
import { jobsOf, type Reactor, wantedTypes } from "./reactor.ts";

const GROUP = "reactors";
/** How often the checkpoint moves over events that owe nothing. They are read again after a crash, which is harmless. */
const IDLE_CHECKPOINT_MS = SECOND_MS;

/** How long to wait at the log's end before the next batch: a transaction costs as much as many jobs. */
const LINGER_MS = 5;

/** Another process moved the checkpoint, or leads now: its jobs count, ours were rolled back. */
class CheckpointMoved extends Error {}

type ReactorGroup = AsyncDisposable & {
  /** All events up to here have led to their jobs, as far as this process knows: the one that leads knows best. */
  handled(): Position | "start";
  /** Whether this process is the one that runs them. */
  leads(): boolean;
  status(): Promise<ReactorStatus>;
};

export type ReactorStatus = {
  readonly state: string;
  readonly handled: Position | "start";
  readonly lastError: string | null;
};

type ReactorGroupParts = {
  readonly pool: pg.Pool;
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly jobs: JobQueue;
  readonly reactors: readonly Reactor[];
  readonly logger: Logger;
  readonly now: () => number;
  /** No other process works on this database: what a crashed one left is taken over at once. */
  readonly alone: boolean;
};

/**
 * Starts at its checkpoint, on a fresh schema at the log's tip, in whichever process leads. Throws ForeignCheckpoint.
 */
export async function startReactors(parts: ReactorGroupParts): Promise<ReactorGroup> {
  const { pool, store, logger, alone } = parts;
  let known = await openCheckpoint(pool, store);
  failpoint("reactors-placed/lead");
  let leading: Leading | undefined;
  const leader = new Leader({
    ...{ pool, logger, alone, table: "jobs.leases", name: GROUP },
    lead: async (term) => {
      known = await openCheckpoint(pool, store);
      leading = lead(parts, term, known, () => leader.renewNow());
      return leading;
    },
  });
  await leader.decided;
  const current = () => (leader.leads ? leading : undefined);
  return {
    handled: () => current()?.handled() ?? known,
    leads: () => current() !== undefined,
    async status() {
      const status = current()?.status();
      if (status !== undefined) return status;
      known = await openCheckpoint(pool, store);
      return { state: "standby", handled: known, lastError: leader.lastError };
    },
    [Symbol.asyncDispose]: () => leader[Symbol.asyncDispose](),
  };
}

type Leading = AsyncDisposable & { handled(): Position | "start"; status(): ReactorStatus };

/** Runs the reactors from a checkpoint on, for as long as the term holds. */
function lead(parts: ReactorGroupParts, term: LeaseTerm, from: Position, onMoved: () => void): Leading {
  const { pool, store, keyring, jobs, logger, now } = parts;
  const wanted = wantedTypes(parts.reactors);
  const closing = new AbortController();
  let saved = from;
  let savedAt = now();
  let subscription: Subscription | undefined;
  let lastError: string | null = null;
  let retry: () => void = () => {};

  async function handle({ events, upTo }: Batch): Promise<void> {
    const opened = await decode(
      keyring,
      events.filter((event) => wanted.has(event.type)),
    );
    const due: Job[] = opened.flatMap((event) => jobsOf(parts.reactors, event));
    if (due.length === 0 && now() < savedAt + IDLE_CHECKPOINT_MS) return;
    failpoint("jobs-owed/checkpoint-moved");
    try {
      await inTransaction(pool, async (sql) => {
        await moveCheckpoint(sql, term, saved, upTo);
        failpoint("checkpoint-moved/enqueued");
        if (due.length > 0) await jobs.enqueue(sql, due);
        failpoint("enqueued/commit");
      });
    } catch (error) {
      if (error instanceof CheckpointMoved) {
        onMoved();
        retry();
      }
      throw error;
    }
    failpoint("jobs-committed/workers-told");
    saved = upTo;
    savedAt = now();
    jobs.notifyQueued(due);
  }

  const linger = () => pause(LINGER_MS, closing.signal);

  /** One subscription after the other: a new one where another process has moved the checkpoint. */
  async function supervise(): Promise<void> {
    let failures = 0;
    while (!closing.signal.aborted) {
      try {
        const moved = new Promise<void>((resolve) => {
          retry = resolve;
          closing.signal.addEventListener("abort", () => resolve(), { once: true });
        });
        await using current = store.subscribe({ name: GROUP, after: saved, handle, linger });
        subscription = current;
        // From here on the subscription says how it is.
        lastError = null;
        await moved;
      } catch (error) {
        lastError = messageOf(error);
        logger.warn({ err: error }, "the reactors stopped and start again");
      }
      if (closing.signal.aborted) return;
      failures += 1;
      await pause(backoffMs(failures), closing.signal);
      saved = await openCheckpoint(pool, store).catch((error: unknown) => {
        lastError = messageOf(error);
        return saved;
      });
    }
  }
  const running = supervise();

  return {
    handled: () => subscription?.status().handled ?? saved,
    status: () => {
      const status = subscription?.status();
      return {
        state: status?.state ?? "retrying",
        handled: status?.handled ?? saved,
        lastError: status?.lastError ?? lastError,
      };
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await running;
    },
  };
}

async function openCheckpoint(pool: pg.Pool, store: EventStore): Promise<Position> {
  await pool.query("insert into jobs.reactor_checkpoints (name, position) values ($1, $2) on conflict do nothing", [
    GROUP,
    await store.tail(),
  ]);
  const { rows } = await pool.query<{ position: Position }>(
    "select position from jobs.reactor_checkpoints where name = $1",
    [GROUP],
  );
  const position = rows[0]?.position;
  if (position === undefined || parsePosition(position)?.logId !== store.logId) {
    throw new ForeignCheckpoint(`the schema jobs belongs to another log than ${store.logId}: drop it to start afresh`);
  }
  return position;
}

async function moveCheckpoint(sql: Sql, term: LeaseTerm, from: Position, to: Position): Promise<void> {
  const values: unknown[] = [GROUP, from, to];
  const text = `update jobs.reactor_checkpoints set position = $3 where name = $1 and /* fence: reactors-checkpoint */ position = $2
    and /* fence: reactors-lease */ ${holds(term, (value) => `$${values.push(value)}`)} /* end */ returning name`;
  const { rows } = await sql.executeSql(text, values);
  if (rows.length === 0) throw new CheckpointMoved("another process moved the reactors' checkpoint");
}
