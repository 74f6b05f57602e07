// domain/delivery.ts: one recipient on one channel, from request to outcome; a state machine in the log.

import type { DeliveryId, Subject } from "../contract/ids.ts";
import type { DeliveryStatus } from "../contract/resources.ts";
import type { Instant } from "../contract/time.ts";
import type { Decider, EventContext, TimedCommand } from "./decider.ts";
import { type DeliveryEvent, type DeliveryRequest, deliveryEvents } from "./delivery-events.ts";
import { DomainError } from "./errors.ts";
import { seal } from "./event.ts";
import { nextAttemptAt, type RetryPolicy } from "./retry-policy.ts";

export const deliveryStream = (id: DeliveryId) => `delivery-${id}`;

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
    const flags = { cancelRequested: false, acknowledged: false, requestedAt: at };
    return {
      status: data.to,
      request: data,
      ...counters,
      ...flags,
      expiresAt: data.expiresAt,
      fallbackAt: data.fallbackAt,
    };
  }
  if (state.status === "none") return state;
  const known: KnownDelivery = { ...state, status: event.data.to };
  switch (event.type) {
    case "DeliveryAttemptStarted":
      return {
        ...known,
        n: event.data.n,
        attempted: true,
        provider: event.data.provider,
        leaseUntil: event.data.leaseUntil,
      };
    case "DeliveryAttemptFailed":
      return { ...known, failures: known.failures + 1 };
    case "DeliveryRetryScheduled":
      return { ...known, n: event.data.n, attempted: false, nextAt: event.data.at };
    case "DeliveryAcknowledged":
      return { ...known, acknowledged: true };
    case "DeliveryCancelRequested":
      return { ...known, cancelRequested: true };
    case "DeliveryRedriven": {
      const { expiresAt, fallbackAt } = event.data;
      const n = state.attempted ? known.n + 1 : known.n;
      return {
        ...known,
        n,
        attempted: false,
        nextAt: at,
        failures: 0,
        cancelRequested: false,
        expiresAt,
        fallbackAt,
      };
    }
    case "DeliverySucceeded":
    case "DeliveryExhausted":
    case "DeliveryFallbackRequested":
    case "DeliveryCancelled":
    case "DeliveryExpired":
      return known;
  }
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
};
type Retrying = { readonly policy: RetryPolicy /** Uniform in [0, 1). */; readonly random: number };
export type DeliveryCommand = TimedCommand &
  (
    | { type: "Request"; request: Omit<DeliveryRequest, "from" | "to"> }
    /** Opens attempt n for at most `leaseMs`. An attempt found open after its lease counts as failed, outcome unknown. */
    | ({ type: "StartAttempt"; n: number; provider: string; leaseMs: number } & Retrying)
    | ({ type: "RecordOutcome"; n: number; outcome: AttemptOutcome } & Retrying)
    | { type: "Acknowledge"; subject: Subject }
    | { type: "FallbackDue"; mail: { id: DeliveryId; recipient: Subject; address: string | null; name: string | null } }
    | { type: "Cancel" }
    | { type: "Expire"; reason: "expired" | "too_many_open" }
    | { type: "Redrive" }
  );

