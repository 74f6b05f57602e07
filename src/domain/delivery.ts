// domain/delivery.ts: one recipient on one channel, from request to outcome: what each command means now.

import type { z } from "zod";
import type { Refusal } from "../contract/deliveries.ts";
import type { DeliveryId, NotificationId, Subject } from "../contract/ids.ts";
import type { InboxStatus } from "../contract/inbox.ts";
import type { Instant } from "../contract/time.ts";
import { type Decider, DomainError, type TimedCommand } from "./decider.ts";
import { type Report, reportDelivery } from "./delivery-reports.ts";
import {
  type base,
  type DataOf,
  type Delivery,
  type DeliveryEvent,
  type DeliveryRequest,
  deliveryEvents,
  type EndpointSource,
  evolve,
  hasEnded,
  type KnownDelivery,
  REDRIVABLE,
  type RecipientOutcome,
  type StatusEvent,
  settledAfter,
  statusAfter,
} from "./delivery-state.ts";
import { seal, sealOrNull } from "./event.ts";
import { nextAttemptAt, type RetryPolicy } from "./retry-policy.ts";

// A WebSocket delivery as an item of its user's inbox: unread, read or archived.

/** What is done with an item. */
export type ItemMark = DataOf<"DeliveryMarked">["as"];

/** `covered`: what marks on the whole inbox made of the item since it was last marked unread, or taken out of the archive. */
type MarkItem = { readonly subject: Subject; readonly as: ItemMark; readonly covered: InboxStatus };

const ORDER: readonly InboxStatus[] = ["unread", "read", "archived"];
const higher = (one: InboxStatus, other: InboxStatus): InboxStatus =>
  ORDER.indexOf(one) > ORDER.indexOf(other) ? one : other;

/** Whether a mark changes what the item is, by its own marks and those on the whole inbox. */
function changes(now: InboxStatus, as: ItemMark): boolean {
  if (as === "read") return now === "unread";
  if (as === "unread") return now !== "unread";
  return as === "archived" ? now !== "archived" : now === "archived";
}

/**
 * Who reads an item, or archives it, has it: that is an acknowledgement too. Throws not_found for what is in no inbox, or in
 * another's.
 */
function markItem(state: KnownDelivery, { subject, as, covered }: MarkItem): readonly DeliveryEvent[] {
  const { request, status } = state;
  const { channel, recipient, notification } = request;
  const inInbox = channel === "websocket" && status !== "cancelled" && status !== "suppressed";
  if (!inInbox || /* fence: inbox-recipient */ recipient !== subject) throw new DomainError("not_found");
  const acknowledged = as === "read" || as === "archived" ? acknowledge(state) : [];
  if (!changes(higher(state.item, covered), as)) return acknowledged;
  const now = acknowledged.length > 0 ? statusAfter(status, "DeliveryAcknowledged", channel) : status;
  return [...acknowledged, { type: "DeliveryMarked", data: { notification, recipient, from: now, to: now, as } }];
}

// Commands, and what each means now.
/** What an attempt came to. */
export type AttemptOutcome = {
  readonly outcome: "succeeded" | "transient" | "permanent" | "unknown";
  readonly provider: string;
  readonly response: { status: number | null; body: string } | null;
  readonly error: { code: string; message: string } | null;
  readonly refusal: Refusal | null;
  readonly retryAfterMs: number | null;
  readonly providerMessageId: string | null;
  readonly recipients: readonly RecipientOutcome[];
};
type Retrying = { readonly policy: RetryPolicy /** Uniform in [0, 1). */; readonly random: number };
/** What is requested: a delivery of a notification, or of an event for an endpoint. */
export type Requested = Omit<DeliveryRequest, "from" | "to" | "source" | "notification" | "endpoint" | "withheld"> &
  ({ readonly notification: NotificationId } | { readonly source: EndpointSource });
