// What a notification may say beside its content: how it is grouped, sent, and held back.
import { z } from "zod";
import type { FieldFault } from "./errors.ts";
import { input, mailAddress, name, orNull, pattern, refuse, seconds, text } from "./fields.ts";

/** The longest window of a throttle or a deduplication. */
const MAX_WINDOW_SECONDS = 30 * 24 * 3_600;
/** The most deliveries that a throttle lets through in its window. */
export const MAX_THROTTLE_LIMIT = 1_000;
const MAX_HEADERS = 20;
/** RFC 5322: a line has at most 998 characters. */
const MAX_HEADER_VALUE = 998;
/** Names and values of all headers together. */
const MAX_HEADERS_BYTES = 8 * 1024;

/** What kind of notification it is: people choose by it what they get. `*` is the name of all of them. */
export const category = pattern(
  /^[A-Za-z0-9][A-Za-z0-9_.:/-]*$/,
  "of A-Z a-z 0-9 _ . : / - only, and begin with a letter or digit",
  1,
  64,
);
export const tag = pattern(/^[A-Za-z0-9_-]+$/, "of A-Z a-z 0-9 _ - only", 1, 64);
export const providerName = text(1, 64);
export const eventType = pattern(/^[A-Za-z][A-Za-z0-9_.-]*$/, "a letter, then A-Z a-z 0-9 _ . - only", 1, 64);
/** The sender of a mail. Whether a provider may send for its domain is known at the attempt. */
export const sender = input({ email: mailAddress, name: orNull(name) });

const key = text(1, 255);
export const collapseKey = key;
export const dedupe = input({ key, window_seconds: seconds(1, MAX_WINDOW_SECONDS) });
export const throttle = input({
  key,
  limit: z.int().min(1).max(MAX_THROTTLE_LIMIT),
  per_seconds: seconds(1, MAX_WINDOW_SECONDS),
});

// Headers.

const MAIL_HEADERS: ReadonlySet<string> = new Set(["references", "in-reply-to", "importance", "precedence", "list-id"]);
/** Headers that we set, or by which a provider takes instructions that belong to its settings. */
const RESERVED = /^x-(?:chatapi-|pm-|ses-|mailgun-|mandrill-|mc-|smtpapi$|sg-|postmark-|mailer$)/;
const HEADER_NAME = /^[A-Za-z][A-Za-z0-9-]*$/;
/** Visible characters and spaces: of HTTP in ASCII, of a mail in any script. */
const HTTP_VALUE = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;
const MAIL_VALUE = /^[^\p{Cc}\p{Zl}\p{Zp}]*$/u;

const headersOf = (allowed: (lowerCaseName: string) => boolean, which: string, value: RegExp) =>
  z
    .record(z.string(), z.string())
    .superRefine((headers, context) => {
      const names = Object.keys(headers);
      if (names.length > MAX_HEADERS) return refuse(context, "too_long", `must have at most ${MAX_HEADERS} headers`);
      if (Buffer.byteLength(JSON.stringify(headers)) > MAX_HEADERS_BYTES)
        return refuse(context, "too_long", `must have at most ${MAX_HEADERS_BYTES} bytes`);
      const seen = new Set<string>();
      for (const [name, text] of Object.entries(headers)) {
        const lower = name.toLowerCase();
        const twice = seen.has(lower);
        seen.add(lower);
        if (!HEADER_NAME.test(name) || /* fence: own-headers */ RESERVED.test(lower) || !allowed(lower))
          refuse(context, "not_allowed", `must be ${which}, and none that ChatAPI or a provider sets`, [name]);
        else if (twice) refuse(context, "not_allowed", "must not come twice", [name]);
        else if (text.length > MAX_HEADER_VALUE)
          refuse(context, "too_long", `must have at most ${MAX_HEADER_VALUE} characters`, [name]);
        else if (/* fence: header-lines */ !value.test(text))
          refuse(context, "invalid_format", "must be one line of visible characters", [name]);
      }
    })
    .meta({
      type: "object",
      additionalProperties: { type: "string" },
      description: `By name: ${which}. At most ${MAX_HEADERS}, ${MAX_HEADERS_BYTES / 1024} KiB together.`,
    });

const isCustom = (lowerCaseName: string) => lowerCaseName.startsWith("x-") && lowerCaseName.length > 2;
export const mailHeaders = headersOf(
  (lower) => isCustom(lower) || MAIL_HEADERS.has(lower),
  "`X-*`, `References`, `In-Reply-To`, `Importance`, `Precedence` or `List-Id`",
  MAIL_VALUE,
);
export const webhookHeaders = headersOf(
  (lower) => isCustom(lower) || lower === "authorization",
  "`X-*` or `Authorization`",
  HTTP_VALUE,
);

/** What is wrong with fields that need each other. */
export function optionFaults({ unsubscribe, category }: { unsubscribe?: unknown; category?: unknown }): FieldFault[] {
  if (unsubscribe !== true || (category ?? null) !== null) return [];
  return [{ path: "category", code: "required", message: "is what `unsubscribe` turns off, and so is required" }];
}
