// What happens to one delivery: a storage format, read for as long as logs live.
import { z } from "zod";
import { DeliveryIdSchema, NotificationIdSchema, SubjectSchema } from "../contract/ids.ts";
import { ChannelSchema, DeliveryStatusSchema, PrioritySchema } from "../contract/resources.ts";
import { type EventsOf, event, sealed } from "./event.ts";

/** On each event: whose it is, and the status before and after, so that counting by status is an addition. */
const base = z.object({
  notification: NotificationIdSchema,
  recipient: SubjectSchema,
  from: DeliveryStatusSchema.nullable(),
  to: DeliveryStatusSchema,
});
const attempt = base.extend({ n: z.number(), provider: z.string() });
const response = sealed(z.object({ status: z.number().nullable(), body: z.string() })).nullable();
const fault = sealed(z.object({ code: z.string(), message: z.string() }));

export const deliveryEvents = {
  DeliveryRequested: event({
    data: base.extend({
      channel: ChannelSchema,
      /** Null: there is none to send to. */
      address: sealed(z.string()).nullable(),
      name: sealed(z.string()).nullable(),
      fallbackOf: DeliveryIdSchema.nullable(),
      priority: PrioritySchema,
      /** Whether its notification has one recipient or more: it chooses among providers. */
      bulk: z.boolean(),
      expiresAt: z.number(),
      /** When an unacknowledged one falls back to email; null: never. */
      fallbackAt: z.number().nullable(),
    }),
    seals: { address: "recipient", name: "recipient" },
  }),
  DeliveryAttemptStarted: event({ data: attempt.extend({ leaseUntil: z.number() }) }),
  DeliverySucceeded: event({
    data: attempt.extend({ response, providerMessageId: z.string().nullable() }),
    seals: { response: "recipient" },
  }),
  DeliveryAttemptFailed: event({
    data: attempt.extend({ kind: z.enum(["transient", "permanent", "unknown"]), response, error: fault }),
    seals: { response: "recipient", error: "recipient" },
  }),
  DeliveryRetryScheduled: event({ data: base.extend({ n: z.number(), at: z.number() }) }),
  DeliveryExhausted: event({ data: base.extend({ reason: z.string() }) }),
  /** The person has it; after a fallback it only says when it was read. */
  DeliveryAcknowledged: event({ data: base }),
  /** Nobody acknowledged in time: the mail with this id starts from this event alone. */
  DeliveryFallbackRequested: event({
    data: base.extend({
      mail: DeliveryIdSchema,
      mailRecipient: SubjectSchema,
      address: sealed(z.string()).nullable(),
      name: sealed(z.string()).nullable(),
    }),
    seals: { address: "mailRecipient", name: "mailRecipient" },
  }),
  /** Asked to stop while an attempt is open: its outcome counts, none follows. */
  DeliveryCancelRequested: event({ data: base }),
  DeliveryCancelled: event({ data: base }),
  DeliveryExpired: event({ data: base.extend({ reason: z.enum(["expired", "too_many_open"]) }) }),
  DeliveryRedriven: event({ data: base.extend({ expiresAt: z.number(), fallbackAt: z.number().nullable() }) }),
} as const;
export type DeliveryEvent = EventsOf<typeof deliveryEvents>;
export type DeliveryRequest = Extract<DeliveryEvent, { type: "DeliveryRequested" }>["data"];
