// domain/delivery.ts: one recipient on one channel, from request to outcome; a state machine in the log.
import { z } from "zod";
import {
  type DeliveryId,
  DeliveryIdSchema,
  EndpointIdSchema,
  NotificationIdSchema,
  type Subject,
  SubjectSchema,
} from "../contract/ids.ts";
import type { JsonObject } from "../contract/json.ts";
import {
  type Channel,
  ChannelSchema,
  type DeliveryStatus,
  DeliveryStatusSchema,
  PrioritySchema,
} from "../contract/resources.ts";
import type { Instant } from "../contract/time.ts";
import { type Decider, DomainError, type EventContext, type TimedCommand } from "./decider.ts";
import { type EventsOf, event, seal, sealed, sealOrNull } from "./event.ts";
import { nextAttemptAt, type RetryPolicy } from "./retry-policy.ts";

export const deliveryStream = (id: DeliveryId) => `delivery-${id}`;

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
/** Of a mail with copies: what became of each of its recipients, by its place; the recipient is 0. */
const recipients = z.array(
  z.object({ index: z.number(), outcome: z.enum(["taken", "deferred", "refused"]), status: z.number().nullable() }),
);
/** The domain of Message-IDs before they were at the sender's. */
const FORMER_DOMAIN = "chatapi.internal";
const withoutRecipients = { 1: (data: JsonObject) => ({ ...data, recipients: [] }) };

/** What a delivery is of: a notification, or, as nothing requests yet, an event for an endpoint. */
const source = z.union([
  z.object({ notification: NotificationIdSchema }),
  z.object({ endpoint: EndpointIdSchema, event: z.string() }),
]);

