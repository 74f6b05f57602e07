// domain/delivery-state.ts: the events of a delivery, and the state that they lead to: a state machine in the log.
import { z } from "zod";
import {
  BounceKindSchema,
  type Channel,
  ChannelSchema,
  type DeliveryStatus,
  DeliveryStatusSchema,
  PrioritySchema,
  RedrivableSchema,
  ReportKindSchema,
} from "../contract/deliveries.ts";
import {
  type DeliveryId,
  DeliveryIdSchema,
  EndpointIdSchema,
  EventIdSchema,
  NotificationIdSchema,
  SubjectSchema,
} from "../contract/ids.ts";
import type { InboxStatus } from "../contract/inbox.ts";
import { isObject, type JsonObject } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import type { EventContext } from "./decider.ts";
import { type EventsOf, event, sealed } from "./event.ts";

/** What the name of each delivery's stream begins with. */
export const DELIVERY_STREAMS = "delivery-";
export const deliveryStream = (id: DeliveryId) => `${DELIVERY_STREAMS}${id}`;

/** On nearly each event: whose it is, and the status before and after, so that counting by status is an addition. */
export const base = z.object({
  /** Null: it is an endpoint's. */
  notification: NotificationIdSchema.nullable(),
  /** The webhook endpoint that it is for. */
  endpoint: EndpointIdSchema.optional(),
  recipient: SubjectSchema,
  from: DeliveryStatusSchema.nullable(),
  to: DeliveryStatusSchema,
});
const attempt = base.extend({ n: z.number(), provider: z.string() });
const response = sealed(z.object({ status: z.number().nullable(), body: z.string() })).nullable();
const fault = sealed(z.object({ code: z.string(), message: z.string() }));
/** Of a mail with copies: what became of each of its recipients, by its place; the recipient is 0. */
const recipients = z.array(
  z.object({ index: z.number(), outcome: z.enum(["taken", "deferred", "refused"]), status: z.number().nullable() }),
);
/** The domain of Message-IDs before they were at the sender's. */
const FORMER_DOMAIN = "chatapi.internal";
const neverWithheld = (data: JsonObject) => ({ ...data, withheld: false });
const withoutRecipients = { 1: (data: JsonObject) => ({ ...data, recipients: [] }) };
/** An endpoint's deliveries held a position of their log; where their batch began is no later than their own event. */
function withBatchStart(data: JsonObject): JsonObject {
  const { source } = data;
  if (!isObject(source) || !("endpoint" in source) || "batchStart" in source) return data;
  const { stream = null, revision = null } = source;
  return { ...data, source: { ...source, batchStart: { stream, revision } } };
}

/** A stored event. Never a position, which is another one once the log has moved. */
const eventRef = z.object({ stream: z.string(), revision: z.number() });

/** A public event for a webhook endpoint, and the stored event that it is made from. */
const endpointSource = z.object({
  endpoint: EndpointIdSchema,
  event: EventIdSchema,
  /** Its public type. */
  type: z.string(),
  ...eventRef.shape,
  /** How often the endpoint had been rewound. */
  generation: z.number(),
  /** The first of the events that were requested with it: all of the endpoint before that one were requested. */
  batchStart: eventRef,
  /** What an ordered endpoint gets one by one: the room, or the notification with its deliveries. Null: not ordered. */
  lane: z.string().nullable(),
  /** The delivery before it in its lane, when that had not ended: it waits for its end. */
  previous: DeliveryIdSchema.nullable(),
});
export type EndpointSource = z.infer<typeof endpointSource>;
export type EventRef = z.infer<typeof eventRef>;

/** What a delivery is of: a notification, or an event for an endpoint. */
const source = z.union([z.object({ notification: NotificationIdSchema }), endpointSource]);

