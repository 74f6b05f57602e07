// Deliveries and their attempts: what answers show, and the parameters of requests about them.

import { z } from "zod";
import { commaSeparated, created, input, instant, orNull, paging, recipients, text, time } from "./fields.ts";
import { DeliveryIdSchema, RedriveIdSchema } from "./ids.ts";

export const ChannelSchema = z.enum(["email", "websocket", "webhook"]);
export type Channel = z.infer<typeof ChannelSchema>;
/** What the content of a mail is. */
export const ContentTypeSchema = z.enum(["html", "text"]);

export const PrioritySchema = z.enum(["low", "normal", "high", "critical"]);
export type Priority = z.infer<typeof PrioritySchema>;

export const DeliveryStatusSchema = z.enum([
  "pending",
  "sending",
  "retrying",
  "sent",
  "delivered",
  "fell_back",
  "bounced",
  "complained",
  "exhausted",
  "cancelled",
  "suppressed",
  "expired",
]);
export type DeliveryStatus = z.infer<typeof DeliveryStatusSchema>;

/** What an attempt came to; `unknown` when its worker was lost. */
const AttemptOutcomeSchema = z.enum(["succeeded", "transient", "permanent", "unknown"]);
export type AttemptOutcome = z.infer<typeof AttemptOutcomeSchema>;

/**
 * Whose fault a provider's refusal of a mail is. `account`: it takes no mail with these settings, whoever it is for.
 * `sender`: it takes none from this address. `recipient`: it takes none for the mail's recipient.
 */
export type Refusal = "account" | "sender" | "recipient";
/** What a provider, or a receiving server, tells of a mail that it took. */
export const ReportKindSchema = z.enum([
  "delivered",
  "bounced",
  "complained",
  "opened",
  "clicked",
  "unsubscribed",
  "deferred",
]);
/** A hard bounce is for good, a soft one may pass; rejected: the provider itself refused to send it. */
export const BounceKindSchema = z.enum(["hard", "soft", "rejected"]);

/** Why a delivery or attempt failed; `message` may quote what a server said. */
const DeliveryError = z.object({ code: z.string(), message: z.string() });
export type DeliveryError = z.infer<typeof DeliveryError>;

const AttemptResource = z
  .object({
    number: z.int().describe("From 1; starting again counts on"),
    started_at: time,
    ended_at: time.nullable(),
    outcome: AttemptOutcomeSchema.nullable().describe("null while it is under way; unknown when its worker was lost"),
    provider: z.string().nullable(),
    response: z
      .object({ status: z.int().nullable(), body: z.string() })
      .nullable()
      .describe("What the target answered, the first KiB of it"),
    error: DeliveryError.nullable(),
    next_attempt_at: time.nullable(),
  })
  .meta({ id: "Attempt" });
export type AttemptResource = z.infer<typeof AttemptResource>;

export const DeliveryResource = z
  .object({
    id: z.string(),
    notification_id: z.string().nullable().describe("null when it is an endpoint's"),
    source: z
      .object({ endpoint_id: z.string(), event_id: z.string() })
      .nullable()
      .describe("The webhook endpoint and the event that it gets; null when it is a notification's"),
    channel: ChannelSchema,
    recipient: z
      .string()
      .nullable()
      .describe("A mail address, user id or URL; null when there is none or it was erased"),
    status: DeliveryStatusSchema,
    fallback_of: z.string().nullable().describe("The WebSocket delivery that this mail stands in for"),
    attempt_count: z.int(),
    next_attempt_at: time.nullable(),
    held_until: time.nullable().describe("Until when it waits for the end of its recipient's quiet hours"),
    sent_at: time.nullable(),
    delivered_at: time.nullable(),
    read_at: time.nullable(),
    opened_at: time.nullable().describe("When the mail was first opened, as the provider says"),
    provider: z.string().nullable(),
    provider_message_id: z.string().nullable(),
    error: DeliveryError.nullable(),
    attempts: z.array(AttemptResource),
  })
  .meta({ id: "Delivery" });
export type DeliveryResource = z.infer<typeof DeliveryResource>;

export const DeliveryParams = z.object({ delivery_id: DeliveryIdSchema });
/** Of changes, which look up whatever they are given. */
export const ChangedDeliveryParams = z.object({ delivery_id: z.string() });

