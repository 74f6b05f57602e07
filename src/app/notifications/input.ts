// What POST and PATCH of notifications take: one shape for each type.
import { z } from "zod";
import {
  canonicalMailAddress,
  input,
  instant,
  meta,
  name,
  orNull,
  parseWebhookUrl,
  patched,
  refuse,
  seconds,
  text,
  userId,
} from "../../contract/fields.ts";
import { type JsonValue, JsonValueSchema } from "../../contract/json.ts";
import { PrioritySchema } from "../../contract/resources.ts";

/** Content and text of a notification together, in bytes. */
export const MAX_CONTENT_BYTES = 256 * 1024;
const MAX_RECIPIENTS = 1_000;
/** Copies of one mail. */
const MAX_COPIES = 50;
const MAX_FALLBACK_SECONDS = 604_800;
export const DEFAULT_FALLBACK_SECONDS = 30;

/** A single mailbox, as it was written. */
export const mailAddress = z
  .string()
  .superRefine((value, context) => {
    if (canonicalMailAddress(value) === undefined) refuse(context, "invalid_format", "must be an email address");
  })
  .meta({ format: "email", maxLength: 254 });

/** The subject of a mail: one line. */
const mailSubject = text(1, 255).superRefine((value, context) => {
  if (/[\r\n]/.test(value)) refuse(context, "invalid_format", "must be one line");
});

/** A URL, by the rules that need no look-up. */
const targetUrl = z
  .string()
  .superRefine((value, context) => {
    const target = parseWebhookUrl(value);
    if ("ok" in target) refuse(context, target.code, target.reason);
  })
  .meta({ format: "uri", maxLength: 2_048 });

const contentText = z
  .string()
  .superRefine((value, context) => {
    if (value === "") refuse(context, "too_short", "must have at least 1 character");
    else if (Buffer.byteLength(value) > MAX_CONTENT_BYTES) refuse(context, "too_long", TOO_LONG);
  })
  .meta({ minLength: 1, description: "At most 256 KiB, with `text`." });

export const TOO_LONG = `must have at most ${MAX_CONTENT_BYTES} bytes, content and text together`;

const several = <T extends z.ZodType>(item: T) => orNull(z.array(item).min(1).max(MAX_RECIPIENTS));
const oneOrSeveral = <T extends z.ZodType>(item: T, most: number) => orNull(z.union([item, z.array(item).max(most)]));

const fallback = input({
  enabled: z.boolean().default(true),
  to_email: orNull(mailAddress),
  subject: orNull(mailSubject),
  content: orNull(contentText),
  after_seconds: seconds(1, MAX_FALLBACK_SECONDS).default(DEFAULT_FALLBACK_SECONDS),
});

const common = {
  room_id: orNull(z.string()),
  meta: orNull(meta),
  priority: orNull(PrioritySchema),
  send_at: orNull(instant),
  expires_at: orNull(instant),
  email_fallback: orNull(z.union([z.boolean(), fallback])),
};

const email = input({
  type: z.literal("email"),
  to_email: orNull(z.union([mailAddress, z.array(mailAddress).min(1).max(MAX_RECIPIENTS)])),
  to: several(input({ email: mailAddress, name: orNull(name) })),
  recipients: several(mailAddress),
  subject: mailSubject,
  content: contentText,
  text: orNull(contentText),
  reply_to: orNull(mailAddress),
  cc: oneOrSeveral(mailAddress, MAX_COPIES),
  bcc: oneOrSeveral(mailAddress, MAX_COPIES),
  ...common,
});

const websocket = input({
  type: z.literal("websocket"),
  user_ids: several(userId),
  recipients: several(userId),
  subject: orNull(text(1, 255)),
  content: contentText,
  ...common,
});

const webhook = input({
  type: z.literal("webhook"),
  url: orNull(targetUrl),
  urls: several(targetUrl),
  recipients: several(targetUrl),
  subject: orNull(text(1, 255)),
  content: JsonValueSchema.meta({ description: "Any JSON." }),
  ...common,
});

export const NotificationInput = z.discriminatedUnion("type", [email, websocket, webhook]);
export type NotificationInput = z.output<typeof NotificationInput>;

/** How many bytes content and text have; content that is no text counts as JSON. */
export const contentBytes = (content: JsonValue, plain: string | null): number =>
  Buffer.byteLength(typeof content === "string" ? content : JSON.stringify(content)) + Buffer.byteLength(plain ?? "");

/** A merge patch; what the notification's type allows is checked with the notification at hand. */
export const NotificationPatch = input({
  subject: patched(text(1, 255)),
  content: JsonValueSchema.optional(),
  text: patched(contentText),
  meta: patched(meta),
  priority: patched(PrioritySchema),
  send_at: patched(instant),
  expires_at: patched(instant),
});
export type NotificationPatch = z.output<typeof NotificationPatch>;
