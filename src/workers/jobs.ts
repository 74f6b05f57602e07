// Jobs: what is to be done, by ids alone. Contents, addresses and names stay in the log, where they are sealed.
import { z } from "zod";
import { ClientIdSchema, DeliveryIdSchema, NotificationIdSchema, SubjectSchema } from "../contract/ids.ts";
import { type Priority, PrioritySchema } from "../contract/resources.ts";
import type { Instant } from "../contract/time.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";

const notification = { notification: NotificationIdSchema };
const delivery = { delivery: DeliveryIdSchema };

const WorkSchema = z.discriminatedUnion("kind", [
  /** Releases a scheduled notification whose time has come. */
  z.object({ kind: z.literal("release"), ...notification }),
  /** Requests every delivery of a released notification. */
  z.object({ kind: z.literal("route"), ...notification }),
  /** Passes the stop of a notification to each of its deliveries. */
  z.object({ kind: z.literal("stop"), ...notification }),
  /** Makes attempt `n`; null: whichever is due. */
  z.object({ kind: z.literal("attempt"), ...delivery, n: z.number().int().nullable() }),
  /** Lets a WebSocket delivery that nobody acknowledged fall back. */
  z.object({ kind: z.literal("fallback"), ...delivery }),
  /** Makes the mail of a WebSocket delivery that fell back. */
  z.object({ kind: z.literal("mail"), ...delivery }),
  z.object({ kind: z.literal("expire"), ...delivery }),
  /** Expires a user's oldest open WebSocket deliveries beyond the limit. */
  z.object({ kind: z.literal("overflow"), recipient: SubjectSchema }),
]);
/** One thing to do. Doing it twice is harmless: the streams decide. */
export type Work = z.infer<typeof WorkSchema>;

/** Where an event that a job leads to says it came from; null when only a sweep found what is owed. */
const CauseSchema = z.object({ correlation: z.string(), causation: z.string() });
export type Cause = z.infer<typeof CauseSchema>;

export const JobDataSchema = z.object({
  client: ClientIdSchema,
  priority: PrioritySchema,
  cause: CauseSchema.nullable(),
  work: WorkSchema,
});
type JobData = z.infer<typeof JobDataSchema>;

export type Job = JobData & {
  /** UUID; a job is taken in once under its id, as long as the queue remembers it. */
  readonly id: string;
  /** Not before; null: now. */
  readonly at: Instant | null;
};

/** Attempts wait for slow targets, tasks only for us. */
export const QUEUES = ["attempts", "tasks"] as const;
export type Queue = (typeof QUEUES)[number];
export const queueOf = (work: Work): Queue => (work.kind === "attempt" ? "attempts" : "tasks");

/** What a job is about: jobs with one key do the same. */
export function keyOf(work: Work): string {
  if ("delivery" in work) return `${work.kind}:${work.delivery}`;
  return `${work.kind}:${"notification" in work ? work.notification : work.recipient}`;
}

/** The id of a job that an event or a sweep leads to. */
export const jobId = (work: Work, ...reason: readonly (string | number)[]): string =>
  deriveUuid("job", keyOf(work), ...reason);

/** How many rounds a priority moves a job, earlier (negative) or later. */
export const ROUND_SHIFT: Readonly<Record<Priority, number>> = { critical: -200, high: -50, normal: 0, low: 200 };
