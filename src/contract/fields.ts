// Pieces of the schemas that check input: the interface's limits in one place, each with its fault code.
import { z } from "zod";
import type { FaultCode } from "./errors.ts";
import { isObject, type JsonObject, JsonObjectSchema } from "./json.ts";
import { parseInstant } from "./time.ts";

/** Adds a fault of the interface from within a schema. */
export const refuse = (context: z.RefinementCtx, code: FaultCode, message: string, path: PropertyKey[] = []) =>
  context.addIssue({ code: "custom", params: { code }, message, path });

/** How many Unicode code points a text has. */
export function codePoints(text: string): number {
  let count = text.length;
  for (let index = 0; index < text.length - 1; index += 1) {
    const unit = text.charCodeAt(index);
    if (unit >= 0xd800 && unit <= 0xdbff) {
      count -= 1;
      index += 1;
    }
  }
  return count;
}

/** The rest of a text after so many code points. */
export function afterCodePoints(text: string, count: number): string {
  let index = 0;
  for (let left = count; left > 0 && index < text.length; left -= 1) {
    index += (text.codePointAt(index) ?? 0) > 0xffff ? 2 : 1;
  }
  return text.slice(index);
}

/** The first so many code points of a text. */
export const firstCodePoints = (text: string, count: number): string =>
  text.slice(0, text.length - afterCodePoints(text, count).length);

/** Whether a text has `min` to `max` code points; adds the issue when it has not. */
function fits(value: string, min: number, max: number, context: z.RefinementCtx): boolean {
  // A code point has one or two units: mostly the units alone say enough.
  if (value.length <= max && value.length >= min * 2) return true;
  const length = codePoints(value);
  if (length < min) refuse(context, "too_short", `must have at least ${min} ${min === 1 ? "character" : "characters"}`);
  else if (length > max) refuse(context, "too_long", `must have at most ${max} characters`);
  return length >= min && length <= max;
}

/** Text of `min` to `max` code points. */
export const text = (min: number, max: number) =>
  z
    .string()
    .superRefine((value, context) => void fits(value, min, max, context))
    .meta({ minLength: min, maxLength: max });

/** Text that must fit a pattern; `what` completes "must be". */
export const pattern = (expression: RegExp, what: string, min: number, max: number) =>
  z
    .string()
    .superRefine((value, context) => {
      if (fits(value, min, max, context) && !expression.test(value))
        refuse(context, "invalid_format", `must be ${what}`);
    })
    .meta({ minLength: min, maxLength: max, pattern: expression.source });

/** Text of 1 to `max` code points without certain characters. */
export const line = (max: number, forbidden: RegExp, message: string) =>
  text(1, max).superRefine((value, context) => {
    if (forbidden.test(value)) refuse(context, "invalid_format", message);
  });

/** A field that may be left out or null, and then is null. */
export const orNull = <T extends z.ZodType>(schema: T) =>
  schema.nullable().default(null as z.output<T> | null as never);
/** A field of a merge patch: left out (undefined) it stays, null clears it. */
export const patched = <T extends z.ZodType>(schema: T) => schema.nullable().optional();

/** Not a dot segment: every URL parser would take one for another path. */
export const userId = pattern(
  /* fence: dot-segments */ /^(?!\.{1,2}$)[A-Za-z0-9._\-@+:]+$/,
  "of A-Z a-z 0-9 . _ - @ + : only, and not . or ..",
  1,
  128,
);
/** Of an `Idempotency-Key`, without its quotes. */
export const idempotencyKey = pattern(/^[\x21-\x7e]+$/, "visible ASCII characters without spaces", 1, 255);
export const name = text(1, 200);
export const description = text(0, 2_000);

// Mail addresses: one rule, for users, recipients and senders alike.

