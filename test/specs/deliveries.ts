// Deliveries as their specifications tell of them: events and commands in few words.

import type { DeliveryStatus } from "../../src/contract/deliveries.ts";
import { type AttemptOutcome, type DeliveryCommand, deliveryDecider } from "../../src/domain/delivery.ts";
import type { Report } from "../../src/domain/delivery-reports.ts";
import type { DeliveryEvent, DeliveryRequest } from "../../src/domain/delivery-state.ts";
import type { RetryPolicy } from "../../src/domain/retry-policy.ts";
import { given, type History, NOW } from "../support/given.ts";

export const HOUR = 3_600_000;
export const LEASE = 60_000;
/** Two retries, after 10 s and 20 s. */
export const POLICY: RetryPolicy = { scheduleMs: [10_000, 20_000], jitter: 0 };

export const base = { notification: "ntf_a", recipient: "sub_ada" } as const;
const asked = (
  changes: Partial<Omit<DeliveryRequest, "from" | "to" | "source" | "notification" | "endpoint" | "withheld">> = {},
) => ({
  ...base,
  channel: "email" as const,
  address: { open: "ada@example.com" },
  name: null,
  fallbackOf: null,
  priority: "normal" as const,
  bulk: false,
  expiresAt: NOW + HOUR,
  fallbackAt: null,
  ...changes,
});
export const requested = (changes: Parameters<typeof asked>[0] = {}): DeliveryEvent => ({
  type: "DeliveryRequested",
  data: { ...asked(changes), source: { notification: base.notification }, from: null, to: "pending", withheld: false },
});
export const webhookRequested = requested({ channel: "webhook", address: { open: "https://example.com/hook" } });
/** To a socket, with a fallback to email 30 s later. */
export const socketRequested = (changes: Parameters<typeof asked>[0] = {}): DeliveryEvent =>
  requested({ channel: "websocket", address: { open: "ada" }, fallbackAt: NOW + 30_000, ...changes });

export const started = (
  n: number,
  from: DeliveryStatus = n === 1 ? "pending" : "retrying",
  at = NOW,
): DeliveryEvent => ({
  type: "DeliveryAttemptStarted",
  data: { ...base, from, to: "sending", n, provider: "main", leaseUntil: at + LEASE, domain: null },
});
export const succeeded = (
  n: number,
  from: DeliveryStatus = "sending",
  to: "sent" | "delivered" = "sent",
): DeliveryEvent => ({
  type: "DeliverySucceeded",
  data: { ...base, from, to, n, provider: "main", response: { open: OK }, providerMessageId: "m1", recipients: [] },
});
export const failed = (n: number, kind: "transient" | "permanent" | "unknown" = "transient"): DeliveryEvent => {
  const error = kind === "unknown" ? LEASE_ENDED : FAULT;
  const response = kind === "unknown" ? null : { open: BUSY };
  return {
    type: "DeliveryAttemptFailed",
    data: {
      ...base,
      from: "sending",
      to: "sending",
      n,
      provider: "main",
      kind,
      response,
      error: { open: error },
      recipients: [],
    },
  };
};
export const retryScheduled = (n: number, at: number): DeliveryEvent => ({
  type: "DeliveryRetryScheduled",
  data: { ...base, from: "sending", to: "retrying", n, at },
});
export const exhausted = (reason: string, from: DeliveryStatus = "sending"): DeliveryEvent => ({
  type: "DeliveryExhausted",
  data: { ...base, from, to: "exhausted", reason },
});
export const acknowledged = (from: "pending" | "fell_back"): DeliveryEvent => ({
  type: "DeliveryAcknowledged",
  data: { ...base, from, to: from === "pending" ? "delivered" : "fell_back" },
});
export const fellBack: DeliveryEvent = {
  type: "DeliveryFallbackRequested",
  data: {
    ...base,
    from: "pending",
    to: "fell_back",
    mail: "dlv_mail",
    mailRecipient: "sub_mail",
    address: { open: "ada@example.com" },
    name: null,
  },
};
export const cancelRequested: DeliveryEvent = {
  type: "DeliveryCancelRequested",
  data: { ...base, from: "sending", to: "sending" },
};
export const cancelled = (from: DeliveryStatus): DeliveryEvent => ({
  type: "DeliveryCancelled",
  data: { ...base, from, to: "cancelled" },
});
export const expired = (from: DeliveryStatus, reason: "expired" | "too_many_open" = "expired"): DeliveryEvent => ({
  type: "DeliveryExpired",
  data: { ...base, from, to: "expired", reason },
});
export const redriven = (from: DeliveryStatus, expiresAt: number, fallbackAt: number | null = null): DeliveryEvent => ({
  type: "DeliveryRedriven",
  data: { ...base, from, to: "pending", expiresAt, fallbackAt, withheld: false },
});

