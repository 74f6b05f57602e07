// Notifications: what requests send and answers show.

import { z } from "zod";
import {
  ChannelSchema,
  ContentTypeSchema,
  DeliveryResource,
  DeliveryStatusSchema,
  PrioritySchema,
} from "./deliveries.ts";
import type { FieldFault } from "./errors.ts";
import {
  anyObject,
  commaSeparated,
  created,
  input,
  instant,
  line,
  mailAddress,
  meta,
  name,
  orNull,
  paging,
  patched,
  pattern,
  recipients,
  refuse,
  seconds,
  text,
  time,
  userId,
  webhookUrl,
} from "./fields.ts";
import { NotificationIdSchema } from "./ids.ts";
import { type JsonValue, JsonValueSchema } from "./json.ts";
import {
  category,
  collapseKey,
  dedupe,
  eventType,
  mailHeaders,
  providerName,
  sender,
  tag,
  throttle,
  webhookHeaders,
} from "./notification-options.ts";

// Attachments of a mail: what requests send and answers show.

const MAX_ATTACHMENTS = 10;
const MIB = 1_048_576;
/** Bytes of all attachments of a mail, decoded. */
const MAX_ATTACHMENTS_BYTES = 10 * MIB;
/** Bytes of a request that has attachments. */
export const MAX_BODY_WITH_ATTACHMENTS_BYTES = 15 * MIB;

const AttachmentResource = z.object({
  filename: z.string(),
  content_type: z.string(),
  size: z.int().describe("In bytes, decoded"),
  content_id: z.string().nullable(),
});

/** The bytes that base64 stands for, if it is valid: a quarter less than its characters, and less its padding. */
export function decodedLength(base64: string): number {
  const padding = base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0;
  return Math.max(0, (base64.length / 4) * 3 - padding);
}

/** Node's decoder leaves out what is no base64, and reads the alphabet of URLs too. */
const isBase64 = (text: string): boolean =>
  text.length % 4 === 0 &&
  !text.includes("-") &&
  !text.includes("_") &&
  // fence: attachment-base64
  Buffer.from(text, "base64").length === decodedLength(text);

const TYPE = "[A-Za-z0-9!#$&^_.+-]{1,127}";

const attachment = input({
  filename: line(255, /[\p{Cc}\p{Zl}\p{Zp}/\\]/u, "must be a file's name, without a path or control characters"),
  content_type: orNull(
    pattern(
      new RegExp(`^(?!multipart/)${TYPE}/${TYPE}(?:; ?[A-Za-z0-9-]{1,40}=${TYPE}){0,3}$`, "i"),
      "type/subtype, and not multipart",
      1,
      255,
    ),
  ).meta({ description: "Told by the end of `filename` when left out." }),
  content: z
    .string()
    .superRefine((value, context) => {
      if (decodedLength(value) > MAX_ATTACHMENTS_BYTES) refuse(context, "too_long", TOO_LARGE);
      else if (!isBase64(value)) refuse(context, "invalid_format", "must be base64 (RFC 4648, 4), with its padding");
    })
    .meta({ contentEncoding: "base64", description: "The file, in base64." }),
  content_id: orNull(pattern(/^[A-Za-z0-9._+@-]+$/, "of A-Z a-z 0-9 . _ + @ - only", 1, 128)).meta({
    description: "The HTML shows it as `cid:<content_id>`.",
  }),
});
export type AttachmentInput = z.output<typeof attachment>;

const TOO_LARGE = `must have at most ${MAX_ATTACHMENTS_BYTES / MIB} MiB, all attachments together`;

const attachments = z
  .array(attachment)
  .max(MAX_ATTACHMENTS)
  .superRefine((files, context) => {
    const bytes = files.reduce((sum, { content }) => sum + decodedLength(content), 0);
    // fence: attachments-bytes
    if (bytes > MAX_ATTACHMENTS_BYTES) refuse(context, "too_long", TOO_LARGE);
    const seen = new Set<string>();
    for (const [index, { content_id }] of files.entries()) {
      if (content_id === null) continue;
      if (seen.has(content_id)) refuse(context, "not_allowed", "must not come twice", [index, "content_id"]);
      seen.add(content_id);
    }
  })
  .meta({
    description: `At most ${MAX_ATTACHMENTS}, and ${MAX_ATTACHMENTS_BYTES / MIB} MiB together; the body may then have ${MAX_BODY_WITH_ATTACHMENTS_BYTES / MIB} MiB.`,
  });

const NotificationStatusSchema = z.enum([
  "scheduled",
  "pending",
  "processing",
  "delivered",
  "sent",
  "partial",
  "cancelled",
  "suppressed",
  "expired",
  "failed",
]);
export type NotificationStatus = z.infer<typeof NotificationStatusSchema>;

