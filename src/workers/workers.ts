// The workers of a process: reactors turn events into jobs, workers do them, a sweep finds the work that lost its job.
import type pg from "pg";
import { MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import { failpoint } from "../platform/failpoint.ts";
import { Loop, type LoopStatus } from "../platform/supervise.ts";
import { createGrowingTexts, GrowingTexts } from "../projections/growing-texts.ts";
import { MemoryBudget } from "./attachments.ts";
import { disableEndpoints } from "./endpoint-attempts.ts";
import { type FanOutStatus, startFanOut } from "./endpoint-fanout.ts";
import { type ConcurrencyLimits, HostLimiter } from "./fairness.ts";
import { endSilent, GROWING_SWEEP_MS } from "./growing-messages.ts";
import { handleJob } from "./handle-job.ts";
import type { JobServices } from "./job-services.ts";
import { QUEUES, type QueueName, type TakenJob } from "./jobs.ts";
import { ProviderUse } from "./provider-use.ts";
import { JobQueue } from "./queue.ts";
import { type ReactorStatus, startReactors } from "./reactor-group.ts";
import { SWEEP_EVERY_MS, sweep } from "./sweep.ts";
import { Worker, type WorkerStatus } from "./worker.ts";

/** The bounds of a process's workers. Each has a default. */
export type WorkerLimits = {
  readonly attempts: ConcurrencyLimits;
  readonly tasks: ConcurrencyLimits;
  readonly maxOpenDeliveries: number;
  readonly sweepEveryMs: number;
  /** How long running jobs may go on when the workers stop, before they are asked to come to an end. */
  readonly graceMs: number;
};

const DEFAULT_LIMITS: WorkerLimits = {
  // Attempts wait for others: they hold little, and many of them may.
  attempts: { running: 3_000, perClient: 1_000, waitingPerClient: 200 },
  tasks: { running: 32, perClient: 16, waitingPerClient: 32 },
  maxOpenDeliveries: 1_000,
  sweepEveryMs: SWEEP_EVERY_MS,
  graceMs: 5 * SECOND_MS,
};

/** How often jobs for later are polled that this process was not notified of: those of before its start, and of others. */
const LATER_POLL_MS = 2 * SECOND_MS;
const SWEEP_RETRY_MS = SECOND_MS;
/** A sweep, except the first, skips what is due for less than this part of its interval: its job is on its way. */
const SWEEP_GRACE = 1 / 6;
/** The first sweep looks ahead: jobs that waited for their time may be gone with the schema `jobs`. */
const FIRST_SWEEP_AHEAD_MS = 10 * MINUTE_MS;

type WorkersStatus = {
  /** `lag` is how far they are behind the log's end, in positions. Null when the end cannot be read now. */
  readonly reactors: ReactorStatus;
  readonly endpoints: FanOutStatus;
  readonly queues: Readonly<Record<QueueName, WorkerStatus>>;
  readonly later: LoopStatus;
  readonly sweep: LoopStatus;
  readonly growing: LoopStatus;
};

export type Workers = AsyncDisposable & {
  /** For `/readyz`. */
  status(): Promise<WorkersStatus>;
  /** The jobs of all nodes that wait, by queue; for metrics. */
  waiting: JobQueue["waiting"];
};

type WorkersOptions = Omit<JobServices, "hostLimiter" | "providerUse" | "memoryBudget" | "maxOpenDeliveries"> & {
  /** Of the database that holds the schema `jobs`, which is made when it does not exist. */
  readonly pool: pg.Pool;
  readonly limits?: Partial<WorkerLimits>;
  /** No other process works on this database. Default: there may be others. */
  readonly alone?: boolean;
};

/**
 * Starts the workers. Any number of processes may share the schema. What a crashed process had in hand is enqueued again
 * by the next sweep, on a start by the first one. Disposing them takes at most 8 s: nothing new is fetched, what runs
 * finishes or goes back. Throws ForeignCheckpoint when `jobs` belongs to another log.
 */
export async function startWorkers(options: WorkersOptions): Promise<Workers> {
  const { pool, logger, now, random } = options;
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  await using opened = new AsyncDisposableStack();
  const jobs = opened.use(await JobQueue.open({ pool, logger, now }));
  await createGrowingTexts(pool);
  failpoint("job-tables/reactors-placed");
  const group = opened.use(await startReactors({ ...options, jobs }));
  const fanOut = opened.use(await startFanOut({ ...options, jobs }));

  const { maxOpenDeliveries } = limits;
  const memoryBudget = new MemoryBudget();
  const services = {
    memoryBudget,
    ...options,
    hostLimiter: new HostLimiter(now),
    providerUse: new ProviderUse(pool),
    maxOpenDeliveries,
  };
  const startWorker = (queue: QueueName) => {
    const handle = (job: TakenJob, signal: AbortSignal) => handleJob(services, job, signal);
    return new Worker({ queue, jobs, limits: limits[queue], handle, now, random, logger });
  };
  const workers = { attempts: startWorker("attempts"), tasks: startWorker("tasks") };
  const later = new Loop({
    name: "later",
    step: async () => ((await jobs.promote()) > 0 ? 0 : LATER_POLL_MS),
    logger,
  });
  let first = true;
  const sweeping = new Loop({
    name: "sweep",
    step: async (signal) => {
      const at = group.handled();
      const dueBefore = now() + (first ? FIRST_SWEEP_AHEAD_MS : -Math.round(limits.sweepEveryMs * SWEEP_GRACE));
      const swept = group.leads() && at !== "start" && (await sweep({ ...options, jobs, dueBefore }, at, signal));
      first &&= !swept;
      if (!swept) return SWEEP_RETRY_MS;
      await jobs.forgetRounds();
      await disableEndpoints(services, signal);
      return limits.sweepEveryMs;
    },
    logger,
  });
  const growing = new GrowingTexts(options);
  const silence = new Loop({
    name: "growing",
    step: async (signal) => (group.leads() ? endSilent({ ...options, growing }, signal) : GROWING_SWEEP_MS),
    logger,
  });
  jobs.onQueued((queue, at) => {
    if (queue === "later") later.wakeIn(at === null ? 0 : at - now());
    else workers[queue].wake(at);
  });

  const open = opened.move();
  return {
    status: async () => ({
      reactors: await group.status(),
      endpoints: await fanOut.status(),
      queues: { attempts: workers.attempts.status(), tasks: workers.tasks.status() },
      later: later.status(),
      sweep: sweeping.status(),
      growing: silence.status(),
    }),
    waiting: () => jobs.waiting(),
    async [Symbol.asyncDispose]() {
      const closing = QUEUES.map((queue) => workers[queue].close(limits.graceMs));
      const loops = [later, sweeping, silence].map((loop) => loop[Symbol.asyncDispose]());
      await Promise.all([...closing, ...loops]);
      // Last, so that the outcomes of attempts still lead to their jobs.
      await open.disposeAsync();
    },
  };
}