/** What stands against sending a delivery now; null: nothing. */
export type Gate = { readonly suppress: string } | { readonly holdUntil: Instant } | null;
export type DeliveryCommand = TimedCommand &
  (
    | { type: "Request"; request: Requested; gate?: Gate }
    /** Opens attempt n for at most `leaseMs`. An attempt found open after its lease counts as failed, outcome unknown. */
    | ({ type: "StartAttempt"; n: number; provider: string; domain: string | null; leaseMs: number } & Retrying)
    | { type: "ExtendLease"; n: number; leaseMs: number }
    /** Goes on with another provider in the open attempt. Nothing is sent through it before that is in the log. */
    | { type: "FailOver"; n: number; provider: string; code: string; leaseMs: number }
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
    | { type: "Redrive"; gate?: Gate }
    /** Ends it unsent, or lets it wait, by what stands against it now. */
    | { type: "Withhold"; gate: Gate }
    /** The time until which it is held has come. */
    | { type: "EndHold" }
    | { type: "Report"; report: Report }
    /** Its notification was deleted. Changes nothing before the delivery has ended. */
    | { type: "Erase" }
    | ({ type: "Mark" } & MarkItem)
  );
type CommandOf<T extends DeliveryCommand["type"]> = Extract<DeliveryCommand, { type: T }>;

function decide(state: Delivery, command: DeliveryCommand): readonly DeliveryEvent[] {
  if (command.type === "Request") return state.status === "none" ? request(command) : [];
  if (state.status === "none") throw new DomainError("not_found");
  switch (command.type) {
    case "StartAttempt":
      return startAttempt(state, command);
    case "ExtendLease": {
      const { at, n, leaseMs } = command;
      if (state.status !== "sending" || n !== state.n || at >= state.leaseUntil) return [];
      return [next(state, "DeliveryLeaseExtended", { n, leaseUntil: at + leaseMs })];
    }
    case "FailOver":
      return failOver(state, command);
    case "RecordOutcome":
      return recordOutcome(state, command);
    case "Acknowledge":
      if (
        state.request.channel !== "websocket" ||
        /* fence: acknowledge-recipient */ state.request.recipient !== command.subject
      )
        throw new DomainError("not_found");
      return acknowledge(state);
    case "Mark":
      return markItem(state, command);
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
    case "Report":
      return reportDelivery(state, command.report, command.at);
    case "Erase":
      return state.erased || !hasEnded(state.status) ? [] : [next(state, "DeliveryErased", { n: state.n })];
    case "Redrive":
      return redrive(state, command);
    case "Withhold":
      return withhold(state, command);
    case "EndHold": {
      const { heldUntil } = state;
      if (hasEnded(state.status) || heldUntil === null || /* fence: hold-end */ command.at < heldUntil) return [];
      return [next(state, "DeliveryReleased", { expiresAt: state.expiresAt, fallbackAt: state.fallbackAt })];
    }
  }
}

function acknowledge(state: KnownDelivery): readonly DeliveryEvent[] {
  if (state.acknowledged || (state.status !== "pending" && state.status !== "fell_back")) return [];
  return [next(state, "DeliveryAcknowledged", {})];
}

/** The event that a delivery goes on with, from the status in which it is. */
function next<T extends Exclude<StatusEvent["type"], "DeliveryRequested" | "DeliveryReported">>(
  { status: from, request, reported = null }: Pick<KnownDelivery, "status" | "request"> & Partial<KnownDelivery>,
  type: T,
  data: Omit<DataOf<T>, keyof z.infer<typeof base>>,
): DeliveryEvent {
  const { notification, endpoint, recipient, channel } = request;
  const whose = { notification, recipient, ...(endpoint === undefined ? {} : { endpoint }) };
  // The provider's word may have come before the outcome of the attempt that it is about.
  const final = type === "DeliverySucceeded" ? reported : null;
  // Of the right shape for its type, which TypeScript cannot follow here.
  return {
    type,
    data: { ...whose, from, to: final ?? statusAfter(from, type, channel), ...data },
  } as DeliveryEvent;
}

/**
 * How a delivery ends when no attempt follows: a mail that its recipient has is sent, whatever its copies still wait for.
 * The attempt that brought it counts as the one that succeeded.
 */
function ended(
  state: Pick<KnownDelivery, "status" | "request" | "takenIn" | "provider" | "reported" | "n">,
  end: DeliveryEvent,
) {
  const { provider } = state;
  const takenIn = state.reported === null ? state.takenIn : (state.takenIn ?? state.n);
  // fence: sent-to-recipient
  if (takenIn === null) return end;
  const outcome = { provider, response: null, providerMessageId: null, recipients: [] };
  return next(state, "DeliverySucceeded", { n: takenIn, ...outcome });
}

