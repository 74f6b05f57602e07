// The jobs in PostgreSQL, through pg-boss: two queues in rounds, and one for what is due later.
import type pg from "pg";
import { type JobWithMetadata, PgBoss } from "pg-boss";
import type { Logger } from "pino";
import type { ClientId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { failpoint } from "../platform/failpoint.ts";
import { createTables, inTransaction, JOBS_SCHEMA, onPool, type Sql } from "./database.ts";
import { insertOf, LATER, LaterSchema, QUEUE_OPTIONS, secondOf } from "./job-rows.ts";
import { type Job, JobDataSchema, QUEUES, type Queue, queueOf, ROUND_SHIFT } from "./jobs.ts";
import { reachRound, takeRounds } from "./rounds.ts";

/** How far past the current round a fetch looks that leaves out busy clients: it must not wade through their jobs. */
const LOOK_AHEAD_ROUNDS = 2_000;
const LATER_BATCH = 500;
/** A job that goes back for longer than this waits where the others for later do, out of the way of each fetch. */
const SHORT_WAIT_MS = 5 * SECOND_MS;

/** A job in a worker's hands. */
export type TakenJob = Job & { readonly queue: Queue; readonly round: number; readonly retryCount: number };

type Settlement = {
  readonly done: readonly TakenJob[];
  /** Not before `at`; to the same round when that is soon. */
  readonly back: readonly { readonly job: TakenJob; readonly at: Instant }[];
  /** Come again after a backoff, until RETRY_LIMIT. */
  readonly failed: readonly { readonly job: TakenJob; readonly message: string }[];
};

/** Told after jobs were committed; `at` is null for those to be done now. */
type QueuedListener = (queue: Queue | "later", at: Instant | null) => void;

export type JobStore = AsyncDisposable & {
  /** Takes jobs in, inside the caller's transaction; ids that are known already are left out. Tell `queued` afterwards. */
  enqueue(sql: Sql, jobs: readonly Job[]): Promise<void>;
  /** The same in a transaction of its own. */
  add(jobs: readonly Job[]): Promise<void>;
  queued(jobs: readonly Job[]): void;
  /** Takes up to `limit` jobs, by round; none of the clients in `without`. */
  fetch(queue: Queue, limit: number, without: readonly ClientId[]): Promise<readonly TakenJob[]>;
  /** Moves what was for later and is due now into its queue, which gives it its round. Says how many there were. */
  promote(): Promise<number>;
  settle(queue: Queue, settlement: Settlement): Promise<void>;
  /** Which of these keys have a job that waits, or that a worker took less than `activeMs` ago. */
  liveKeys(keys: readonly string[], activeMs: number): Promise<ReadonlySet<string>>;
  onQueued(listener: QueuedListener): void;
};

/** Opens the job store, making the schema `jobs` when it is not there. */
export async function openJobStore(parts: { pool: pg.Pool; logger: Logger; now: () => Instant }): Promise<JobStore> {
  const { pool, logger, now } = parts;
  const boss = new PgBoss({ db: onPool(pool), schema: JOBS_SCHEMA, schedule: false, registerInstance: false });
  boss.on("error", (error) => logger.warn({ err: error }, "the job queue has trouble"));
  boss.on("warning", (warning) => logger.debug({ warning: warning.message }, "the job queue warns"));
  try {
    await boss.start();
    await createTables(pool);
    for (const name of [...QUEUES, LATER]) await boss.createQueue(name, QUEUE_OPTIONS);
  } catch (error) {
    await stop(boss);
    throw error;
  }
  const listeners: QueuedListener[] = [];
  const rounds = new Map<Queue, number>();

  async function enqueue(sql: Sql, jobs: readonly Job[]): Promise<void> {
    const unique = [...new Map(jobs.map((job) => [job.id, job])).values()];
    const moment = now();
    const isLater = (job: Job): job is Job & { at: Instant } => job.at !== null && job.at > moment;
    const later = unique.filter(isLater).map((job) => insertOf(job, -secondOf(job.at), job.at));
    if (later.length > 0) await boss.insert(LATER, later, { db: sql });
    for (const queue of QUEUES) {
      const mine = unique.filter((job) => queueOf(job.work) === queue && !isLater(job));
      if (mine.length === 0) continue;
      const round = await takeRounds(sql, queue, mine);
      const inserts = mine.map((job) => insertOf(job, -((round.get(job) ?? 0) + ROUND_SHIFT[job.priority]), null));
      await boss.insert(queue, inserts, { db: sql });
    }
  }

  const tell = (queue: Queue | "later", at: Instant | null) => {
    for (const listener of listeners) listener(queue, at);
  };
  function queued(jobs: readonly Job[]): void {
    const moment = now();
    for (const job of jobs) {
      if (job.at !== null && job.at > moment) tell("later", job.at);
      else tell(queueOf(job.work), null);
    }
  }
  async function add(jobs: readonly Job[]): Promise<void> {
    if (jobs.length === 0) return;
    await inTransaction(pool, (sql) => enqueue(sql, jobs));
    queued(jobs);
  }

  const taken = (queue: Queue, row: JobWithMetadata<unknown>): TakenJob | undefined => {
    const data = JobDataSchema.safeParse(row.data);
    if (!data.success) return undefined;
    return { ...data.data, id: row.id, at: null, queue, round: -row.priority, retryCount: row.retryCount };
  };

  /** Jobs are taken once they have come: those of an answer that is lost on its way go back at once, by themselves. */
  async function fetch(queue: Queue, limit: number, without: readonly ClientId[]): Promise<readonly TakenJob[]> {
    const reached = rounds.get(queue) ?? 0;
    const ahead = without.length > 0 ? { ignoreGroups: [...without], minPriority: -(reached + LOOK_AHEAD_ROUNDS) } : {};
    const jobs: TakenJob[] = [];
    let round = reached;
    try {
      await inTransaction(pool, async (sql) => {
        const options = { batchSize: limit, includeMetadata: true, ...ahead, /* fence: job-taken */ db: sql } as const;
        for (const row of await boss.fetch<unknown>(queue, options)) {
          const job = taken(queue, row);
          if (job !== undefined) jobs.push(job);
          else {
            logger.error({ queue, job: row.id }, "a job of unknown shape was dropped");
            await boss.complete(queue, { id: row.id, retryCount: row.retryCount }, null, { db: sql });
          }
        }
        failpoint("jobs-fetched/round-noted");
        round = Math.max(reached, ...jobs.map((job) => job.round));
        if (round > reached) await reachRound(sql, queue, round);
        failpoint("round-noted/taken");
      });
      rounds.set(queue, round);
    } catch (error) {
      if (jobs.length === 0) throw error;
      // Taken or not: to handle them twice is harmless, to leave them to the sweep takes a minute.
      logger.warn({ err: error, queue, jobs: jobs.length }, "jobs may come again");
    }
    return jobs;
  }

  async function promote(): Promise<number> {
    const { found, jobs } = await inTransaction(pool, async (sql) => {
      // The second decides how far the index is read, `startAfter` decides within it.
      const due = { batchSize: LATER_BATCH, minPriority: -secondOf(now()) };
      const rows = await boss.fetch<unknown>(LATER, { ...due, db: sql });
      if (rows.length === 0) return { found: 0, jobs: [] };
      const jobs = rows.flatMap((row): Job[] => {
        const parsed = LaterSchema.safeParse(row);
        if (parsed.success) return [{ ...parsed.data.data, id: parsed.data.id, at: null }];
        logger.error({ queue: LATER, job: row.id }, "a job of unknown shape was dropped");
        return [];
      });
      failpoint("later-taken/enqueued");
      await enqueue(sql, jobs);
      failpoint("later-enqueued/deleted");
      const ids = rows.map(({ id, retryCount }) => ({ id, retryCount }));
      await boss.deleteJob(LATER, ids, { db: sql });
      return { found: rows.length, jobs };
    });
    queued(jobs);
    return found;
  }

  async function settle(queue: Queue, { done, back, failed }: Settlement): Promise<void> {
    if (done.length > 0) await boss.complete(queue, done.map(attemptOf));
    for (const { job, message } of failed) await boss.fail(queue, attemptOf(job), { message });
    if (back.length === 0) return;
    const soon = now() + SHORT_WAIT_MS;
    await inTransaction(pool, async (sql) => {
      const held = back.map(({ job }) => attemptOf(job));
      await boss.deleteJob(queue, held, { db: sql });
      failpoint("put-back-deleted/inserted");
      const short = back.filter(({ at }) => at <= soon).map(({ job, at }) => insertOf(job, -job.round, at));
      if (short.length > 0) await boss.insert(queue, short, { db: sql });
      const long = back.filter(({ at }) => at > soon).map(({ job, at }) => insertOf(job, -secondOf(at), at));
      if (long.length > 0) await boss.insert(LATER, long, { db: sql });
    });
    for (const { at } of back) tell(at > soon ? "later" : queue, at);
  }

  async function liveKeys(keys: readonly string[], activeMs: number): Promise<ReadonlySet<string>> {
    const { rows } = await pool.query<{ key: string }>(
      `select singleton_key as key from jobs.job
       where name = any($1) and state in ('created', 'retry') and singleton_key = any($2)
       union
       select singleton_key from jobs.job
       where name = any($1) and state = 'active' and singleton_key = any($2)
         and started_on > now() - $3 * interval '1 ms'`,
      [[...QUEUES, LATER], keys, activeMs],
    );
    return new Set(rows.map((row) => row.key));
  }

  return {
    enqueue,
    add,
    queued,
    fetch,
    promote,
    settle,
    liveKeys,
    onQueued: (listener) => {
      listeners.push(listener);
    },
    [Symbol.asyncDispose]: () => stop(boss),
  };
}

const stop = (boss: PgBoss): Promise<void> => boss.stop({ graceful: false, close: false });

const attemptOf = ({ id, retryCount }: TakenJob) => ({ id, retryCount });
