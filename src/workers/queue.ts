// The jobs in PostgreSQL: pg-boss, by its public interface alone, and our own tables beside it in the schema `jobs`.
import type pg from "pg";
import { type Db, type JobInsert, type JobWithMetadata, PgBoss } from "pg-boss";
import type { Logger } from "pino";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { failpoint } from "../platform/failpoint.ts";
import { createLeases } from "../platform/leader.ts";
import { LOCKS, setUpAlone } from "../platform/locks.ts";
import { inTransaction as transaction, transactionOn, withClient } from "../platform/postgres.ts";
import { CREATE_CURSORS } from "../projections/endpoint-cursors.ts";
import {
  type Job,
  JobDataSchema,
  QUEUES,
  type QueueName,
  queueOf,
  ROUND_SHIFT,
  type Sharer,
  sharerOf,
  type TakenJob,
} from "./jobs.ts";
import { createProviderUse } from "./provider-use.ts";

const SCHEMA = "jobs";
/** The queue of what is due later, in the order of its time. */
const LATER = "later" as const;
/** A job that a worker held for longer counts as that of a crashed worker, and is fetched again. */
const EXPIRE_SECONDS = 900;
/** How often a job is fetched again whose worker crashed. */
const RETRY_LIMIT = 20;
/** How often pg-boss looks for jobs that wait for others, of which there are none here. */
const FLOW_SECONDS = 3_600;
/** How long a done job is kept. Until then its id is not accepted again. */
const KEEP_DONE_SECONDS = 3_600;

/** Of every queue. `short`: a key waits at most once in a queue. */
const QUEUE_OPTIONS = {
  policy: "short",
  expireInSeconds: EXPIRE_SECONDS,
  retryLimit: RETRY_LIMIT,
  retryDelay: 1,
  retryBackoff: true,
  retryDelayMax: 60,
  deleteAfterSeconds: KEEP_DONE_SECONDS,
} as const;

/** How far past the current round a fetch that leaves out sharers looks: it must not scan all of their jobs. */
const LOOK_AHEAD_ROUNDS = 2_000;
const LATER_BATCH = 500;
/** A job that is due within this goes back to its own queue. For a later time it would slow down each fetch there. */
const SHORT_WAIT_MS = 5 * SECOND_MS;
/** The priority of a job in `later` is minus its second, counted from here so that it fits an integer (until 2088). */
const EPOCH_2020_SECONDS = 1_577_836_800;

/** Runs statements, alone or in a transaction. */
export type Sql = Db;

type Settlement = {
  readonly done: readonly TakenJob[];
  /** Run again, not before `at`. In the same round when that is soon. */
  readonly retried: readonly { readonly job: TakenJob; readonly at: Instant }[];
};

/** Called after jobs were committed. `at` is null for those that are due now. */
type QueuedListener = (queue: QueueName | typeof LATER, at: Instant | null) => void;

type JobQueueOptions = { readonly pool: pg.Pool; readonly logger: Logger; readonly now: () => Instant };

export class JobQueue implements AsyncDisposable {
  readonly #options: JobQueueOptions;
  readonly #boss: PgBoss;
  readonly #listeners: QueuedListener[] = [];
  readonly #currentRounds = new Map<QueueName, number>();

  private constructor(boss: PgBoss, options: JobQueueOptions) {
    this.#boss = boss;
    this.#options = options;
  }

