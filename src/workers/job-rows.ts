// Jobs as pg-boss keeps them: the queues' settings, and what a row is made of.
import { z } from "zod";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { type Job, JobDataSchema, keyOf } from "./jobs.ts";

/** The queue of what is due later, in the order of when. */
export const LATER = "later";
/** How long a job may stay with a worker. After it the worker counts as crashed, and the job is taken again. */
const EXPIRE_SECONDS = 300;
/** How often a job comes again whose worker crashed or whose handler threw. */
const RETRY_LIMIT = 20;
const RETRY_MAX_SECONDS = 60;
/** Done jobs are kept so long, which also keeps their ids from being taken in twice. */
const KEEP_DONE_SECONDS = 3_600;
/** pg-boss's priority of jobs for later is their second, counted from here so that it fits (until 2088). */
const EPOCH_2020_SECONDS = 1_577_836_800;

/** Of every queue. */
export const QUEUE_OPTIONS = {
  expireInSeconds: EXPIRE_SECONDS,
  retryLimit: RETRY_LIMIT,
  retryDelay: 1,
  retryBackoff: true,
  retryDelayMax: RETRY_MAX_SECONDS,
  deleteAfterSeconds: KEEP_DONE_SECONDS,
} as const;

/** A row of `later`, as it is fetched. */
export const LaterSchema = z.object({ id: z.string(), data: JobDataSchema });

/** A job as it is inserted, not before `at`. */
export const insertOf = (job: Job, priority: number, at: Instant | null) => {
  const { client, priority: lane, cause, work } = job;
  return {
    id: job.id,
    data: { client, priority: lane, cause, work },
    priority,
    singletonKey: keyOf(work),
    group: { id: client },
    ...(at === null ? {} : { startAfter: new Date(at) }),
  };
};
/** Its second, as a number that fits into a priority. */
export const secondOf = (at: Instant): number => Math.floor(at / SECOND_MS) - EPOCH_2020_SECONDS;
