// Works on one queue: fetches in batches, runs so many at once as the lines allow, settles in batches.
import type { Logger } from "pino";
import type { Instant } from "../contract/time.ts";
import { failpoint } from "../platform/failpoint.ts";
import { Loop, type LoopStatus, messageOf } from "../platform/supervise.ts";
import type { JobStore, TakenJob } from "./job-store.ts";
import type { Queue } from "./jobs.ts";
import { type LineLimits, Lines } from "./lines.ts";

const FETCH_BATCH = 100;
/** How long a fetch and a settlement wait after the one before, so that each takes more at once. */
const FETCH_LINGER_MS = 5;
const SETTLE_LINGER_MS = 20;
/** How often the queue is looked at unasked: for jobs of other processes and those that went back. */
const IDLE_MS = 500;
/** What a line cannot hold comes again after this, and up to as much again, so that not all come at once. */
const SURPLUS_WAIT_MS = 500;
/** How long jobs may go on after they were asked to stop, before they are left to their lease. */
const STOP_MS = 1_500;

/** What became of a job: it is done, or comes again at `at`. A handler that throws sees its job again after a backoff. */
export type Verdict = { readonly kind: "done" } | { readonly kind: "again"; readonly at: Instant };
export const DONE: Verdict = { kind: "done" };
export const again = (at: Instant): Verdict => ({ kind: "again", at });

type WorkerOptions = {
  readonly queue: Queue;
  readonly jobs: JobStore;
  readonly limits: LineLimits;
  /** `signal` asks it to come to an end soon. */
  readonly handle: (job: TakenJob, signal: AbortSignal) => Promise<Verdict>;
  readonly now: () => Instant;
  readonly random: () => number;
  readonly logger: Logger;
};

export type WorkerStatus = LoopStatus & { readonly running: number; readonly waiting: number };

type Settled = {
  readonly job: TakenJob;
  readonly verdict: Verdict | { readonly kind: "failed"; readonly message: string };
};

/** The worker of one queue in this process. */
export class Worker {
  readonly #options: WorkerOptions;
  readonly #lines: Lines<TakenJob>;
  readonly #fetching: Loop;
  readonly #settling: Loop;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #settled: Settled[] = [];
  /** Whether the last fetch left something behind, for want of room or because a client was busy. */
  #leftBehind = false;

  constructor(options: WorkerOptions) {
    const { queue, limits, logger } = options;
    this.#options = options;
    this.#lines = new Lines(limits);
    const rest = (more: boolean) => (more ? 0 : IDLE_MS);
    const fetch = async () => rest(await this.#fetch());
    const settle = async () => rest(await this.#settle());
    this.#fetching = new Loop({ name: `${queue}:fetch`, step: fetch, lingerMs: FETCH_LINGER_MS, logger });
    this.#settling = new Loop({ name: `${queue}:settle`, step: settle, lingerMs: SETTLE_LINGER_MS, logger });
  }

  wake(at: Instant | null): void {
    if (at === null) this.#fetching.wake();
    else this.#fetching.wakeIn(at - this.#options.now());
  }

  status(): WorkerStatus {
    return { ...this.#fetching.status(), running: this.#lines.running, waiting: this.#lines.waiting };
  }

  /** Takes no more, hands back what waits, and lets what runs finish until `graceMs` are over; then asks it to stop. */
  async close(graceMs: number): Promise<void> {
    await this.#fetching[Symbol.asyncDispose]();
    const at = this.#options.now();
    for (const job of this.#lines.drain()) this.#note(job, again(at));
    failpoint("drained/handed-back");
    const askToStop = setTimeout(() => this.#stopping.abort(), graceMs);
    const over = new Promise<void>((resolve) => setTimeout(resolve, graceMs + STOP_MS).unref());
    await Promise.race([Promise.all(this.#running), over]);
    clearTimeout(askToStop);
    this.#stopping.abort();
    await this.#settling[Symbol.asyncDispose]();
    await this.#settle().catch((error: unknown) => {
      // They are taken again when their time with this worker has run out.
      this.#options.logger.warn({ err: error }, "jobs could not be handed back");
    });
  }

  async #fetch(): Promise<boolean> {
    const { jobs, queue, now, random } = this.#options;
    const limit = Math.min(FETCH_BATCH, this.#lines.room);
    const busy = this.#lines.busy();
    this.#leftBehind = true;
    if (limit === 0) return false;
    const taken = await jobs.fetch(queue, limit, busy);
    this.#leftBehind = taken.length === limit || busy.length > 0;
    for (const job of taken) {
      const place = this.#lines.enter(job);
      if (place === "start") this.#start(job);
      if (place === "back") this.#note(job, again(now() + Math.round(SURPLUS_WAIT_MS * (1 + random()))));
    }
    return taken.length === limit;
  }

  #start(job: TakenJob): void {
    const run = this.#run(job).finally(() => {
      this.#running.delete(run);
      const next = this.#lines.leave(job.client);
      for (const waiting of next) this.#start(waiting);
      if (this.#leftBehind && this.#lines.wants(job.client)) this.#fetching.wake();
    });
    this.#running.add(run);
  }

  async #run(job: TakenJob): Promise<void> {
    failpoint("job-taken/handled");
    try {
      this.#note(job, await this.#options.handle(job, this.#stopping.signal));
    } catch (error) {
      this.#options.logger.warn({ queue: job.queue, job: job.id, kind: job.work.kind, err: error }, "a job failed");
      this.#settled.push({ job, verdict: { kind: "failed", message: messageOf(error) } });
      this.#settling.wake();
    }
  }

  #note(job: TakenJob, verdict: Verdict): void {
    this.#settled.push({ job, verdict });
    this.#settling.wake();
  }

  /** What has come together since the last time, in one go. */
  async #settle(): Promise<boolean> {
    const settled = this.#settled;
    if (settled.length === 0) return false;
    failpoint("job-handled/settled");
    this.#settled = [];
    try {
      await this.#options.jobs.settle(this.#options.queue, {
        done: settled.flatMap(({ job, verdict }) => (verdict.kind === "done" ? [job] : [])),
        back: settled.flatMap(({ job, verdict }) => (verdict.kind === "again" ? [{ job, at: verdict.at }] : [])),
        failed: settled.flatMap(({ job, verdict }) =>
          verdict.kind === "failed" ? [{ job, message: verdict.message }] : [],
        ),
      });
    } catch (error) {
      this.#settled.unshift(...settled);
      throw error;
    }
    return this.#settled.length > 0;
  }
}