/** Providers, endpoints and codes by name. */
const names = commaSeparated(text(1, 128));
export const DeliveryQuery = input({
  ...paging,
  ...created,
  status: commaSeparated(DeliveryStatusSchema).optional(),
  channel: commaSeparated(ChannelSchema).optional(),
  provider: names.optional().meta({ type: "string", description: "Of the last attempt" }),
  recipient: recipients.optional().meta({ type: "string", description: "User ids, mail addresses, or a URL" }),
  endpoint_id: names.optional(),
});
export type DeliveryQuery = z.output<typeof DeliveryQuery>;

/** In which a delivery can be started again. */
export const RedrivableSchema = DeliveryStatusSchema.extract(["exhausted", "bounced", "expired"]);

/** Deliveries that one redrive starts again at most. */
const MAX_REDRIVEN = 1_000_000;
const MAX_NAMES = 100;
const oneOrMore = <T extends z.ZodType>(item: T) => orNull(z.union([item, z.array(item).min(1).max(MAX_NAMES)]));

/** What a redrive starts again; what is left out does not matter. */
export const NewRedrive = input({
  status: oneOrMore(RedrivableSchema).meta({ description: "All three when left out." }),
  channel: oneOrMore(ChannelSchema),
  provider: oneOrMore(text(1, 128)).meta({ description: "Of the last attempt." }),
  endpoint_id: oneOrMore(text(1, 128)),
  error_code: oneOrMore(text(1, 128)),
  from: orNull(instant),
  to: orNull(instant),
  limit: orNull(z.int().min(1).max(MAX_REDRIVEN)).meta({ description: "The oldest so many; all when left out." }),
});
export type NewRedrive = z.output<typeof NewRedrive>;

export const AcceptedRedrive = z
  .object({ job_id: z.string(), matched: z.int().describe("Deliveries that it will start again") })
  .meta({ id: "AcceptedRedrive" });
export type AcceptedRedrive = z.infer<typeof AcceptedRedrive>;

export const RedriveResource = z
  .object({
    id: z.string(),
    status: z.enum(["running", "done"]),
    matched: z.int(),
    done: z.int().describe("Started again so far, or found to have moved on meanwhile"),
    created_at: time,
    finished_at: time.nullable(),
  })
  .meta({ id: "Redrive" });
export type RedriveResource = z.infer<typeof RedriveResource>;

export const RedriveParams = z.object({ job_id: RedriveIdSchema });

// Figures about deliveries of notifications: what requests ask for and answers show.

const AnalyticsGroupSchema = z.enum(["hour", "day", "channel", "provider", "status", "category", "tag"]);
export type AnalyticsGroup = z.infer<typeof AnalyticsGroupSchema>;

export const AnalyticsQuery = input({
  ...created,
  type: commaSeparated(ChannelSchema).optional(),
  room_id: commaSeparated(text(1, 128)).optional(),
  category: commaSeparated(text(1, 64)).optional(),
  tag: commaSeparated(text(1, 64)).optional(),
  group_by: AnalyticsGroupSchema.default("day"),
});
export type AnalyticsQuery = z.output<typeof AnalyticsQuery>;

const count = z.int();
const seconds = z.number().nullable();
export const AnalyticsFigures = z
  .object({
    requested: count.describe("Deliveries that were made"),
    sent: count.describe("Ever taken by a provider or receiver"),
    delivered: count.describe("Ever delivered"),
    opened: count,
    bounced: count,
    complained: count,
    failed: count.describe("Exhausted or expired"),
    suppressed: count,
    fell_back: count,
    cancelled: count,
    delivery_rate: z
      .number()
      .nullable()
      .describe("Sent or delivered, of those that were neither suppressed nor cancelled; null when there are none"),
    p50_seconds: seconds.describe("From the release to the success"),
    p95_seconds: seconds,
  })
  .meta({ id: "AnalyticsFigures" });
export type AnalyticsFigures = z.infer<typeof AnalyticsFigures>;

export const AnalyticsReport = z
  .object({
    data: z
      .array(z.record(z.string(), z.union([z.string(), z.number(), z.null()])))
      .describe("For each group its name, under the name of the grouping, and its figures"),
    totals: AnalyticsFigures,
  })
  .meta({ id: "AnalyticsReport" });
export type AnalyticsReport = z.infer<typeof AnalyticsReport>;