  /** Opens the queue. Makes the schema `jobs` when it does not exist; several processes may do so at once. */
  static async open(options: JobQueueOptions): Promise<JobQueue> {
    const { pool, logger } = options;
    const parts = { schedule: false, registerInstance: false, flowIntervalSeconds: FLOW_SECONDS } as const;
    const boss = new PgBoss({ db: onPool(pool), schema: SCHEMA, ...parts });
    boss.on("error", (err) => logger.warn({ err }, "job queue: maintenance failed; retrying at its next interval"));
    boss.on("warning", (warning) => logger.debug({ warning: warning.message }, "job queue: warning"));
    const queue = new JobQueue(boss, options);
    try {
      // pg-boss works on other connections meanwhile, and waits inside a transaction for others of its kind.
      const create = async (client: pg.PoolClient) => {
        await boss.start();
        await transactionOn(client, () => createTables(client));
        for (const name of [...QUEUES, LATER]) await createQueue(boss, name);
      };
      await withClient(pool, (client, onBroken) => setUpAlone(client, LOCKS.jobTables, () => create(client), onBroken));
      return queue;
    } catch (error) {
      await queue[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#boss.stop({ graceful: false, close: false });
  }

  onQueued(listener: QueuedListener): void {
    this.#listeners.push(listener);
  }

  notifyQueued(jobs: readonly Job[]): void {
    const moment = this.#options.now();
    for (const { at, work } of jobs) {
      if (at !== null && at > moment) this.#notify("later", at);
      else this.#notify(queueOf(work), null);
    }
  }

  #notify(queue: QueueName | typeof LATER, at: Instant | null): void {
    for (const listener of this.#listeners) listener(queue, at);
  }

  /** Adds jobs in a transaction of its own. Returns how many were accepted. */
  async add(jobs: readonly Job[]): Promise<number> {
    if (jobs.length === 0) return 0;
    const accepted = await inTransaction(this.#options.pool, (sql) => this.enqueue(sql, jobs));
    this.notifyQueued(accepted);
    return accepted.length;
  }

  /**
   * Adds jobs inside the caller's transaction. Returns those that were accepted: not those whose id is known already, or
   * whose key waits in the queue. Call `notifyQueued` with them after the commit.
   */
  async enqueue(sql: Sql, jobs: readonly Job[]): Promise<readonly Job[]> {
    const unique = [...new Map(jobs.map((job) => [job.id, job])).values()];
    const moment = this.#options.now();
    const isLater = ({ at }: Job) => at !== null && at > moment;
    const later = unique.filter(isLater);
    const accepted = new Set(
      await this.#insert(
        sql,
        LATER,
        later.map((job) => laterRowOf(job, job.at ?? moment)),
      ),
    );
    for (const queue of QUEUES) {
      const mine = unique.filter((job) => queueOf(job.work) === queue && !isLater(job));
      if (mine.length === 0) continue;
      const rounds = await takeRounds(sql, queue, mine);
      const rows = mine.map((job) => rowOf(job, -((rounds.get(job) ?? 0) + ROUND_SHIFT[job.priority]), null));
      for (const id of await this.#insert(sql, queue, rows)) accepted.add(id);
      const refused = mine.filter(({ id }) => !accepted.has(id));
      if (refused.length > 0) await returnRounds(sql, queue, refused);
    }
    return unique.filter(({ id }) => accepted.has(id));
  }

  /** Returns the ids of the rows that were accepted. */
  async #insert(sql: Sql, queue: string, rows: JobInsert[]): Promise<readonly string[]> {
    if (rows.length === 0) return [];
    return (await this.#boss.insert(queue, rows, { db: sql, returnId: true })) ?? [];
  }

  /** Fetches up to `limit` jobs in the order of their rounds, none of the sharers in `without`. */
  async fetch(queue: QueueName, limit: number, without: readonly Sharer[]): Promise<readonly TakenJob[]> {
    const { pool, logger } = this.#options;
    const current = this.#currentRounds.get(queue) ?? 0;
    const ahead = without.length > 0 ? { ignoreGroups: [...without], minPriority: -(current + LOOK_AHEAD_ROUNDS) } : {};
    const jobs: TakenJob[] = [];
    let round = current;
    try {
      // In a transaction: when the answer with the jobs is lost, they go back to the queue at once.
      await inTransaction(pool, async (sql) => {
        const options = { batchSize: limit, includeMetadata: true, ...ahead, /* fence: job-taken */ db: sql } as const;
        for (const row of await this.#boss.fetch<unknown>(queue, options)) {
          const job = this.#jobOf(queue, row);
          const { id, retryCount, priority } = row;
          if (job === undefined) await this.#boss.complete(queue, { id, retryCount }, null, { db: sql });
          else jobs.push({ ...job, queue, round: -priority, retryCount });
        }
        failpoint("jobs-fetched/round-noted");
        round = Math.max(current, ...jobs.map((job) => job.round));
        if (round > current) await advanceRound(sql, queue, round);
        failpoint("round-noted/taken");
      });
      this.#currentRounds.set(queue, round);
    } catch (error) {
      if (jobs.length === 0) throw error;
      // Whether the commit succeeded is unknown. Handling a job twice is harmless, leaving it to the sweep is slow.
      logger.warn({ err: error, queue, jobs: jobs.length }, "job queue: fetch not confirmed; jobs may run twice");
    }
    return jobs;
  }

  #jobOf(queue: string, row: JobWithMetadata<unknown>): (Job & { failures: number }) | undefined {
    const data = JobDataSchema.safeParse(row.data);
    if (data.success) return { ...data.data, id: row.id, key: row.singletonKey ?? "", at: null };
    this.#options.logger.error({ queue, job: row.id }, "job queue: a job has an unknown shape and is dropped");
    return undefined;
  }

  /** Moves jobs of `later` that are due now into their queues, where they get their rounds. Returns how many. */
  async promote(): Promise<number> {
    const { pool, now } = this.#options;
    const { found, accepted } = await inTransaction(pool, async (sql) => {
      // The second bounds the part of the index that is read, `startAfter` decides within it.
      const due = { batchSize: LATER_BATCH, includeMetadata: true, minPriority: -secondOf(now()), db: sql } as const;
      const rows = await this.#boss.fetch<unknown>(LATER, due);
      if (rows.length === 0) return { found: 0, accepted: [] };
      const jobs = rows.map((row) => this.#jobOf(LATER, row)).filter((job) => job !== undefined);
      failpoint("later-taken/enqueued");
      const accepted = await this.enqueue(sql, jobs);
      failpoint("later-enqueued/deleted");
      await this.#boss.deleteJob(LATER, rows.map(attemptOf), { db: sql });
      return { found: rows.length, accepted };
    });
    this.notifyQueued(accepted);
    return found;
  }

  /** Ends the fetch of jobs: `done` ones are kept for a while, `retried` ones wait again. */
  async settle(queue: QueueName, { done, retried }: Settlement): Promise<void> {
    const { pool, now } = this.#options;
    if (done.length > 0) await this.#boss.complete(queue, done.map(attemptOf));
    if (retried.length === 0) return;
    const soon = now() + SHORT_WAIT_MS;
    const waiting = retried.map(({ job, at }) =>
      at <= soon ? { to: queue, at, row: rowOf(job, -job.round, at) } : { to: LATER, at, row: laterRowOf(job, at) },
    );
    await inTransaction(pool, async (sql) => {
      const held = retried.map(({ job }) => attemptOf(job));
      await this.#boss.deleteJob(queue, held, { db: sql });
      failpoint("put-back-deleted/inserted");
      for (const name of [queue, LATER]) {
        await this.#insert(
          sql,
          name,
          waiting.flatMap(({ to, row }) => (to === name ? [row] : [])),
        );
      }
    });
    for (const { to, at } of waiting) this.#notify(to, at);
  }

  /** Jobs that wait in each queue, and for how long the oldest of those that are due has been due; up to a minute old. */
  async waiting(): Promise<Readonly<Record<string, { readonly jobs: number; readonly oldestSeconds: number }>>> {
    const waiting = [...QUEUES, LATER].map(async (name) => {
      const [stats] = await this.#boss.getQueueStats(name, { force: true });
      return [name, { jobs: stats?.queuedCount ?? 0, oldestSeconds: stats?.readyOldestSeconds ?? 0 }] as const;
    });
    return Object.fromEntries(await Promise.all(waiting));
  }

  /** Removes the rounds of sharers that would get the current round anyway. */
  async forgetRounds(): Promise<void> {
    await this.#options.pool.query(
      `delete from jobs.rounds using jobs.current_rounds
       where rounds.queue = current_rounds.queue and rounds.last < current_rounds.round`,
    );
  }
}

/** Replaces a queue of an older version, which let a key wait twice. The sweep finds the work that its jobs were for. */
async function createQueue(boss: PgBoss, name: string): Promise<void> {
  const known = await boss.getQueue(name);
  if (known !== null && known.policy !== QUEUE_OPTIONS.policy) await boss.deleteQueue(name);
  await boss.createQueue(name, QUEUE_OPTIONS);
}

const attemptOf = ({ id, retryCount }: { id: string; retryCount: number }) => ({ id, retryCount });

/** A job as pg-boss inserts it. */
function rowOf(job: Job & { failures?: number }, priority: number, at: Instant | null): JobInsert {
  const { id, key, client, endpoint, cause, work, failures = 0 } = job;
  return {
    id,
    data: { client, endpoint, priority: job.priority, cause, work, failures },
    priority,
    singletonKey: key,
    group: { id: sharerOf(job) },
    ...(at === null ? {} : { startAfter: new Date(at) }),
  };
}
const laterRowOf = (job: Job, at: Instant) => rowOf(job, -secondOf(at), at);
const secondOf = (at: Instant): number => Math.floor(at / SECOND_MS) - EPOCH_2020_SECONDS;

/** Each statement in a transaction of its own. */
export const onPool = (pool: pg.Pool): Sql => ({
  executeSql: async (text, values) => pool.query(text, values ? [...values] : undefined),
});

/** A transaction in whose statements pg-boss takes part. Commits what `run` did, or nothing when it throws. */
export const inTransaction = <T>(pool: pg.Pool, run: (sql: Sql) => Promise<T>): Promise<T> =>
  transaction(pool, (client) =>
    run({ executeSql: async (text, values) => client.query(text, values ? [...values] : undefined) }),
  );

/** Our own tables. pg-boss has made the schema. */
async function createTables(client: pg.PoolClient): Promise<void> {
  await client.query(`create table if not exists jobs.reactor_checkpoints (
    name text primary key, position text not null)`);
  await client.query(createLeases("jobs.leases"));
  await client.query(CREATE_CURSORS);
  // `client` is a sharer: a client, or one of its endpoints.
  await client.query(`create table if not exists jobs.rounds (
    queue text not null, client text not null, priority text not null, last integer not null,
    primary key (queue, client, priority))`);
  await client.query(`create table if not exists jobs.current_rounds (
    queue text primary key, round integer not null)`);
  await client.query(createProviderUse);
}

// Rounds: the jobs of each sharer are spread over rounds, so that fetching in the order of rounds is round robin. Each
// priority of a sharer has rounds of its own, so that an urgent job does not wait behind a flood of the same client.

type Flow = { readonly sharer: Sharer; readonly priority: Job["priority"]; readonly jobs: Job[] };

/** The jobs by sharer and priority, in one order, so that two transactions cannot deadlock on the rows of rounds. */
function flowsOf(jobs: readonly Job[]): readonly Flow[] {
  const flows = new Map<string, Flow>();
  for (const job of jobs) {
    const { priority } = job;
    const sharer = sharerOf(job);
    const flow = flows.get(`${sharer} ${priority}`) ?? { sharer, priority, jobs: [] };
    flows.set(`${sharer} ${priority}`, flow);
    flow.jobs.push(job);
  }
  return [...flows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, flow]) => flow);
}