/** What a provider tells of the recipient; `changes` say of what else. */
const told = (changes: Partial<Report>): Report => ({
  ...{ kind: "delivered", bounce: null, code: null, index: 0, provider: "main", report: "r1" },
  ...{ happenedAt: NOW, message: null, ...changes },
});
export const report = (changes: Partial<Report> = {}, at = NOW): DeliveryCommand => ({
  type: "Report",
  at,
  report: told(changes),
});
export const reported = (
  from: DeliveryStatus,
  to: DeliveryStatus,
  { message, ...changes }: Partial<Report> = {},
): DeliveryEvent => {
  const { message: _none, ...data } = told(changes);
  const sealed = message === undefined || message === null ? null : { open: message };
  return { type: "DeliveryReported", data: { ...base, ...data, from, to, message: sealed } };
};

const OK = { status: 250, body: "ok" };
const BUSY = { status: 450, body: "busy" };
const FAULT = { code: "smtp_450", message: "try again" };
const LEASE_ENDED = { code: "lease_ended", message: "no outcome was recorded before the attempt's time was up" };

export const request = (changes: Parameters<typeof asked>[0] = {}): DeliveryCommand => ({
  type: "Request",
  at: NOW,
  request: asked(changes),
});
const retrying = { policy: POLICY, random: 0.5 };
export const start = (n: number, at = NOW): DeliveryCommand => ({
  type: "StartAttempt",
  at,
  n,
  provider: "main",
  leaseMs: LEASE,
  domain: null,
  ...retrying,
});
export const success: AttemptOutcome = {
  outcome: "succeeded",
  provider: "main",
  response: OK,
  error: null,
  refusal: null,
  retryAfterMs: null,
  providerMessageId: "m1",
  recipients: [],
};
export const failure = (
  outcome: "transient" | "permanent" = "transient",
  retryAfterMs: number | null = null,
): AttemptOutcome => ({
  outcome,
  provider: "main",
  response: BUSY,
  error: FAULT,
  refusal: null,
  retryAfterMs,
  providerMessageId: null,
  recipients: [],
});
export const record = (n: number, outcome: AttemptOutcome, at = NOW): DeliveryCommand => ({
  type: "RecordOutcome",
  at,
  n,
  outcome,
  ...retrying,
});
export const acknowledge = (at = NOW, subject: "sub_ada" | "sub_bob" = "sub_ada"): DeliveryCommand => ({
  type: "Acknowledge",
  at,
  subject,
});
export const fallbackDue = (at = NOW + 30_000): DeliveryCommand => ({
  type: "FallbackDue",
  at,
  mail: { id: "dlv_mail", recipient: "sub_mail", address: "ada@example.com", name: null },
});
export const cancel = (at = NOW): DeliveryCommand => ({ type: "Cancel", at });
export const expire = (at: number, reason: "expired" | "too_many_open" = "expired"): DeliveryCommand => ({
  type: "Expire",
  at,
  reason,
});
export const redrive = (at = NOW): DeliveryCommand => ({ type: "Redrive", at });

/** A delivery with these events. */
export const delivery = (...history: History<DeliveryEvent>) => given(deliveryDecider, ...history);