// Events. A storage format.
export const deliveryEvents = {
  DeliveryRequested: event({
    v: 4,
    data: base.extend({
      source,
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
      /** Whether the next event, of the same append, suppresses or holds it. */
      withheld: z.boolean(),
    }),
    seals: { address: "recipient", name: "recipient" },
    upcasts: {
      // Version 1 knew deliveries of notifications alone.
      1: (data) => ({ ...data, source: { notification: data.notification ?? null } }),
      2: neverWithheld,
      3: withBatchStart,
    },
  }),
  DeliveryAttemptStarted: event({
    v: 2,
    data: attempt.extend({
      leaseUntil: z.number(),
      /** The sender's domain, for the Message-ID that all attempts share. Null: it is no mail. */
      domain: z.string().nullable(),
    }),
    upcasts: { 1: (data) => ({ ...data, domain: data.provider === "webhook" ? null : FORMER_DOMAIN }) },
  }),
  /** The server has the whole mail and has not answered yet: nobody takes over before it may. */
  DeliveryLeaseExtended: event({ data: base.extend({ n: z.number(), leaseUntil: z.number() }) }),
  /** The open attempt goes on with another provider. \`from\` and \`to\` are their names. */
  ProviderFailedOver: event({
    data: base.pick({ notification: true, recipient: true }).extend({
      ...{ n: z.number(), from: z.string(), to: z.string(), code: z.string(), leaseUntil: z.number() },
    }),
  }),
  DeliverySucceeded: event({
    v: 2,
    data: attempt.extend({ response, providerMessageId: z.string().nullable(), recipients }),
    seals: { response: "recipient" },
    upcasts: withoutRecipients,
  }),
  DeliveryAttemptFailed: event({
    v: 2,
    data: attempt.extend({ kind: z.enum(["transient", "permanent", "unknown"]), response, error: fault, recipients }),
    seals: { response: "recipient", error: "recipient" },
    upcasts: withoutRecipients,
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
  DeliveryRedriven: event({
    v: 2,
    data: base.extend({
      expiresAt: z.number(),
      fallbackAt: z.number().nullable(),
      /** Whether the next event, of the same append, suppresses or holds it. */
      withheld: z.boolean(),
    }),
    upcasts: { 1: neverWithheld },
  }),
  /** It is not sent, and why: what its recipient chose, or another notification, stands against it. */
  DeliverySuppressed: event({ data: base.extend({ reason: z.string() }) }),
  /** It waits for the end of its recipient's quiet hours; a deadline for an acknowledgement moves along. */
  DeliveryHeld: event({
    data: base.extend({ channel: ChannelSchema, until: z.number(), fallbackAt: z.number().nullable() }),
  }),
  /** Its notification was deleted: whom it went to and what servers answered read as erased. `n`: its last attempt. */
  DeliveryErased: event({ data: base.extend({ n: z.number() }) }),
  /** The time until which a WebSocket delivery was held has come. */
  DeliveryReleased: event({ data: base.extend({ expiresAt: z.number(), fallbackAt: z.number().nullable() }) }),
  /** Its user marked it in the inbox. */
  DeliveryMarked: event({ data: base.extend({ as: z.enum(["read", "unread", "archived", "unarchived"]) }) }),
  /** What the provider, or the receiving server, told of the mail later. */
  DeliveryReported: event({
    data: base.extend({
      kind: ReportKindSchema,
      /** Of a bounce. */
      bounce: BounceKindSchema.nullable(),
      code: z.string().nullable(),
      /** Whom of the mail it is about, by the place, the recipient 0. Null: an address that is none of them. */
      index: z.number().nullable(),
      provider: z.string(),
      /** The provider's own id of what it told. */
      report: z.string(),
      happenedAt: z.number(),
      message: sealed(z.string()).nullable(),
    }),
    seals: { message: "recipient" },
  }),
} as const;
export type DeliveryEvent = EventsOf<typeof deliveryEvents>;
/** An event that names the status before and after. */
export type StatusEvent = Exclude<DeliveryEvent, { type: "ProviderFailedOver" }>;
const namesStatus = (event: DeliveryEvent): event is StatusEvent => event.type !== "ProviderFailedOver";
export type RecipientOutcome = z.infer<typeof recipients>[number];
export type DataOf<T extends DeliveryEvent["type"]> = Extract<DeliveryEvent, { type: T }>["data"];
export type DeliveryRequest = DataOf<"DeliveryRequested">;

// The state machine.
/**
 * The status after each type of event; null: as before. What a success or an acknowledgement means depends. A report's own
 * status is in `delivery-reports.ts`.
 */
const STATUS_AFTER: Readonly<Record<DeliveryEvent["type"], DeliveryStatus | null>> = {
  DeliveryRequested: "pending",
  DeliveryAttemptStarted: "sending",
  DeliveryLeaseExtended: null,
  ProviderFailedOver: null,
  DeliverySucceeded: "sent",
  DeliveryAttemptFailed: null,
  DeliveryRetryScheduled: "retrying",
  DeliveryExhausted: "exhausted",
  DeliveryAcknowledged: "delivered",
  DeliveryFallbackRequested: "fell_back",
  DeliveryCancelRequested: null,
  DeliveryCancelled: "cancelled",
  DeliveryExpired: "expired",
  DeliveryMarked: null,
  DeliveryReported: null,
  DeliveryRedriven: "pending",
  DeliverySuppressed: "suppressed",
  DeliveryHeld: null,
  DeliveryReleased: null,
  DeliveryErased: null,
};

/** The status of a delivery on a channel after an event of a type. */
export function statusAfter(before: DeliveryStatus, type: DeliveryEvent["type"], channel: Channel): DeliveryStatus {
  if (type === "DeliverySucceeded" && channel === "webhook") return "delivered";
  if (type === "DeliveryAcknowledged" && before === "fell_back") return before;
  return STATUS_AFTER[type] ?? before;
}

const OPEN: ReadonlySet<DeliveryStatus> = new Set(["pending", "sending", "retrying"]);
/** Whether nothing more will happen by itself. */
export const hasEnded = (status: DeliveryStatus): boolean => !OPEN.has(status);
/** The states that `Redrive` starts again. */
export const REDRIVABLE: readonly DeliveryStatus[] = RedrivableSchema.options;

/** The statuses that only a provider's word leads to, or to which it can lead. */
type ReportedStatus = "delivered" | "bounced" | "complained";
/** What a provider said last and for good: nothing that it tells later changes it. */
export const FINAL_REPORTS: ReadonlySet<DeliveryStatus> = new Set(["bounced", "complained"]);

/** The status that a report of the recipient leads to; null: none. A soft bounce may pass, and copies are not the recipient. */
export function reportedStatus({
  kind,
  bounce,
  index,
}: Pick<DataOf<"DeliveryReported">, "kind" | "bounce" | "index">): ReportedStatus | null {
  if (index !== 0) return null;
  if (kind === "delivered" || kind === "complained") return kind;
  return kind === "bounced" && bounce !== "soft" ? "bounced" : null;
}

// State. `n` is the number of the attempt that is open, due next, or was the last.
export type KnownDelivery = {
  readonly status: DeliveryStatus;
  readonly request: DeliveryRequest;
  readonly n: number;
  /** Whether attempt n was ever started. */
  readonly attempted: boolean;
  /** The provider of the open attempt. */
  readonly provider: string;
  readonly leaseUntil: Instant;
  readonly nextAt: Instant;
  readonly failures: number;
  /** The domain of its Message-ID, since the first attempt. */
  readonly domain: string | null;
  /** The attempt in which the mail's recipient got it, while copies are still tried. */
  readonly takenIn: number | null;
  /** Recipients by their place, the recipient 0: those who have the mail, and those whom the server refused for good. */
  readonly taken: readonly number[];
  readonly refused: readonly number[];
  /** The status that the provider's reports of its recipient lead to, even while an attempt is open. */
  readonly reported: ReportedStatus | null;
  /** Reports without a meaning for the status, such as opens: only so many are kept. */
  readonly notices: number;
  readonly cancelRequested: boolean;
  readonly acknowledged: boolean;
  readonly erased: boolean;
  /** What its own marks made of it in its user's inbox. */
  readonly item: InboxStatus;
  readonly requestedAt: Instant;
  /** Until when it is held; null: it is not. */
  readonly heldUntil: Instant | null;
  readonly expiresAt: Instant;
  readonly fallbackAt: Instant | null;
};
export type Delivery = { readonly status: "none" } | KnownDelivery;

export function evolve(state: Delivery, event: DeliveryEvent, { at }: EventContext): Delivery {
  if (event.type === "DeliveryRequested") {
    const { data } = event;
    const counters = { n: 1, attempted: false, provider: "", leaseUntil: 0, nextAt: at, failures: 0 };
    const mail = { domain: null, takenIn: null, taken: [], refused: [] };
    const reports = { reported: null, notices: 0 };
    const flags = {
      ...reports,
      cancelRequested: false,
      acknowledged: false,
      item: "unread",
      erased: false,
      requestedAt: at,
      heldUntil: null,
    } as const;
    const ends = { expiresAt: data.expiresAt, fallbackAt: data.fallbackAt };
    return { status: data.to, request: data, ...counters, ...mail, ...flags, ...ends };
  }
  if (state.status === "none") return state;
  if (!namesStatus(event)) {
    return { ...state, provider: event.data.to, leaseUntil: event.data.leaseUntil };
  }
  const known: KnownDelivery = { ...state, status: event.data.to };
  switch (event.type) {
    case "DeliveryAttemptStarted": {
      const { n, provider, leaseUntil, domain } = event.data;
      return { ...known, n, attempted: true, provider, leaseUntil, domain: known.domain ?? domain, heldUntil: null };
    }
    case "DeliveryLeaseExtended":
      return { ...known, leaseUntil: event.data.leaseUntil };
    case "DeliveryAttemptFailed":
      return { ...known, failures: known.failures + 1, ...settledAfter(known, event.data) };
    case "DeliveryRetryScheduled":
      return { ...known, n: event.data.n, attempted: false, nextAt: event.data.at };
    case "DeliveryAcknowledged":
      return { ...known, acknowledged: true };
    case "DeliveryMarked":
      return { ...known, item: markedItem(known.item, event.data.as) };
    case "DeliveryCancelRequested":
      return { ...known, cancelRequested: true };
    case "DeliveryReported": {
      const outcome = reportedStatus(event.data);
      if (outcome === null) return { ...known, notices: known.notices + 1 };
      // fence: reports-final
      const isFinal = known.reported !== null && FINAL_REPORTS.has(known.reported);
      return { ...known, reported: isFinal ? known.reported : outcome };
    }
    case "DeliveryRedriven": {
      const { expiresAt, fallbackAt } = event.data;
      const n = state.attempted ? known.n + 1 : known.n;
      const flags = { cancelRequested: false, heldUntil: null, reported: null };
      const anew = { attempted: false, nextAt: at, failures: 0, refused: [], ...flags };
      return { ...known, n, ...anew, expiresAt, fallbackAt };
    }
    case "DeliveryHeld": {
      const { until, fallbackAt } = event.data;
      return { ...known, nextAt: until, heldUntil: until, fallbackAt };
    }
    case "DeliveryReleased":
      return { ...known, heldUntil: null };
    case "DeliveryErased": {
      const { address, name } = known.request;
      const erased = { address: address && ERASED, name: name && ERASED };
      return { ...known, erased: true, request: { ...known.request, ...erased } };
    }
    case "DeliverySuppressed":
    case "DeliverySucceeded":
    case "DeliveryExhausted":
    case "DeliveryFallbackRequested":
    case "DeliveryCancelled":
    case "DeliveryExpired":
      return known;
  }
}

const ERASED = { erased: true } as const;
/** What an item of an inbox is after one more mark of its own. */
function markedItem(before: InboxStatus, as: DataOf<"DeliveryMarked">["as"]): InboxStatus {
  if (as === "unarchived") return "read";
  return as === "read" && before === "archived" ? before : as;
}

/** Who has a mail, or never will, after an attempt. */
export function settledAfter(
  state: Pick<KnownDelivery, "taken" | "refused" | "takenIn">,
  { n, recipients: results }: { readonly n: number; readonly recipients: readonly RecipientOutcome[] },
) {
  const of = (outcome: "taken" | "refused") =>
    results.filter((one) => one.outcome === outcome).map(({ index }) => index);
  const taken = [...state.taken, ...of("taken")];
  return {
    taken,
    refused: [...state.refused, ...of("refused")],
    takenIn: state.takenIn ?? (taken.includes(0) ? n : null),
  };
}
