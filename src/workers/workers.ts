// The workers of a process: reactors that turn events into jobs, workers that do them, a sweep for what has none.
import type pg from "pg";
import { MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import { type EventStore, type Position, parsePosition } from "../event-store/event-store.ts";
import { failpoint } from "../platform/failpoint.ts";
import { Loop, type LoopStatus } from "../platform/supervise.ts";
import type { ReadSide } from "../projections/read-side.ts";
import { onPool } from "./database.ts";
import { MAX_OPEN_DELIVERIES } from "./expire-delivery.ts";
import { handleJob } from "./handle-job.ts";
import { openJobStore, type TakenJob } from "./job-store.ts";
import { QUEUES, type Queue } from "./jobs.ts";
import type { LineLimits } from "./lines.ts";
import type { HandlerParts } from "./parts.ts";
import { Pace, Places } from "./places.ts";
import { enterWorkers } from "./presence.ts";
import { type ReactorStatus, startReactors } from "./reactor-group.ts";
import { reactors } from "./reactors.ts";
import { forgetRounds } from "./rounds.ts";
import { SWEEP_EVERY_MS, sweep } from "./sweep.ts";
import { Worker, type WorkerStatus } from "./worker.ts";

/** What bounds the workers of a process; each has a default. */
export type WorkerLimits = {
  readonly attempts: LineLimits;
  readonly tasks: LineLimits;
  readonly maxOpenDeliveries: number;
  readonly sweepEveryMs: number;
  /** How long what is under way may go on when the workers stop, before it is asked to come to an end. */
  readonly graceMs: number;
};

const DEFAULT_LIMITS: WorkerLimits = {
  attempts: { running: 200, perClient: 50, waitingPerClient: 100 },
  tasks: { running: 32, perClient: 16, waitingPerClient: 32 },
  maxOpenDeliveries: MAX_OPEN_DELIVERIES,
  sweepEveryMs: SWEEP_EVERY_MS,
  graceMs: 5 * SECOND_MS,
};

const LATER_IDLE_MS = 500;
const SWEEP_AGAIN_MS = SECOND_MS;
/** A sweep, but for the first, leaves alone what is due for less than this part of its interval: its job is on its way. */
const SWEEP_GRACE = 1 / 6;
/** The first one looks ahead: jobs that waited for their moment may be gone with the schema `jobs`. Later ones find the rest. */
const FIRST_SWEEP_AHEAD_MS = 10 * MINUTE_MS;

type WorkersStatus = {
  /** `lag`: how far they are behind the log's end, in positions; null when the end cannot be read now. */
  readonly reactors: ReactorStatus & { readonly lag: number | null };
  readonly queues: Readonly<Record<Queue, WorkerStatus>>;
  readonly later: LoopStatus;
  readonly sweep: LoopStatus;
};

export type Workers = AsyncDisposable & {
  /** For `/readyz`. */
  status(): Promise<WorkersStatus>;
};

type WorkersParts = Omit<HandlerParts, "readSide"> & {
  /** Of the database that holds the schema `jobs`, which is made when it is not there. */
  readonly pool: pg.Pool;
  readonly readSide: Pick<ReadSide, "readAs" | "operator" | "waitFor">;
  readonly limits?: Partial<WorkerLimits>;
  /** No other process works on this database; default: there may be others. */
  readonly alone?: boolean;
};

/**
 * Starts the workers. Any number of processes may share the schema. Disposing them takes at most some 8 s: nothing new
 * is taken, what is under way is finished or handed back. Throws ForeignCheckpoint when `jobs` belongs to another log.
 */
export async function startWorkers(parts: WorkersParts): Promise<Workers> {
  const { pool, logger, now, random } = parts;
  const limits = { ...DEFAULT_LIMITS, ...parts.limits };
  await using opened = new AsyncDisposableStack();
  const jobs = opened.use(await openJobStore({ pool, logger, now }));
  failpoint("job-tables/reactors-placed");
  opened.use(await enterWorkers(pool, logger));
  const group = opened.use(await startReactors({ ...parts, jobs, reactors, alone: parts.alone ?? false }));

  const { maxOpenDeliveries } = limits;
  const handlers = { ...parts, places: new Places(), pace: new Pace(), maxOpenDeliveries };
  const workers = new Map(
    QUEUES.map((queue) => {
      const handle = (job: TakenJob, signal: AbortSignal) => handleJob(handlers, job, signal);
      return [queue, new Worker({ queue, jobs, limits: limits[queue], handle, now, random, logger })] as const;
    }),
  );
  const later = new Loop({
    name: "later",
    step: async () => ((await jobs.promote()) > 0 ? 0 : LATER_IDLE_MS),
    logger,
  });
  let first = true;
  const sweeping = new Loop({
    name: "sweep",
    step: async (signal) => {
      const at = group.handled();
      const dueBefore = now() + (first ? FIRST_SWEEP_AHEAD_MS : -Math.round(limits.sweepEveryMs * SWEEP_GRACE));
      const swept = group.leads() && at !== "start" && (await sweep({ ...parts, jobs, dueBefore }, at, signal));
      first &&= !swept;
      if (!swept) return SWEEP_AGAIN_MS;
      await forgetRounds(onPool(pool));
      return limits.sweepEveryMs;
    },
    logger,
  });
  jobs.onQueued((queue, at) => {
    if (queue === "later") later.wakeIn(at === null ? 0 : at - now());
    else workers.get(queue)?.wake(at);
  });

  const open = opened.move();
  const status = (queue: Queue): WorkerStatus =>
    workers.get(queue)?.status() ?? { state: "closed", lastError: null, running: 0, waiting: 0 };
  return {
    status: async () => ({
      reactors: await group.status().then(async (one) => ({ ...one, lag: await lagOf(parts.store, one.handled) })),
      queues: { attempts: status("attempts"), tasks: status("tasks") },
      later: later.status(),
      sweep: sweeping.status(),
    }),
    async [Symbol.asyncDispose]() {
      const closing = Array.from(workers.values(), (worker) => worker.close(limits.graceMs));
      await Promise.all([...closing, later[Symbol.asyncDispose](), sweeping[Symbol.asyncDispose]()]);
      // Last, so that what the attempts came to still leads to its jobs.
      await open.disposeAsync();
    },
  };
}

async function lagOf(store: EventStore, handled: Position | "start"): Promise<number | null> {
  const numberOf = (position: string) => parsePosition(position)?.value ?? 0n;
  return store.tail().then(
    (tail) => Math.max(0, Number(numberOf(tail) - numberOf(handled))),
    () => null,
  );
}
