// Jobs: work as ids alone. Contents, addresses and names stay in the log, where they are sealed.
import { z } from "zod";
import { type Priority, PrioritySchema } from "../contract/deliveries.ts";
import {
  type ClientId,
  ClientIdSchema,
  DeliveryIdSchema,
  type EndpointId,
  EndpointIdSchema,
  NotificationIdSchema,
  RedriveIdSchema,
  ScheduledMessageIdSchema,
  SubjectSchema,
} from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";

const notification = { notification: NotificationIdSchema };
const delivery = { delivery: DeliveryIdSchema };

const WorkSchema = z.discriminatedUnion("kind", [
  /** Releases a scheduled notification at its time. */
  z.object({ kind: z.literal("release"), ...notification }),
  /** Requests every delivery of a released notification. */
  z.object({ kind: z.literal("route"), ...notification }),
  /** Passes the stop of a notification to each of its deliveries. */
  z.object({ kind: z.literal("stop"), ...notification }),
  /** Erases what the deliveries of a notification say of their recipients. */
  z.object({ kind: z.literal("erase"), ...notification }),
  /** Makes attempt `n`. Null: the one that is due. */
  z.object({ kind: z.literal("attempt"), ...delivery, n: z.number().int().nullable() }),
  /** Lets a WebSocket delivery that nobody acknowledged fall back. */
  z.object({ kind: z.literal("fallback"), ...delivery }),
  /** Requests the mail of a WebSocket delivery that fell back. */
  z.object({ kind: z.literal("mail"), ...delivery }),
  z.object({ kind: z.literal("expire"), ...delivery }),
  /** Ends a delivery that a newer one has replaced. */
  z.object({ kind: z.literal("replace"), ...delivery }),
  /** Lets a WebSocket delivery that was held go on. */
  z.object({ kind: z.literal("endHold"), ...delivery }),
  /** Expires a user's oldest open WebSocket deliveries beyond the limit. */
  z.object({ kind: z.literal("overflow"), recipient: SubjectSchema }),
  /** Acknowledges what a mark on a user's whole inbox read, by the mark's revision. */
  z.object({ kind: z.literal("acknowledge"), recipient: SubjectSchema, mark: z.number().int() }),
  /** Posts a message for later at its time. */
  z.object({ kind: z.literal("post"), scheduled: ScheduledMessageIdSchema }),
  /** Starts many deliveries again, page after page. */
  z.object({ kind: z.literal("redrive"), redrive: RedriveIdSchema }),
]);
/** One thing to do. Doing it twice is harmless: the streams decide. */
export type Work = z.infer<typeof WorkSchema>;

/** The correlation and cause of the events that a job leads to. Null when only a sweep found the work. */
const CauseSchema = z.object({ correlation: z.string(), causation: z.string() });
export type Cause = z.infer<typeof CauseSchema>;

export const JobDataSchema = z.object({
  client: ClientIdSchema,
  /** The webhook endpoint whose delivery it is about. */
  endpoint: EndpointIdSchema.nullable().default(null),
  priority: PrioritySchema,
  cause: CauseSchema.nullable(),
  work: WorkSchema,
  /** How often its handler has thrown in a row. */
  failures: z.number().int().default(0),
});

export type Job = Omit<z.infer<typeof JobDataSchema>, "failures"> & {
  /** UUID. A job is accepted once under its id, for as long as the queue keeps it. */
  readonly id: string;
  /** What it is about. While a job waits in a queue, no other with its key is accepted there. */
  readonly key: string;
  /** The earliest time. Null: now. */
  readonly at: Instant | null;
};

/** Who has rounds and slots of its own: a client, and each of its webhook endpoints. */
export type Sharer = ClientId | EndpointId;
export const sharerOf = ({ client, endpoint }: Pick<Job, "client" | "endpoint">): Sharer =>
  /* fence: endpoint-rounds */ endpoint ?? client;

/** A job that a worker has fetched. */
export type TakenJob = Job & {
  readonly queue: QueueName;
  readonly round: number;
  readonly failures: number;
  /** How often a worker that had it crashed. With the id it names this fetch: a later one settles it alone. */
  readonly retryCount: number;
};

/** The result of a job: it is done, or runs again at `at`. A handler that throws sees its job again after a backoff. */
export type Verdict = { readonly kind: "done" } | { readonly kind: "retry"; readonly at: Instant };
export const DONE: Verdict = { kind: "done" };
export const retryLater = (at: Instant): Verdict => ({ kind: "retry", at });

/** Attempts wait for slow targets, tasks only for us. */
export const QUEUES = ["attempts", "tasks"] as const;
export type QueueName = (typeof QUEUES)[number];
export const queueOf = (work: Work): QueueName => (work.kind === "attempt" ? "attempts" : "tasks");

/** How many rounds a priority moves a job, earlier (negative) or later. */
export const ROUND_SHIFT: Readonly<Record<Priority, number>> = { critical: -200, high: -50, normal: 0, low: 200 };

/** A job. Its id is derived from the work and `reason`, so that one event, or one sweep, leads to it once. */
export function createJob(fields: JobFields, ...reason: readonly (string | number)[]): Job {
  const { work, at, endpoint = null } = fields;
  const about = `${work.kind}:${subjectOf(work)}`;
  // An attempt is the same whenever it is made. The others are the same when they are due at the same time.
  const key = `${about}:${(work.kind === "attempt" ? work.n : at) ?? ""}`;
  return { ...fields, endpoint, id: deriveUuid("job", about, ...reason), key };
}
type JobFields = Omit<Job, "id" | "key" | "endpoint"> & Partial<Pick<Job, "endpoint">>;

function subjectOf(work: Work): string {
  if ("mark" in work) return `${work.recipient}:${work.mark}`;
  if ("delivery" in work) return work.delivery;
  if ("redrive" in work) return work.redrive;
  if ("scheduled" in work) return work.scheduled;
  return "notification" in work ? work.notification : work.recipient;
}