const parametersOf = (queue: QueueName, flows: readonly Flow[]) => [
  queue,
  flows.map(({ sharer }) => sharer),
  flows.map(({ priority }) => priority),
  flows.map(({ jobs }) => jobs.length),
];

/** Gives each job the next round of its sharer, not before the current one. The rows stay locked until the commit. */
async function takeRounds(sql: Sql, queue: QueueName, jobs: readonly Job[]): Promise<ReadonlyMap<Job, number>> {
  const flows = flowsOf(jobs);
  const { rows } = await sql.executeSql(
    `insert into jobs.rounds as known (queue, client, priority, last)
     select $1, flow.client, flow.priority, now.round + flow.jobs - 1
     from unnest($2::text[], $3::text[], $4::int[]) with ordinality as flow (client, priority, jobs, nth)
     cross join (select coalesce(max(round), 1) as round from jobs.current_rounds where queue = $1) as now
     order by flow.nth
     on conflict (queue, client, priority) do update
       set last = greatest(excluded.last, known.last + excluded.last + 1 - (
         select coalesce(max(round), 1) from jobs.current_rounds where queue = $1))
     returning client, priority, last`,
    parametersOf(queue, flows),
  );
  const last = new Map(rows.map((row) => [`${row.client} ${row.priority}`, Number(row.last)]));
  const roundOf = ({ sharer, priority, jobs }: Flow, index: number) =>
    (last.get(`${sharer} ${priority}`) ?? 0) - jobs.length + 1 + index;
  return new Map(flows.flatMap((flow) => flow.jobs.map((job, index) => [job, roundOf(flow, index)])));
}

/** Gives back the rounds of jobs that were not accepted, so that they do not delay their sharer's next ones. */
async function returnRounds(sql: Sql, queue: QueueName, jobs: readonly Job[]): Promise<void> {
  await sql.executeSql(
    `update jobs.rounds set last = last - flow.jobs
     from unnest($2::text[], $3::text[], $4::int[]) as flow (client, priority, jobs)
     where rounds.queue = $1 and rounds.client = flow.client and rounds.priority = flow.priority`,
    parametersOf(queue, flowsOf(jobs)),
  );
}

/** Records that jobs of this round were fetched. New jobs do not go before it. */
async function advanceRound(sql: Sql, queue: QueueName, round: number): Promise<void> {
  await sql.executeSql(
    `insert into jobs.current_rounds as known (queue, round) values ($1, $2)
     on conflict (queue) do update set round = excluded.round where known.round < excluded.round`,
    [queue, round],
  );
}
