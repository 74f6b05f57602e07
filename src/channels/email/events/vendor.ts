// channels/email/events/vendor.ts: what the four vendors' events have in common: how they are read, and how refused.
import { hash } from "node:crypto";
import { z } from "zod";
import { isObject, parseJson } from "../../../contract/json.ts";
import { DELIVERY_ARGUMENT } from "../../../contract/providers.ts";
import type { Instant } from "../../../contract/time.ts";
import type { MailReport } from "../../../domain/delivery-reports.ts";

/** A request to a provider's path, as it came. */
export type HookRequest = {
  readonly body: Uint8Array;
  /** By name in lower case. */
  readonly header: (name: string) => string | undefined;
  readonly now: Instant;
};

/** Why a request is refused. `unconfigured`: there is no secret to check it with. */
export class HookRefused extends Error {
  override readonly name = "HookRefused";
  readonly reason: "forged" | "unconfigured" | "unreadable" | "unavailable";
  constructor(reason: HookRefused["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Throws HookRefused. */
export function jsonOf(body: Uint8Array): unknown {
  try {
    return parseJson(utf8.decode(body));
  } catch {
    throw new HookRefused("unreadable", "the body is not JSON in UTF-8");
  }
}

/** Parses what a vendor sent. Throws HookRefused. */
export function parsed<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new HookRefused("unreadable", "the event is not as its vendor documents it");
}

/** The id of an event that its vendor gives none: the same for the same event. */
export const derivedId = (...parts: readonly (string | null | undefined)[]): string =>
  hash("sha256", JSON.stringify(parts), "base64url");

/** A field that may be missing, or hold something that is of no use to us. */
export const lenient = <T extends z.ZodType>(schema: T) =>
  schema
    .nullable()
    .catch(null)
    .default(null as never);
export const text = lenient(z.string());
export const number = lenient(z.number());

/** The delivery that a mail carried, among the arguments that a vendor gives back. */
export function deliveryIn(value: unknown): string | null {
  const own = isObject(value) ? value[DELIVERY_ARGUMENT] : undefined;
  const first = Array.isArray(own) ? own[0] : own;
  return typeof first === "string" ? first : null;
}

/** Seconds since the epoch, or a date as text; null when it is neither. */
export function instantOf(value: number | string | null): Instant | null {
  const at = typeof value === "number" ? value * 1_000 : Date.parse(value ?? "");
  return Number.isFinite(at) && at > 0 && at < 8.64e15 ? Math.round(at) : null;
}

/** A report without what most have not. */
export const reportOf = (about: Pick<MailReport, "id" | "kind"> & Partial<MailReport>): MailReport => ({
  ...{ bounce: null, code: null, message: null, address: null, delivery: null, providerMessageId: null },
  ...{ happenedAt: null, ...about },
});
