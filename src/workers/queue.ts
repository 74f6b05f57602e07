// The jobs in PostgreSQL: pg-boss, by its public interface alone, and our own tables beside it in the schema `jobs`.
import type pg from "pg";
import { type Db, type JobWithMetadata, PgBoss } from "pg-boss";
import type { Logger } from "pino";
import type { ClientId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { failpoint } from "../platform/failpoint.ts";
import { createLeases } from "../platform/leader.ts";
import { LOCKS, lockInTransaction } from "../platform/locks.ts";
import { inTransaction as transaction } from "../platform/postgres.ts";
import { type Job, JobDataSchema, QUEUES, type QueueName, queueOf, ROUND_SHIFT, type TakenJob } from "./jobs.ts";

const SCHEMA = "jobs";
/** The queue of what is due later, in the order of its time. */
const LATER = "later";
/** A job that a worker held for longer counts as that of a crashed worker, and is fetched again. */
const EXPIRE_SECONDS = 300;
/** How often a job is fetched again whose worker crashed. */
const RETRY_LIMIT = 20;
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

/** How far past the current round a fetch that leaves out clients looks: it must not scan all of their jobs. */
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
type QueuedListener = (queue: QueueName | "later", at: Instant | null) => void;

export type JobQueue = AsyncDisposable & {
  /**
   * Adds jobs inside the caller's transaction, and returns those that were accepted: not those whose id is known already,
   * or whose key waits in the queue. Call `notifyQueued` with them after the commit.
   */
  enqueue(sql: Sql, jobs: readonly Job[]): Promise<readonly Job[]>;
  /** Adds jobs in a transaction of its own, and returns how many were accepted. */
  add(jobs: readonly Job[]): Promise<number>;
  notifyQueued(jobs: readonly Job[]): void;
  /** Fetches up to `limit` jobs in the order of their rounds, none of the clients in `without`. */
  fetch(queue: QueueName, limit: number, without: readonly ClientId[]): Promise<readonly TakenJob[]>;
  /** Moves jobs of `later` that are due now into their queues, where they get their rounds. Returns how many. */
  promote(): Promise<number>;
  settle(queue: QueueName, settlement: Settlement): Promise<void>;
  /** Removes the rounds of clients that would get the current round anyway. */
  forgetRounds(): Promise<void>;
  onQueued(listener: QueuedListener): void;
};

/** Opens the queue. Makes the schema `jobs` when it does not exist; several processes may do so at once. */
export async function openJobQueue(options: { pool: pg.Pool; logger: Logger; now: () => Instant }): Promise<JobQueue> {
  const { pool, logger, now } = options;
  const boss = new PgBoss({ db: onPool(pool), schema: SCHEMA, schedule: false, registerInstance: false });
  boss.on("error", (error) =>
    logger.warn({ err: error }, "job queue: maintenance failed; retrying at its next interval"),
  );
  boss.on("warning", (warning) => logger.debug({ warning: warning.message }, "job queue: warning"));
  const stop = () => boss.stop({ graceful: false, close: false });
  try {
    await boss.start();
    await transaction(pool, createTables);
    for (const name of [...QUEUES, LATER]) await createQueue(boss, name);
  } catch (error) {
    await stop();
    throw error;
  }
  const listeners: QueuedListener[] = [];
  const currentRounds = new Map<QueueName, number>();

  async function enqueue(sql: Sql, jobs: readonly Job[]): Promise<readonly Job[]> {
    const unique = [...new Map(jobs.map((job) => [job.id, job])).values()];
    const moment = now();
    const accepted = new Set<string>();
    const insert = async (queue: string, rows: readonly ReturnType<typeof rowOf>[]) => {
      if (rows.length === 0) return;
      for (const id of (await boss.insert(queue, [...rows], { db: sql, returnId: true })) ?? []) accepted.add(id);
    };
    const later = unique.flatMap(({ at, ...job }) => (at !== null && at > moment ? [laterRowOf(job, at)] : []));
    await insert(LATER, later);
    for (const queue of QUEUES) {
      const mine = unique.filter((job) => queueOf(job.work) === queue && (job.at === null || job.at <= moment));
      if (mine.length === 0) continue;
      const rounds = await takeRounds(sql, queue, mine);
      await insert(
        queue,
        mine.map((job) => rowOf(job, -((rounds.get(job) ?? 0) + ROUND_SHIFT[job.priority]), null)),
      );
      const refused = mine.filter(({ id }) => !accepted.has(id));
      if (refused.length > 0) await returnRounds(sql, queue, refused);
    }
    return unique.filter(({ id }) => accepted.has(id));
  }

  const notify = (queue: QueueName | "later", at: Instant | null) => {
    for (const listener of listeners) listener(queue, at);
  };
  function notifyQueued(jobs: readonly Job[]): void {
    const moment = now();
    for (const { at, work } of jobs) {
      if (at !== null && at > moment) notify("later", at);
      else notify(queueOf(work), null);
    }
  }
  async function add(jobs: readonly Job[]): Promise<number> {
    if (jobs.length === 0) return 0;
    const accepted = await inTransaction(pool, (sql) => enqueue(sql, jobs));
    notifyQueued(accepted);
    return accepted.length;
  }

  function jobOf(queue: string, row: JobWithMetadata<unknown>): (Job & { failures: number }) | undefined {
    const data = JobDataSchema.safeParse(row.data);
    if (data.success) return { ...data.data, id: row.id, key: row.singletonKey ?? "", at: null };
    logger.error({ queue, job: row.id }, "job queue: a job has an unknown shape and is dropped");
    return undefined;
  }

  async function fetch(queue: QueueName, limit: number, without: readonly ClientId[]): Promise<readonly TakenJob[]> {
    const current = currentRounds.get(queue) ?? 0;
    const ahead = without.length > 0 ? { ignoreGroups: [...without], minPriority: -(current + LOOK_AHEAD_ROUNDS) } : {};
    const jobs: TakenJob[] = [];
    let round = current;
    try {
      // In a transaction: when the answer with the jobs is lost, they go back to the queue at once.
      await inTransaction(pool, async (sql) => {
        const options = { batchSize: limit, includeMetadata: true, ...ahead, /* fence: job-taken */ db: sql } as const;
        for (const row of await boss.fetch<unknown>(queue, options)) {
          const { retryCount, priority } = row;
          const job = jobOf(queue, row);
          if (job === undefined) await boss.complete(queue, { id: row.id, retryCount }, null, { db: sql });
          else jobs.push({ ...job, queue, round: -priority, retryCount });
        }
        failpoint("jobs-fetched/round-noted");
        round = Math.max(current, ...jobs.map((job) => job.round));
        if (round > current) await advanceRound(sql, queue, round);
        failpoint("round-noted/taken");
      });
      currentRounds.set(queue, round);
    } catch (error) {
      if (jobs.length === 0) throw error;
      // Whether the commit succeeded is unknown. Handling a job twice is harmless, leaving it to the sweep is slow.
      logger.warn({ err: error, queue, jobs: jobs.length }, "job queue: fetch not confirmed; jobs may run twice");
    }
    return jobs;
  }

  async function promote(): Promise<number> {
    const { found, accepted } = await inTransaction(pool, async (sql) => {
      // The second bounds the part of the index that is read, `startAfter` decides within it.
      const due = { batchSize: LATER_BATCH, includeMetadata: true, minPriority: -secondOf(now()), db: sql } as const;
      const rows = await boss.fetch<unknown>(LATER, due);
      if (rows.length === 0) return { found: 0, accepted: [] };
      const jobs = rows.map((row) => jobOf(LATER, row)).filter((job) => job !== undefined);
      failpoint("later-taken/enqueued");
      const accepted = await enqueue(sql, jobs);
      failpoint("later-enqueued/deleted");
      await boss.deleteJob(
        LATER,
        rows.map(({ id, retryCount }) => ({ id, retryCount })),
        { db: sql },
      );
      return { found: rows.length, accepted };
    });
    notifyQueued(accepted);
    return found;
  }

  async function settle(queue: QueueName, { done, retried }: Settlement): Promise<void> {
    if (done.length > 0) await boss.complete(queue, done.map(attemptOf));
    if (retried.length === 0) return;
    const soon = now() + SHORT_WAIT_MS;
    await inTransaction(pool, async (sql) => {
      const held = retried.map(({ job }) => attemptOf(job));
      await boss.deleteJob(queue, held, { db: sql });
      failpoint("put-back-deleted/inserted");
      const short = retried.filter(({ at }) => at <= soon).map(({ job, at }) => rowOf(job, -job.round, at));
      if (short.length > 0) await boss.insert(queue, short, { db: sql });
      const long = retried.filter(({ at }) => at > soon).map(({ job, at }) => laterRowOf(job, at));
      if (long.length > 0) await boss.insert(LATER, long, { db: sql });
    });
    for (const { at } of retried) notify(at > soon ? "later" : queue, at);
  }

  return {
    ...{ enqueue, add, notifyQueued, fetch, promote, settle },
    forgetRounds: () => forgetRounds(onPool(pool)),
    onQueued: (listener) => {
      listeners.push(listener);
    },
    [Symbol.asyncDispose]: stop,
  };
}

/** Replaces a queue of an older version, which let a key wait twice. The sweep finds the work that its jobs were for. */
async function createQueue(boss: PgBoss, name: string): Promise<void> {
  const known = await boss.getQueue(name);
  if (known !== null && known.policy !== QUEUE_OPTIONS.policy) await boss.deleteQueue(name);
  await boss.createQueue(name, QUEUE_OPTIONS);
}

const attemptOf = ({ id, retryCount }: TakenJob) => ({ id, retryCount });

/** A job as pg-boss inserts it. */
function rowOf(job: Omit<Job, "at"> & { failures?: number }, priority: number, at: Instant | null) {
  const { id, key, client, cause, work, failures = 0 } = job;
  return {
    id,
    data: { client, priority: job.priority, cause, work, failures },
    priority,
    singletonKey: key,
    group: { id: client },
    ...(at === null ? {} : { startAfter: new Date(at) }),
  };
}
const laterRowOf = (job: Omit<Job, "at">, at: Instant) => rowOf(job, -secondOf(at), at);
const secondOf = (at: Instant): number => Math.floor(at / SECOND_MS) - EPOCH_2020_SECONDS;

/** Each statement in a transaction of its own. */
const onPool = (pool: pg.Pool): Sql => ({
  executeSql: async (text, values) => pool.query(text, values ? [...values] : undefined),
});

/** A transaction in whose statements pg-boss takes part. Commits what `run` did, or nothing when it throws. */
export const inTransaction = <T>(pool: pg.Pool, run: (sql: Sql) => Promise<T>): Promise<T> =>
  transaction(pool, (client) =>
    run({ executeSql: async (text, values) => client.query(text, values ? [...values] : undefined) }),
  );

/** Our own tables. pg-boss has made the schema. */
async function createTables(client: pg.PoolClient): Promise<void> {
  await lockInTransaction(client, LOCKS.jobTables);
  await client.query(`create table if not exists jobs.reactor_checkpoints (
    name text primary key, position text not null)`);
  await client.query(createLeases("jobs.leases"));
  await client.query(`create table if not exists jobs.rounds (
    queue text not null, client text not null, priority text not null, last integer not null,
    primary key (queue, client, priority))`);
  await client.query(`create table if not exists jobs.current_rounds (
    queue text primary key, round integer not null)`);
}

// Rounds: the jobs of each client are spread over rounds, so that fetching in the order of rounds is round robin. Each
// priority of a client has rounds of its own, so that an urgent job does not wait behind a flood of the same client.

type Flow = { readonly client: ClientId; readonly priority: Job["priority"]; readonly jobs: Job[] };

/** The jobs by client and priority, in one order, so that two transactions cannot deadlock on the rows of rounds. */
function flowsOf(jobs: readonly Job[]): readonly Flow[] {
  const flows = new Map<string, Flow>();
  for (const job of jobs) {
    const { client, priority } = job;
    const flow = flows.get(`${client} ${priority}`) ?? { client, priority, jobs: [] };
    flows.set(`${client} ${priority}`, flow);
    flow.jobs.push(job);
  }
  return [...flows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, flow]) => flow);
}

const parametersOf = (queue: QueueName, flows: readonly Flow[]) => [
  queue,
  flows.map(({ client }) => client),
  flows.map(({ priority }) => priority),
  flows.map(({ jobs }) => jobs.length),
];

/** Gives each job the next round of its client, not before the current one. The rows stay locked until the commit. */
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
  return new Map(
    flows.flatMap(({ client, priority, jobs }) =>
      jobs.map((job, index) => {
        const first = (last.get(`${client} ${priority}`) ?? 0) - jobs.length + 1;
        return [job, first + index] as const;
      }),
    ),
  );
}

/** Gives back the rounds of jobs that were not accepted, so that they do not delay their client's next ones. */
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

async function forgetRounds(sql: Sql): Promise<void> {
  await sql.executeSql(
    `delete from jobs.rounds using jobs.current_rounds
     where rounds.queue = current_rounds.queue and rounds.last < current_rounds.round`,
  );
}