// Events. A storage format.
export const deliveryEvents = {
  DeliveryRequested: event({
    v: 2,
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
    }),
    seals: { address: "recipient", name: "recipient" },
    upcasts: {
      // Version 1 knew deliveries of notifications alone.
      1: (data) => ({ ...data, source: { notification: data.notification ?? null } }),
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
  DeliveryRedriven: event({ data: base.extend({ expiresAt: z.number(), fallbackAt: z.number().nullable() }) }),
} as const;
export type DeliveryEvent = EventsOf<typeof deliveryEvents>;
type RecipientOutcome = z.infer<typeof recipients>[number];
type DataOf<T extends DeliveryEvent["type"]> = Extract<DeliveryEvent, { type: T }>["data"];
export type DeliveryRequest = DataOf<"DeliveryRequested">;

// The state machine.
/** The status after each type of event; null: as before. What a success or an acknowledgement means depends. */
const STATUS_AFTER: Readonly<Record<DeliveryEvent["type"], DeliveryStatus | null>> = {
  DeliveryRequested: "pending",
  DeliveryAttemptStarted: "sending",
  DeliveryLeaseExtended: null,
  DeliverySucceeded: "sent",
  DeliveryAttemptFailed: null,
  DeliveryRetryScheduled: "retrying",
  DeliveryExhausted: "exhausted",
  DeliveryAcknowledged: "delivered",
  DeliveryFallbackRequested: "fell_back",
  DeliveryCancelRequested: null,
  DeliveryCancelled: "cancelled",
  DeliveryExpired: "expired",
  DeliveryRedriven: "pending",
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
export const REDRIVABLE: readonly DeliveryStatus[] = ["exhausted", "bounced", "expired"];

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
  readonly cancelRequested: boolean;
  readonly acknowledged: boolean;
  readonly requestedAt: Instant;
  readonly expiresAt: Instant;
  readonly fallbackAt: Instant | null;
};
export type Delivery = { readonly status: "none" } | KnownDelivery;

function evolve(state: Delivery, event: DeliveryEvent, { at }: EventContext): Delivery {
  if (event.type === "DeliveryRequested") {
    const { data } = event;
    const counters = { n: 1, attempted: false, provider: "", leaseUntil: 0, nextAt: at, failures: 0 };
    const mail = { domain: null, takenIn: null, taken: [], refused: [] };
    const flags = { cancelRequested: false, acknowledged: false, requestedAt: at };
    const ends = { expiresAt: data.expiresAt, fallbackAt: data.fallbackAt };
    return { status: data.to, request: data, ...counters, ...mail, ...flags, ...ends };
  }
  if (state.status === "none") return state;
  const known: KnownDelivery = { ...state, status: event.data.to };
  switch (event.type) {
    case "DeliveryAttemptStarted": {
      const { n, provider, leaseUntil, domain } = event.data;
      return { ...known, n, attempted: true, provider, leaseUntil, domain: known.domain ?? domain };
    }
    case "DeliveryLeaseExtended":
      return { ...known, leaseUntil: event.data.leaseUntil };
    case "DeliveryAttemptFailed":
      return { ...known, failures: known.failures + 1, ...settledAfter(known, event.data) };
    case "DeliveryRetryScheduled":
      return { ...known, n: event.data.n, attempted: false, nextAt: event.data.at };
    case "DeliveryAcknowledged":
      return { ...known, acknowledged: true };
    case "DeliveryCancelRequested":
      return { ...known, cancelRequested: true };
    case "DeliveryRedriven": {
      const { expiresAt, fallbackAt } = event.data;
      const n = state.attempted ? known.n + 1 : known.n;
      const anew = { attempted: false, nextAt: at, failures: 0, refused: [], cancelRequested: false };
      return { ...known, n, ...anew, expiresAt, fallbackAt };
    }
    case "DeliverySucceeded":
    case "DeliveryExhausted":
    case "DeliveryFallbackRequested":
    case "DeliveryCancelled":
    case "DeliveryExpired":
      return known;
  }
}

/** Who has a mail, or never will, after an attempt. */
function settledAfter(
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

// Commands, and what each means now.
/** What an attempt came to. */
export type AttemptOutcome = {
  readonly outcome: "succeeded" | "transient" | "permanent" | "unknown";
  readonly provider: string;
  readonly response: { status: number | null; body: string } | null;
  readonly error: { code: string; message: string } | null;
  readonly retryAfterMs: number | null;
  readonly providerMessageId: string | null;
  readonly recipients: readonly RecipientOutcome[];
};
type Retrying = { readonly policy: RetryPolicy /** Uniform in [0, 1). */; readonly random: number };
type Requested = Omit<DeliveryRequest, "from" | "to" | "source">;
export type DeliveryCommand = TimedCommand &
  (
    | { type: "Request"; request: Requested }
    /** Opens attempt n for at most `leaseMs`. An attempt found open after its lease counts as failed, outcome unknown. */
    | ({ type: "StartAttempt"; n: number; provider: string; domain: string | null; leaseMs: number } & Retrying)
    | { type: "ExtendLease"; n: number; leaseMs: number }
    | ({ type: "RecordOutcome"; n: number; outcome: AttemptOutcome } & Retrying)
    | { type: "Acknowledge"; subject: Subject }
    /** `early`: without waiting for its deadline, as more are open than may be. */
    | {
        type: "FallbackDue";
        early?: boolean;
        mail: { id: DeliveryId; recipient: Subject; address: string | null; name: string | null };
      }
    | { type: "Cancel" }
    | { type: "Expire"; reason: "expired" | "too_many_open" }
    | { type: "Redrive" }
  );
type CommandOf<T extends DeliveryCommand["type"]> = Extract<DeliveryCommand, { type: T }>;

function decide(state: Delivery, command: DeliveryCommand): readonly DeliveryEvent[] {
  if (command.type === "Request") return state.status === "none" ? request(command.request) : [];
  if (state.status === "none") throw new DomainError("not_found");
  switch (command.type) {
    case "StartAttempt":
      return startAttempt(state, command);
    case "ExtendLease": {
      const { at, n, leaseMs } = command;
      if (state.status !== "sending" || n !== state.n || at >= state.leaseUntil) return [];
      return [next(state, "DeliveryLeaseExtended", { n, leaseUntil: at + leaseMs })];
    }
    case "RecordOutcome":
      return recordOutcome(state, command);
    case "Acknowledge":
      if (
        state.request.channel !== "websocket" ||
        /* fence: acknowledge-recipient */ state.request.recipient !== command.subject
      )
        throw new DomainError("not_found");
      if (state.acknowledged || (state.status !== "pending" && state.status !== "fell_back")) return [];
      return [next(state, "DeliveryAcknowledged", {})];
    case "FallbackDue":
      return fallBack(state, command);
    case "Cancel":
      if (hasEnded(state.status) || state.cancelRequested) return [];
      if (state.status === "sending") return [next(state, "DeliveryCancelRequested", {})];
      return [ended(state, next(state, "DeliveryCancelled", {}))];
    case "Expire": {
      const due = command.reason === "too_many_open" || (command.at >= state.expiresAt && !fallsBack(state));
      if (!due || hasEnded(state.status) || state.status === "sending") return [];
      return [ended(state, next(state, "DeliveryExpired", { reason: command.reason }))];
    }
    case "Redrive":
      return redrive(state, command.at);
  }
}

/** The event that a delivery goes on with, from the status in which it is. */
function next<T extends Exclude<DeliveryEvent["type"], "DeliveryRequested">>(
  { status: from, request }: Pick<KnownDelivery, "status" | "request">,
  type: T,
  data: Omit<DataOf<T>, keyof z.infer<typeof base>>,
): DeliveryEvent {
  const { notification, recipient, channel } = request;
  // Of the right shape for its type, which TypeScript cannot follow here.
  return {
    type,
    data: { notification, recipient, from, to: statusAfter(from, type, channel), ...data },
  } as DeliveryEvent;
}

/**
 * How a delivery ends when no attempt follows: a mail that its recipient has is sent, whatever its copies still wait for.
 * The attempt that brought it counts as the one that succeeded.
 */
function ended(state: Pick<KnownDelivery, "status" | "request" | "takenIn" | "provider">, end: DeliveryEvent) {
  const { takenIn, provider } = state;
  // fence: sent-to-recipient
  if (takenIn === null) return end;
  const outcome = { provider, response: null, providerMessageId: null, recipients: [] };
  return next(state, "DeliverySucceeded", { n: takenIn, ...outcome });
}

function request(requested: Requested): readonly DeliveryEvent[] {
  const source = { notification: requested.notification };
  const data = { ...requested, source, from: null, to: "pending" } as const;
  const first: DeliveryEvent = { type: "DeliveryRequested", data };
  if (requested.address !== null) return [first];
  return [first, next({ status: data.to, request: data }, "DeliveryExhausted", { reason: "no_address" })];
}

function startAttempt(state: KnownDelivery, command: CommandOf<"StartAttempt">): readonly DeliveryEvent[] {
  const { at, n, provider, domain, leaseMs } = command;
  if (
    hasEnded(state.status) ||
    /* fence: attempt-number-started */ n !== state.n ||
    state.request.channel === "websocket"
  )
    return [];
  if (state.status === "sending") {
    // fence: attempt-lease
    if (at < state.leaseUntil) return [];
    const error = { code: "lease_ended", message: "no outcome was recorded before the attempt's time was up" };
    const nothing = { response: null, retryAfterMs: null, recipients: [] };
    return failed(state, "unknown", { provider: state.provider, error, ...nothing }, command);
  }
  if (at >= state.expiresAt) return [ended(state, next(state, "DeliveryExpired", { reason: "expired" }))];
  // fence: attempt-before-time
  if (at < state.nextAt) return [];
  return [next(state, "DeliveryAttemptStarted", { n, provider, domain, leaseUntil: at + leaseMs })];
}

function recordOutcome(state: KnownDelivery, command: CommandOf<"RecordOutcome">): readonly DeliveryEvent[] {
  const { n, outcome } = command;
  const started = n < state.n || (n === state.n && state.attempted);
  if (/* fence: recorded-after-end */ hasEnded(state.status) || !started) return [];
  if (outcome.outcome === "succeeded") {
    const { provider, providerMessageId, recipients } = outcome;
    return [
      next(state, "DeliverySucceeded", {
        ...{ n, provider, response: sealOrNull(outcome.response), providerMessageId, recipients: [...recipients] },
      }),
    ];
  }
  if (state.status !== "sending" || /* fence: attempt-number-recorded */ n !== state.n) return [];
  return failed(state, outcome.outcome, outcome, command);
}

/** A failed attempt and what follows from it, in one append. */
function failed(
  state: KnownDelivery,
  kind: "transient" | "permanent" | "unknown",
  outcome: Pick<AttemptOutcome, "provider" | "response" | "error" | "retryAfterMs" | "recipients">,
  { at, policy, random }: { at: Instant } & Retrying,
): readonly DeliveryEvent[] {
  const { n } = state;
  const { provider, retryAfterMs } = outcome;
  const error = outcome.error ?? { code: "failed", message: "the attempt failed" };
  const response = sealOrNull(outcome.response);
  const recipients = [...outcome.recipients];
  const failure = next(state, "DeliveryAttemptFailed", { n, provider, kind, response, error: seal(error), recipients });
  const after = { ...state, ...settledAfter(state, { n, recipients }) };
  if (state.cancelRequested) return [failure, ended(after, next(state, "DeliveryCancelled", {}))];
  const retryAt = nextAttemptAt(policy, { failures: state.failures + 1, at, retryAfterMs, random });
  if (kind === "permanent" || retryAt === undefined) {
    const reason = kind === "permanent" ? error.code : "attempts_exhausted";
    return [failure, ended(after, next(state, "DeliveryExhausted", { reason }))];
  }
  if (retryAt >= state.expiresAt) return [failure, ended(after, next(state, "DeliveryExpired", { reason: "expired" }))];
  return [failure, next(state, "DeliveryRetryScheduled", { n: n + 1, at: retryAt })];
}

/** Whether its deadline comes before its end: then silence leads to the mail, however late that is noticed. */
const fallsBack = ({ request, fallbackAt, expiresAt }: KnownDelivery): boolean =>
  request.channel === "websocket" && fallbackAt !== null && fallbackAt <= expiresAt;

function fallBack(state: KnownDelivery, { at, mail, early }: CommandOf<"FallbackDue">): readonly DeliveryEvent[] {
  const due = state.fallbackAt !== null && (at >= state.fallbackAt || (early === true && at < state.expiresAt));
  if (!due || /* fence: fallback-pending */ state.status !== "pending" || state.request.channel !== "websocket")
    return [];
  if (!fallsBack(state)) return [next(state, "DeliveryExpired", { reason: "expired" })];
  const whom = { mailRecipient: mail.recipient, address: sealOrNull(mail.address), name: sealOrNull(mail.name) };
  return [next(state, "DeliveryFallbackRequested", { mail: mail.id, ...whom })];
}

function redrive(state: KnownDelivery, at: Instant): readonly DeliveryEvent[] {
  if (/* fence: redrive-status */ !REDRIVABLE.includes(state.status) || state.request.address === null) return [];
  const moved = at - state.requestedAt;
  const expiresAt = state.expiresAt > at ? state.expiresAt : state.request.expiresAt + moved;
  const again = state.request.fallbackAt === null ? null : state.request.fallbackAt + moved;
  const fallbackAt = again === null || !fallsBack(state) ? again : Math.min(again, expiresAt);
  return [next(state, "DeliveryRedriven", { expiresAt, fallbackAt })];
}

export const deliveryDecider: Decider<Delivery, DeliveryEvent, DeliveryCommand> = {
  name: "delivery",
  events: deliveryEvents,
  initial: { status: "none" },
  evolve,
  decide,
};
