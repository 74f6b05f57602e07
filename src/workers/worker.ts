// The worker of one queue: fetches jobs in batches, runs as many at once as fairness allows, settles them in batches.
import type { Logger } from "pino";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { failpoint } from "../platform/failpoint.ts";
import { IDLE_MS, Loop, type LoopStatus } from "../platform/supervise.ts";
import { type ConcurrencyLimits, TenantConcurrency } from "./fairness.ts";
import { DONE, type QueueName, retryLater, type TakenJob, type Verdict } from "./jobs.ts";
import type { JobQueue } from "./queue.ts";

const FETCH_BATCH = 100;
/** How long a fetch waits after the one before it, and a settlement likewise, so that more jobs share it. */
const FETCH_LINGER_MS = 5;
const SETTLE_LINGER_MS = 20;
/** How often the queue is polled for jobs of other processes: doubled each time that there are none, up to the latter. */
const POLL_MS = 500;
const MAX_POLL_MS = 5_000;
/** A job that finds its sharer's limit reached runs again after this, and up to as much again, so that they spread out. */
const SURPLUS_WAIT_MS = 500;
/** How long jobs may go on after they were asked to stop. After it their leases decide. */
const STOP_MS = 1_500;
/** A job whose handler throws runs again after this, doubled each time. */
const FAILURE_WAIT_MS = SECOND_MS;
const MAX_FAILURE_WAIT_MS = 60 * SECOND_MS;
/** A job is dropped when its handler has thrown this often. The sweep finds its work, if that is still due. */
const MAX_FAILURES = 20;

type WorkerOptions = {
  readonly queue: QueueName;
  readonly jobs: JobQueue;
  readonly limits: ConcurrencyLimits;
  /** The signal asks it to come to an end soon. */
  readonly handle: (job: TakenJob, signal: AbortSignal) => Promise<Verdict>;
  readonly now: () => Instant;
  readonly random: () => number;
  readonly logger: Logger;
};

export type WorkerStatus = LoopStatus & { readonly running: number; readonly waiting: number };

export class Worker {
  readonly #options: WorkerOptions;
  readonly #concurrency: TenantConcurrency<TakenJob>;
  readonly #fetching: Loop;
  readonly #settling: Loop;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #settled: { readonly job: TakenJob; readonly verdict: Verdict }[] = [];
  /** Until the next poll. */
  #pollMs = POLL_MS;
  /** Whether the last fetch left jobs behind, for want of capacity or because a sharer was saturated. */
  #leftBehind = false;

  constructor(options: WorkerOptions) {
    const { queue, limits, logger } = options;
    this.#options = options;
    this.#concurrency = new TenantConcurrency(limits);
    const fetch = async () => ((await this.#fetch()) ? 0 : this.#pollMs);
    const settle = async () => ((await this.#settle()) ? 0 : IDLE_MS);
    this.#fetching = new Loop({ name: `${queue}:fetch`, step: fetch, lingerMs: FETCH_LINGER_MS, logger });
    this.#settling = new Loop({ name: `${queue}:settle`, step: settle, lingerMs: SETTLE_LINGER_MS, logger });
  }

  /** Fetches at `at`; null: now. */
  wake(at: Instant | null): void {
    if (at === null) this.#fetching.wake();
    else this.#fetching.wakeIn(at - this.#options.now());
  }

  status(): WorkerStatus {
    return { ...this.#fetching.status(), running: this.#concurrency.running, waiting: this.#concurrency.waiting };
  }

  /** Fetches no more, returns the jobs that wait, and lets the others finish for `graceMs` before it asks them to stop. */
  async close(graceMs: number): Promise<void> {
    await this.#fetching[Symbol.asyncDispose]();
    const at = this.#options.now();
    for (const job of this.#concurrency.drain()) this.#finish(job, retryLater(at));
    failpoint("drained/handed-back");
    const stopTimer = setTimeout(() => this.#stopping.abort(), graceMs);
    const timeUp = new Promise<void>((resolve) => setTimeout(resolve, graceMs + STOP_MS).unref());
    await Promise.race([Promise.all(this.#running), timeUp]);
    clearTimeout(stopTimer);
    this.#stopping.abort();
    await this.#settling[Symbol.asyncDispose]();
    await this.#settle().catch((error: unknown) => {
      const { logger, queue } = this.#options;
      logger.warn({ err: error, queue }, "worker: jobs not settled on shutdown; they run again when they expire");
    });
  }

  async #fetch(): Promise<boolean> {
    const { jobs, queue, now, random } = this.#options;
    const limit = Math.min(FETCH_BATCH, this.#concurrency.capacity);
    const saturated = this.#concurrency.saturated();
    this.#leftBehind = true;
    if (limit === 0) return false;
    const fetched = await jobs.fetch(queue, limit, saturated);
    this.#pollMs = fetched.length > 0 ? POLL_MS : Math.min(MAX_POLL_MS, 2 * this.#pollMs);
    this.#leftBehind = fetched.length === limit || saturated.length > 0;
    for (const job of fetched) {
      const admitted = this.#concurrency.admit(job);
      if (admitted === "start") this.#start(job);
      if (admitted === "return") {
        this.#finish(job, retryLater(now() + Math.round(SURPLUS_WAIT_MS * (1 + random()))));
      }
    }
    return fetched.length === limit;
  }

  #start(job: TakenJob): void {
    const run = this.#run(job).finally(() => {
      this.#running.delete(run);
      for (const next of this.#concurrency.release(job)) this.#start(next);
      if (this.#leftBehind && this.#concurrency.needsMore(job)) this.#fetching.wake();
    });
    this.#running.add(run);
  }

  async #run(job: TakenJob): Promise<void> {
    failpoint("job-taken/handled");
    const { queue, handle, logger, now, random } = this.#options;
    try {
      const verdict = await handle(job, this.#stopping.signal);
      this.#finish({ ...job, failures: 0 }, verdict);
    } catch (error) {
      const failures = job.failures + 1;
      const about = { queue, job: job.id, kind: job.work.kind, failures, err: error };
      if (failures >= MAX_FAILURES) {
        logger.error(about, "worker: job failed too often and is dropped; the sweep finds its work if it is still due");
        return this.#finish(job, DONE);
      }
      const wait = Math.min(MAX_FAILURE_WAIT_MS, FAILURE_WAIT_MS * 2 ** failures) * (1 - random() / 2);
      logger.warn(about, `worker: job failed; retrying in ${Math.round(wait)} ms`);
      this.#finish({ ...job, failures }, retryLater(now() + Math.round(wait)));
    }
  }

  #finish(job: TakenJob, verdict: Verdict): void {
    this.#settled.push({ job, verdict });
    this.#settling.wake();
  }

  /** Settles the jobs that have finished since the last time. */
  async #settle(): Promise<boolean> {
    const settled = this.#settled;
    if (settled.length === 0) return false;
    failpoint("job-handled/settled");
    this.#settled = [];
    try {
      await this.#options.jobs.settle(this.#options.queue, {
        done: settled.flatMap(({ job, verdict }) => (verdict.kind === "done" ? [job] : [])),
        retried: settled.flatMap(({ job, verdict }) => (verdict.kind === "retry" ? [{ job, at: verdict.at }] : [])),
      });
    } catch (error) {
      this.#settled.unshift(...settled);
      throw error;
    }
    return this.#settled.length > 0;
  }
}