const ENDED: ReadonlySet<DeliveryStatus> = new Set([
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
/** Whether nothing more will happen by itself. */
export const hasEnded = (status: DeliveryStatus): boolean => ENDED.has(status);
/** The states that `Redrive` starts again. */
export const REDRIVABLE: readonly DeliveryStatus[] = ["exhausted", "bounced", "expired"];

function decide(state: Delivery, command: DeliveryCommand): readonly DeliveryEvent[] {
  if (command.type === "Request") return request(state, command.request);
  if (state.status === "none") throw new DomainError("not_found");
  const base = { notification: state.request.notification, recipient: state.request.recipient, from: state.status };
  switch (command.type) {
    case "StartAttempt":
      return startAttempt(state, command);
    case "RecordOutcome":
      return recordOutcome(state, command);
    case "Acknowledge":
      if (
        state.request.channel !== "websocket" ||
        /* fence: acknowledge-recipient */ state.request.recipient !== command.subject
      )
        throw new DomainError("not_found");
      if (state.acknowledged) return [];
      if (state.status === "pending") return [{ type: "DeliveryAcknowledged", data: { ...base, to: "delivered" } }];
      if (state.status === "fell_back") return [{ type: "DeliveryAcknowledged", data: { ...base, to: "fell_back" } }];
      return [];
    case "FallbackDue": {
      const due = state.fallbackAt !== null && command.at >= state.fallbackAt;
      if (!due || /* fence: fallback-pending */ state.status !== "pending" || state.request.channel !== "websocket")
        return [];
      if (!fallsBack(state)) return [{ type: "DeliveryExpired", data: { ...base, to: "expired", reason: "expired" } }];
      const { id: mail, recipient: mailRecipient, address, name } = command.mail;
      const to = { address: address === null ? null : seal(address), name: name === null ? null : seal(name) };
      return [{ type: "DeliveryFallbackRequested", data: { ...base, to: "fell_back", mail, mailRecipient, ...to } }];
    }
    case "Cancel":
      if (hasEnded(state.status) || state.cancelRequested) return [];
      if (state.status === "sending") return [{ type: "DeliveryCancelRequested", data: { ...base, to: "sending" } }];
      return [{ type: "DeliveryCancelled", data: { ...base, to: "cancelled" } }];
    case "Expire": {
      const due = command.reason === "too_many_open" || (command.at >= state.expiresAt && !fallsBack(state));
      if (!due || hasEnded(state.status) || state.status === "sending") return [];
      return [{ type: "DeliveryExpired", data: { ...base, to: "expired", reason: command.reason } }];
    }
    case "Redrive":
      return redrive(state, command.at);
  }
}

/** Whether its deadline comes before its end: then silence leads to the mail, however late that is noticed. */
const fallsBack = ({ request, fallbackAt, expiresAt }: KnownDelivery): boolean =>
  request.channel === "websocket" && fallbackAt !== null && fallbackAt <= expiresAt;

function request(state: Delivery, asked: Omit<DeliveryRequest, "from" | "to">): readonly DeliveryEvent[] {
  if (state.status !== "none") return [];
  const requested: DeliveryEvent = { type: "DeliveryRequested", data: { ...asked, from: null, to: "pending" } };
  if (asked.address !== null) return [requested];
  const { notification, recipient } = asked;
  const end = { notification, recipient, from: "pending", to: "exhausted", reason: "no_address" } as const;
  return [requested, { type: "DeliveryExhausted", data: end }];
}

function startAttempt(
  state: KnownDelivery,
  command: Extract<DeliveryCommand, { type: "StartAttempt" }>,
): readonly DeliveryEvent[] {
  const { notification, recipient } = state.request;
  if (
    hasEnded(state.status) ||
    /* fence: attempt-number-started */ command.n !== state.n ||
    state.request.channel === "websocket"
  )
    return [];
  if (state.status === "sending") {
    // fence: attempt-lease
    if (command.at < state.leaseUntil) return [];
    const error = { code: "lease_ended", message: "no outcome was recorded before the attempt's time was up" };
    return failed(state, "unknown", { provider: state.provider, response: null, error, retryAfterMs: null }, command);
  }
  if (command.at >= state.expiresAt) {
    return [
      {
        type: "DeliveryExpired",
        data: { notification, recipient, from: state.status, to: "expired", reason: "expired" },
      },
    ];
  }
  // fence: attempt-before-time
  if (command.at < state.nextAt) return [];
  const data = {
    notification,
    recipient,
    from: state.status,
    to: "sending",
    n: state.n,
    provider: command.provider,
  } as const;
  return [{ type: "DeliveryAttemptStarted", data: { ...data, leaseUntil: command.at + command.leaseMs } }];
}

function recordOutcome(
  state: KnownDelivery,
  command: Extract<DeliveryCommand, { type: "RecordOutcome" }>,
): readonly DeliveryEvent[] {
  const { n, outcome } = command;
  const started = n < state.n || (n === state.n && state.attempted);
  if (/* fence: recorded-after-end */ hasEnded(state.status) || !started) return [];
  if (outcome.outcome === "succeeded") {
    const { notification, recipient, channel } = state.request;
    const to = channel === "webhook" ? "delivered" : "sent";
    const response = outcome.response === null ? null : seal(outcome.response);
    const data = { notification, recipient, from: state.status, to, n, provider: outcome.provider, response } as const;
    return [{ type: "DeliverySucceeded", data: { ...data, providerMessageId: outcome.providerMessageId } }];
  }
  if (state.status !== "sending" || /* fence: attempt-number-recorded */ n !== state.n) return [];
  return failed(state, outcome.outcome, outcome, command);
}

/** A failed attempt and what follows from it, in one append. */
function failed(
  state: KnownDelivery,
  kind: "transient" | "permanent" | "unknown",
  outcome: Pick<AttemptOutcome, "provider" | "response" | "error" | "retryAfterMs">,
  { at, policy, random }: { at: Instant } & Retrying,
): readonly DeliveryEvent[] {
  const { notification, recipient } = state.request;
  const base = { notification, recipient, from: "sending" } as const;
  const error = outcome.error ?? { code: "failed", message: "the attempt failed" };
  const response = outcome.response === null ? null : seal(outcome.response);
  const about = { n: state.n, provider: outcome.provider, kind, response, error: seal(error) };
  const failure: DeliveryEvent = { type: "DeliveryAttemptFailed", data: { ...base, to: "sending", ...about } };
  if (state.cancelRequested) return [failure, { type: "DeliveryCancelled", data: { ...base, to: "cancelled" } }];
  const next = nextAttemptAt(policy, state.failures + 1, at, outcome.retryAfterMs, random);
  if (kind === "permanent" || next === undefined) {
    const reason = kind === "permanent" ? error.code : "attempts_exhausted";
    return [failure, { type: "DeliveryExhausted", data: { ...base, to: "exhausted", reason } }];
  }
  if (next >= state.expiresAt) {
    return [failure, { type: "DeliveryExpired", data: { ...base, to: "expired", reason: "expired" } }];
  }
  return [failure, { type: "DeliveryRetryScheduled", data: { ...base, to: "retrying", n: state.n + 1, at: next } }];
}

function redrive(state: KnownDelivery, at: Instant): readonly DeliveryEvent[] {
  if (/* fence: redrive-status */ !REDRIVABLE.includes(state.status) || state.request.address === null) return [];
  const { notification, recipient } = state.request;
  const moved = at - state.requestedAt;
  const expiresAt = state.expiresAt > at ? state.expiresAt : state.request.expiresAt + moved;
  const again = state.request.fallbackAt === null ? null : state.request.fallbackAt + moved;
  const fallbackAt = again === null || !fallsBack(state) ? again : Math.min(again, expiresAt);
  const base = { notification, recipient, from: state.status, to: "pending" } as const;
  return [{ type: "DeliveryRedriven", data: { ...base, expiresAt, fallbackAt } }];
}

export const deliveryDecider: Decider<Delivery, DeliveryEvent, DeliveryCommand> = {
  name: "delivery",
  events: deliveryEvents,
  initial: { status: "none" },
  evolve,
  decide,
};