/** Deliveries that an answer about one notification shows. */
export const SHOWN_DELIVERIES = 100;

const notification = {
  id: z.string(),
  type: ChannelSchema,
  status: z.enum([...NotificationStatusSchema.options, "dry_run"]),
  room_id: z.string().nullable(),
  subject: z.string().nullable(),
  content: z.unknown().describe("Text, or any JSON for a webhook; null when it was erased"),
  meta: anyObject,
  priority: PrioritySchema,
  category: z.string().nullable(),
  tag: z.string().nullable(),
  attachments: z.array(AttachmentResource).describe("Without their content; none once they were erased"),
  email_fallback: z
    .object({
      enabled: z.literal(true),
      to_email: z.string().nullable(),
      subject: z.string().nullable(),
      content: z.string().nullable(),
      after_seconds: z.number(),
    })
    .nullable(),
  send_at: time.nullable(),
  expires_at: time,
  created_at: time,
  updated_at: time,
};
const deliveries_total = z.int().describe("Deliveries made and to be made");

export const NotificationResource = z
  .object({
    ...notification,
    deliveries: z.array(DeliveryResource).describe(`The first ${SHOWN_DELIVERIES}, those to be made as pending`),
    deliveries_total,
  })
  .meta({ id: "Notification" });
export type NotificationResource = z.infer<typeof NotificationResource>;

/** A notification as lists show it. */
export const NotificationSummary = z
  .object({
    ...notification,
    delivery_counts: z.partialRecord(DeliveryStatusSchema, z.int()).describe("Deliveries by status"),
    deliveries_total,
  })
  .meta({ id: "NotificationSummary" });
export type NotificationSummary = z.infer<typeof NotificationSummary>;

/** Content and text of a notification together, in bytes. */
const MAX_CONTENT_BYTES = 256 * 1024;
const MAX_SUBJECT = 255;
const MAX_RECIPIENTS = 1_000;
/** Copies of one mail. */
const MAX_COPIES = 50;
const MAX_FALLBACK_SECONDS = 604_800;
export const DEFAULT_FALLBACK_SECONDS = 30;
/** Deliveries that one retry may name. */
const MAX_RETRIED = 1_000;

const contentTooLong = `must have at most ${MAX_CONTENT_BYTES} bytes, content and text together`;

/** What is wrong with content and text that are too long together; content that is no text counts as JSON. */
export function contentSizeFaults(content: JsonValue, plain: string | null): readonly FieldFault[] {
  const bytes = Buffer.byteLength(typeof content === "string" ? content : JSON.stringify(content));
  if (bytes + Buffer.byteLength(plain ?? "") <= MAX_CONTENT_BYTES) return [];
  return [{ path: "content", code: "too_long", message: contentTooLong }];
}

const LINE_BREAK = /[\r\n]/;
/** What somebody sees: no spaces, control characters, or characters without a width. */
const VISIBLE = /[^\s\p{Cc}\p{Default_Ignorable_Code_Point}]/u;

/** What is wrong with the subject of a mail, whatever its length. */
export function mailSubjectFaults(subject: string, path = "subject"): readonly FieldFault[] {
  if (LINE_BREAK.test(subject)) return [{ path, code: "invalid_format", message: "must be one line" }];
  return VISIBLE.test(subject) ? [] : [{ path, code: "invalid_format", message: "must not be blank" }];
}

const mailSubject = text(1, MAX_SUBJECT).superRefine((value, context) => {
  for (const { code, message } of mailSubjectFaults(value)) refuse(context, code, message);
});
const contentText = z
  .string()
  .superRefine((value, context) => {
    if (value === "") refuse(context, "too_short", "must have at least 1 character");
    else if (Buffer.byteLength(value) > MAX_CONTENT_BYTES) refuse(context, "too_long", contentTooLong);
  })
  .meta({ minLength: 1, description: "At most 256 KiB, with `text`." });

const several = <T extends z.ZodType>(item: T) => orNull(z.array(item).min(1).max(MAX_RECIPIENTS));
const copies = orNull(z.union([mailAddress, z.array(mailAddress).max(MAX_COPIES)]));