function request({ request: requested, gate = null, at }: CommandOf<"Request">): readonly DeliveryEvent[] {
  const of =
    "source" in requested
      ? { notification: null, endpoint: requested.source.endpoint, source: requested.source }
      : { notification: requested.notification, source: { notification: requested.notification } };
  const data = { ...requested, ...of, from: null, to: "pending", withheld: false } as const;
  const state = { status: data.to, request: data, fallbackAt: data.fallbackAt, heldUntil: null };
  const first: DeliveryEvent = { type: "DeliveryRequested", data };
  if (requested.address === null) return [first, next(state, "DeliveryExhausted", { reason: "no_address" })];
  const against = withheld(state, gate, at);
  return against === undefined ? [first] : [{ ...first, data: { ...data, withheld: true } }, against];
}

/** The event that withholds a delivery; undefined when nothing stands against it. */
function withheld(
  state: Pick<KnownDelivery, "status" | "request" | "fallbackAt" | "heldUntil">,
  gate: Gate,
  at: Instant,
): DeliveryEvent | undefined {
  if (gate === null) return undefined;
  if ("suppress" in gate) return next(state, "DeliverySuppressed", { reason: gate.suppress });
  const { holdUntil: until } = gate;
  if (until <= at) return undefined;
  // The deadline for an acknowledgement moves by as long as the hold lasts, or lasts longer than before.
  const moved = until - Math.max(at, state.heldUntil ?? at);
  const fallbackAt = state.fallbackAt === null ? null : state.fallbackAt + moved;
  return next(state, "DeliveryHeld", { channel: state.request.channel, until, fallbackAt });
}

function withhold(state: KnownDelivery, { gate, at }: CommandOf<"Withhold">): readonly DeliveryEvent[] {
  // An attempt that is open counts; what stands against the delivery is asked again before the next one.
  if (hasEnded(state.status) || /* fence: withhold-open */ state.status === "sending") return [];
  const event = withheld(state, gate, at);
  if (event === undefined) return [];
  if (event.type !== "DeliveryHeld") return [ended(state, event)];
  return event.data.until === state.heldUntil ? [] : [event];
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

function failOver(state: KnownDelivery, command: CommandOf<"FailOver">): readonly DeliveryEvent[] {
  const { at, n, provider: to, code, leaseMs } = command;
  const { notification, recipient } = state.request;
  // After its lease another may have taken over; after a cancellation nothing more is sent.
  const isOpen = state.status === "sending" && n === state.n && /* fence: failover-lease */ at < state.leaseUntil;
  if (!isOpen || state.cancelRequested) return [];
  const lease = { leaseUntil: at + leaseMs };
  return [
    { type: "ProviderFailedOver", data: { notification, recipient, n, from: state.provider, to, code, ...lease } },
  ];
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
  // The mail got out, as its provider says: no attempt follows.
  if (state.reported !== null) return [failure, ended(after, next(state, "DeliveryCancelled", {}))];
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

function redrive(state: KnownDelivery, { at, gate = null }: CommandOf<"Redrive">): readonly DeliveryEvent[] {
  if (/* fence: redrive-status */ !REDRIVABLE.includes(state.status) || state.request.address === null) return [];
  if (state.erased) return [];
  const moved = at - state.requestedAt;
  const expiresAt = state.expiresAt > at ? state.expiresAt : state.request.expiresAt + moved;
  const again = state.request.fallbackAt === null ? null : state.request.fallbackAt + moved;
  const fallbackAt = again === null || !fallsBack(state) ? again : Math.min(again, expiresAt);
  const against = withheld({ ...state, status: "pending", fallbackAt, heldUntil: null }, gate, at);
  const redriven = next(state, "DeliveryRedriven", { expiresAt, fallbackAt, withheld: against !== undefined });
  return against === undefined ? [redriven] : [redriven, against];
}

export const deliveryDecider: Decider<Delivery, DeliveryEvent, DeliveryCommand> = {
  name: "delivery",
  events: deliveryEvents,
  initial: { status: "none" },
  evolve,
  decide,
};
