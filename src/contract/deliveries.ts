// Deliveries and their attempts: what answers show, and the parameters of requests about them.
import { z } from "zod";
import { time } from "./fields.ts";
import { DeliveryIdSchema } from "./ids.ts";

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
    notification_id: z.string(),
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