const fallback = input({
  enabled: z.boolean().default(true),
  to_email: orNull(mailAddress),
  subject: orNull(mailSubject),
  content: orNull(contentText),
  after_seconds: seconds(1, MAX_FALLBACK_SECONDS).default(DEFAULT_FALLBACK_SECONDS),
});
const ofEveryChannel = {
  room_id: orNull(z.string()),
  meta: orNull(meta),
  priority: orNull(PrioritySchema),
  send_at: orNull(instant),
  expires_at: orNull(instant),
  email_fallback: orNull(z.union([z.boolean(), fallback])),
  category: orNull(category).meta({ description: "What kind it is: users choose by it what they get." }),
  dry_run: z.boolean().default(false).meta({ description: "Show what would be sent, and write nothing." }),
  dedupe: orNull(dedupe).meta({
    description: "Within the window the same `key` again is answered with the first notification.",
  }),
  collapse_key: orNull(collapseKey).meta({
    description: "A newer notification with this key replaces what is not sent yet to the same recipient.",
  }),
  throttle: orNull(throttle).meta({
    description: "How many with this `key` a recipient gets in the window; what is over is suppressed.",
  }),
};

export const NewNotification = z.discriminatedUnion("type", [
  input({
    type: z.literal("email"),
    to_email: orNull(z.union([mailAddress, z.array(mailAddress).min(1).max(MAX_RECIPIENTS)])),
    to: several(input({ email: mailAddress, name: orNull(name), user_id: orNull(userId) })),
    recipients: several(mailAddress),
    subject: mailSubject,
    content: contentText,
    content_type: orNull(ContentTypeSchema).meta({
      description: "What `content` is; told by its elements of HTML when left out.",
    }),
    text: orNull(contentText),
    reply_to: orNull(mailAddress),
    cc: copies,
    bcc: copies,
    from: orNull(sender).meta({ description: "The sender; its domain must be one of the provider's." }),
    provider: orNull(providerName).meta({ description: "The only provider that may send it." }),
    headers: orNull(mailHeaders),
    tag: orNull(tag),
    attachments: orNull(attachments),
    unsubscribe: z.boolean().default(false).meta({ description: "Add one-click unsubscribing; needs `category`." }),
    ...ofEveryChannel,
  }),
  input({
    type: z.literal("websocket"),
    user_ids: several(userId),
    recipients: several(userId),
    subject: orNull(text(1, MAX_SUBJECT)),
    content: contentText,
    ...ofEveryChannel,
  }),
  input({
    type: z.literal("webhook"),
    url: orNull(webhookUrl),
    urls: several(webhookUrl),
    recipients: several(webhookUrl),
    subject: orNull(text(1, MAX_SUBJECT)),
    content: JsonValueSchema.meta({ description: "Any JSON." }),
    headers: orNull(webhookHeaders),
    event_type: orNull(eventType).meta({ description: "The `type` in the body; `notification` when left out." }),
    ...ofEveryChannel,
  }),
]);
export type NewNotification = z.output<typeof NewNotification>;

/** Notifications that one batch may have. */
const MAX_BATCH = 1_000;
/** Each is checked by itself, as a `NewNotification`. */
export const NotificationBatch = input({ notifications: z.array(z.unknown()).min(1).max(MAX_BATCH) });
/** `body`: the notification, or the problem why there is none. */
const BatchItem = z
  .object({
    index: z.int().describe("Of the notification in the request"),
    status: z.int().describe("What the request of this notification alone would be answered with"),
    body: anyObject,
  })
  .meta({ id: "BatchItem" });
export const BatchResult = z.object({ data: z.array(BatchItem) });

/** A merge patch; what the notification's channel allows is checked with the notification at hand. */
export const NotificationPatch = input({
  subject: patched(text(1, MAX_SUBJECT)),
  content: JsonValueSchema.optional(),
  text: patched(contentText),
  meta: patched(meta),
  priority: patched(PrioritySchema),
  send_at: patched(instant),
  expires_at: patched(instant),
});
export type NotificationPatch = z.output<typeof NotificationPatch>;

export const NotificationParams = z.object({ notification_id: NotificationIdSchema });
/** Of changes, which look up whatever they are given. */
export const ChangedNotificationParams = z.object({ notification_id: z.string() });
export const NotificationQuery = input({
  ...paging,
  ...created,
  status: commaSeparated(NotificationStatusSchema).optional(),
  type: commaSeparated(ChannelSchema).optional(),
  recipient: recipients.optional().meta({ type: "string", description: "User ids, mail addresses, or a URL" }),
  room_id: commaSeparated(text(1, 128)).optional(),
  ids: commaSeparated(text(1, 128)).optional(),
  category: commaSeparated(text(1, 64)).optional(),
  tag: commaSeparated(text(1, 64)).optional(),
});
export type NotificationQuery = z.output<typeof NotificationQuery>;
export const Retry = input({ delivery_ids: orNull(z.array(text(1, 128)).min(1).max(MAX_RETRIED)) });
