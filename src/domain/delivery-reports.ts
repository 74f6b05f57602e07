// domain/delivery-reports.ts: what a provider's later word about a mail means: delivered, bounced, complained, opened.
import type { DeliveryStatus } from "../contract/deliveries.ts";
import type { Instant } from "../contract/time.ts";
import { DomainError } from "./decider.ts";
import {
  type DataOf,
  type DeliveryEvent,
  FINAL_REPORTS,
  type KnownDelivery,
  reportedStatus,
} from "./delivery-state.ts";
import { sealOrNull } from "./event.ts";

/** What was told. `happenedAt` is the provider's clock, never later than ours. */
export type Report = Pick<
  DataOf<"DeliveryReported">,
  "kind" | "bounce" | "code" | "index" | "provider" | "report" | "happenedAt"
> & { readonly message: string | null };

/** What a provider, or a receiving server, reports of a mail, before it is known whose mail it is. */
export type MailReport = Pick<Report, "kind" | "bounce" | "code" | "message"> & {
  /** The sender's own id of the report, the same when it comes again. */
  readonly id: string;
  /** Whom it is about. Null: the mail's recipient. */
  readonly address: string | null;
  /** The delivery, as the mail carried it. */
  readonly delivery: string | null;
  /** The id that the provider gave the mail when it took it. */
  readonly providerMessageId: string | null;
  /** Null: now. */
  readonly happenedAt: Instant | null;
};

/** Max opens, clicks, deferrals and soft bounces that are kept of a delivery: a program that follows links makes many. */
const MAX_NOTICES = 200;

/** Where a report changes nothing: what was stopped stays so, and an open attempt ends by its outcome first. */
const UNMOVED: ReadonlySet<DeliveryStatus> = new Set([...FINAL_REPORTS, "sending", "cancelled", "suppressed"]);

/**
 * A report comes in any order, also before the outcome of the attempt that it is about. Twice is the command's affair: it
 * comes under one id. Throws not_found for what was never sent as a mail.
 */
export function reportDelivery(state: KnownDelivery, report: Report, at: Instant): readonly DeliveryEvent[] {
  const { request, status } = state;
  if (request.channel !== "email" || (!state.attempted && state.n === 1)) throw new DomainError("not_found");
  const outcome = reportedStatus(report);
  if (outcome === null && state.notices >= MAX_NOTICES) return [];
  // fence: reports-status
  const to = outcome === null || UNMOVED.has(status) ? status : outcome;
  const { notification, recipient } = request;
  const { message, happenedAt, ...rest } = report;
  const data = { ...rest, happenedAt: Math.min(happenedAt, at), message: sealOrNull(message) };
  return [{ type: "DeliveryReported", data: { notification, recipient, from: status, to, ...data } }];
}