const MAX_ADDRESS_BYTES = 254;
const MAX_LOCAL_BYTES = 64;
const MAX_LABEL_BYTES = 63;
/** Parts between dots, of letters, digits and what RFC 5322 allows, without what nobody sees. */
const LOCAL = /^(?!.*\p{Default_Ignorable_Code_Point})[\p{L}\p{M}\p{N}!#$%&'*+/=?^_`{|}~.-]+$/u;
const WRITTEN_DOMAIN = /^[\p{L}\p{M}\p{N}.-]+$/u;
const LABEL = /^[a-z0-9-]+$/;

const isLabel = (label: string): boolean =>
  LABEL.test(label) && label.length <= MAX_LABEL_BYTES && !label.startsWith("-") && !label.endsWith("-");

/**
 * The canonical spelling of an address: its domain in lower-case ASCII, its local part unchanged, since only the
 * domain's server knows whether case matters there. Undefined for what is not a single mailbox: quoted local parts,
 * address literals, comments, groups, more than one line.
 */
export function canonicalMailAddress(text: string): string | undefined {
  // Before any conversion: the ASCII form of a domain takes time that grows with the square of its length.
  // fence: address-length
  if (text.length > MAX_ADDRESS_BYTES) return undefined;
  const at = text.indexOf("@");
  const [local, written] = [text.slice(0, Math.max(0, at)), text.slice(at + 1)];
  if (!LOCAL.test(local) || local.split(".").includes("") || Buffer.byteLength(local) > MAX_LOCAL_BYTES)
    return undefined;
  const domain = WRITTEN_DOMAIN.test(written) ? (URL.parse(`http://${written}`)?.hostname ?? "") : "";
  const labels = domain.split(".");
  // A last label of digits alone makes it an IP address, or nothing.
  if (!labels.every(isLabel) || /^\d+$/.test(labels.at(-1) ?? "")) return undefined;
  const address = `${local}@${domain}`;
  return Buffer.byteLength(address) > MAX_ADDRESS_BYTES ? undefined : address;
}

/** The canonical spelling of an address; the text as it is where it is none. */
export const canonicalOrSame = (address: string): string => canonicalMailAddress(address) ?? address;

/** A single mailbox, as it was written. */
export const mailAddress = z
  .string()
  .superRefine((value, context) => {
    if (value.length > MAX_ADDRESS_BYTES)
      refuse(context, "too_long", `must have at most ${MAX_ADDRESS_BYTES} characters`);
    else if (canonicalMailAddress(value) === undefined) refuse(context, "invalid_format", "must be an email address");
  })
  .meta({ format: "email", maxLength: MAX_ADDRESS_BYTES });

const MAX_URL_LENGTH = 2_048;
const MAX_HOST_LENGTH = 253;
/** The longest `user:password@host:port` that is looked at: longer than any host with a port. */
const MAX_AUTHORITY_LENGTH = MAX_HOST_LENGTH + ":65535".length;
// The Fetch standard's list and port 0. HTTP sent to a mail, name or chat server can be read there as commands.
// biome-ignore format: one entry a line says no more
const BLOCKED_PORTS: ReadonlySet<number> = new Set([
  0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
  111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
  540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
  6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
]);

/**
 * Reads a webhook URL by the rules that need no look-up: http or https, no userinfo, no fragment, at most 2,048
 * characters, no port of another protocol. Gives the URL, or the reason why it is refused.
 */
export function parseWebhookUrl(
  url: string,
): URL | { readonly ok: false; readonly code: FaultCode; readonly reason: string } {
  const refused = (code: FaultCode, reason: string) => ({ ok: false, code, reason }) as const;
  if (codePoints(url) > MAX_URL_LENGTH) return refused("too_long", `must have at most ${MAX_URL_LENGTH} characters`);
  const [authority = ""] = url.replace(/^[A-Za-z]+:[\\/]*/, "").split(/[\\/?#]/, 1);
  // Before it is parsed: the ASCII form of a host takes time that grows with the square of its length.
  // fence: url-host-length
  if (authority.length > MAX_AUTHORITY_LENGTH)
    return refused("too_long", `must have a host of at most ${MAX_HOST_LENGTH} characters`);
  // URL.parse would silently drop these, and the stored URL would not be the one that is called.
  const parsed = /[\p{Cc}\s]/u.test(url) ? null : URL.parse(url);
  if (parsed === null) return refused("invalid_format", "is not a URL");
  if (parsed.protocol !== "http:" && parsed.protocol !== "https:")
    return refused("not_allowed", "must be http or https");
  if (authority.includes("@")) return refused("not_allowed", "must not contain a user name or password");
  if (url.includes("#")) return refused("not_allowed", "must not contain a fragment");
  if (parsed.port !== "" && BLOCKED_PORTS.has(Number(parsed.port))) {
    return refused("not_allowed", "must not name the port of another protocol");
  }
  return parsed;
}

/** A URL, by the rules that need no look-up. */
export const webhookUrl = z
  .string()
  .superRefine((value, context) => {
    const url = parseWebhookUrl(value);
    if ("ok" in url) refuse(context, url.code, url.reason);
  })
  .meta({ format: "uri", maxLength: 2_048 });

/** How much `meta` may hold, as UTF-8 JSON. */
export const MAX_META_BYTES = 8 * 1024;

export const metaTooLarge = (meta: JsonObject): boolean => Buffer.byteLength(JSON.stringify(meta)) > MAX_META_BYTES;

const jsonObject = z
  .unknown()
  .superRefine((value, context) => {
    if (!isObject(value)) refuse(context, value === undefined ? "required" : "wrong_type", "must be an object");
  })
  .pipe(JsonObjectSchema)
  .meta({ type: "object", additionalProperties: true });

/** A client's own JSON object of at most 8 KiB. */
export const meta = jsonObject
  .superRefine((value, context) => {
    if (metaTooLarge(value)) refuse(context, "too_long", `must have at most ${MAX_META_BYTES} bytes as JSON`);
  })
  .meta({ type: "object", additionalProperties: true, description: "At most 8 KiB as JSON." });

const ZONE = /^[A-Za-z][A-Za-z0-9+_/-]*$/;

/** An IANA time zone by name. */
export const timezone = z
  .string()
  .superRefine((value, context) => {
    if (!ZONE.test(value) || !isTimezone(value))
      refuse(context, "invalid_format", "must be an IANA time zone such as Europe/Berlin");
  })
  .meta({ maxLength: 64, examples: ["Europe/Berlin"] });

function isTimezone(value: string): boolean {
  if (value.length > 64) return false;
  try {
    new Intl.DateTimeFormat("en", { timeZone: value });
    return true;
  } catch {
    return false;
  }
}

/** A whole number of seconds in a body. */
export const seconds = (min: number, max: number) => z.int().min(min).max(max);

/** A moment: RFC 3339 with offset, or a UTC date; becomes an Instant. */
export const instant = z
  .string()
  .transform((value, context) => {
    const at = parseInstant(value);
    if (at !== undefined) return at;
    refuse(context, "invalid_format", "must be an RFC 3339 time with offset, or a date");
    return z.NEVER;
  })
  .meta({ format: "date-time" });

/** A number in a query. */
export const queryInteger = (min: number, max: number) =>
  z
    .string()
    .transform((value, context) => {
      const number = /^-?\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
      if (Number.isNaN(number)) refuse(context, "wrong_type", "must be an integer");
      else if (number < min) refuse(context, "too_small", `must be at least ${min}`);
      else if (number > max) refuse(context, "too_large", `must be at most ${max}`);
      return number;
    })
    .meta({ type: "integer", minimum: min, maximum: max });

/** `true` or `false` in a query. */
export const queryBoolean = z
  .string()
  .transform((value, context) => {
    if (value !== "true" && value !== "false") refuse(context, "not_allowed", "must be one of true, false");
    return value === "true";
  })
  .meta({ type: "boolean" });

/** Several values with commas, each checked; at most 100. */
export const commaSeparated = <T extends z.ZodType<unknown, string>>(item: T) =>
  z
    .string()
    .transform((value) => value.split(",").map((one) => one.trim()))
    .pipe(z.array(item).max(100));

/** Whom a query names; a URL may have commas in it, and then is the only value. */
export const recipients = z
  .string()
  .transform((value) => (/^https?:/i.test(value) ? [value] : value.split(",").map((one) => one.trim())))
  .pipe(z.array(text(1, 2_048)).max(100));

/** Where a page of a list ended; the next one begins behind it. Plain values: who hands it out encodes it. */
export type Cursor = readonly (string | number)[];

/** Of every list; the kernel has read the cursor before the schema sees it. */
export const paging = {
  limit: queryInteger(1, 100).default(50),
  cursor: z
    .custom<Cursor>((value) => Array.isArray(value))
    .optional()
    .meta({ type: "string", description: "`next_cursor` of the page before; keeps its filters." }),
};
/** Bounds of the creation time. */
export const created = { from: instant.optional(), to: instant.optional() };

/** An object without unknown fields. */
export const input = z.strictObject;

/** What a client key may be allowed to do; keys made at registration have all of them. */
export const ScopeSchema = z.enum([
  "rooms:read",
  "rooms:write",
  "messages:read",
  "messages:write",
  "notifications:read",
  "notifications:write",
  "webhooks:manage",
  "providers:manage",
  "users:manage",
  "keys:manage",
  "audit:read",
]);
export type Scope = z.infer<typeof ScopeSchema>;
export const ALL_SCOPES: ReadonlySet<Scope> = new Set(ScopeSchema.options);

// Of every answer.

/** A time in an answer. */
export const time = z.string().meta({ format: "date-time" });
/** Any object in an answer. */
export const anyObject = z.record(z.string(), z.unknown());

/** The body of a list. */
export const listBody = <T extends z.ZodType>(item: T) =>
  z.object({ data: z.array(item), next_cursor: z.string().nullable() });

/** Who acts. */
export const ActorTypeSchema = z.enum(["key", "user", "system", "operator"]);
/** A user by its own id, null when the person was erased; all others by their id. */
export const actor = z.object({ type: ActorTypeSchema, id: z.string().nullable() });

/** The query of a list without filters. */
export const PageQuery = input(paging);
export type PageQuery = z.output<typeof PageQuery>;
