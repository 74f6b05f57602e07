// What requests send, by resource: parameters of paths, bodies and queries. What a body means is in docs of the resource.
import { z } from "zod";
import type { FieldFault } from "./errors.ts";
import {
  commaSeparated,
  created,
  description,
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
  queryBoolean,
  queryInteger,
  refuse,
  seconds,
  text,
  timezone,
  userId,
  webhookUrl,
} from "./fields.ts";
import { DeliveryIdSchema, KeyIdSchema, MessageIdSchema, NotificationIdSchema } from "./ids.ts";
import { type JsonValue, JsonValueSchema } from "./json.ts";
import {
  ChannelSchema,
  ContentTypeSchema,
  JoinRoleSchema,
  NotificationStatusSchema,
  PrioritySchema,
  ProviderUseSchema,
  RoleSchema,
  RoomKindSchema,
  SmtpSecuritySchema,
} from "./resources.ts";
import { DAY_MS, SECOND_MS } from "./time.ts";

/** The query of a list without filters. */
export const PageQuery = input(paging);
export type PageQuery = z.output<typeof PageQuery>;

// Clients and their keys

/** How long an old key or secret may go on, and how long it does unless the caller says otherwise. */
const MAX_GRACE_SECONDS = (7 * DAY_MS) / SECOND_MS;
const GRACE_SECONDS = DAY_MS / SECOND_MS;

export const NewClient = input({ name, description: orNull(description) });
export type NewClient = z.output<typeof NewClient>;
export const ClientPatch = input({ name: name.optional(), description: patched(description) });
export type ClientPatch = z.output<typeof ClientPatch>;
export const Rotation = input({
  grace_seconds: seconds(0, MAX_GRACE_SECONDS)
    .default(GRACE_SECONDS)
    .describe("How long the old one goes on, at most 7 days; a day when it is left out."),
});
export const KeyParams = z.object({ key_id: KeyIdSchema });

// Users and their tokens

/** How long a token may hold. */
export const MAX_TOKEN_MS = DAY_MS;
const MIN_TTL_SECONDS = 60;
const TTL_SECONDS = 3_600;

export const UserParams = z.object({ user_id: userId });
export const UserProfile = input({
  name: orNull(name),
  email: orNull(mailAddress),
  timezone: orNull(timezone),
  meta: meta.default({}),
});
export type UserProfile = z.output<typeof UserProfile>;
export const UserPatch = input({
  name: patched(name),
  email: patched(mailAddress),
  timezone: patched(timezone),
  meta: patched(meta),
});
export type UserPatch = z.output<typeof UserPatch>;
export const UserQuery = input({ ...paging, ...created });
export type UserQuery = z.output<typeof UserQuery>;
export const NewToken = input({
  ttl_seconds: seconds(MIN_TTL_SECONDS, MAX_TOKEN_MS / SECOND_MS).default(TTL_SECONDS),
  revoke_previous: z.boolean().default(false),
});
export type NewToken = z.output<typeof NewToken>;

// Rooms

/** Members that can be named at creation, the creator included. */
export const MAX_FIRST_MEMBERS = 500;
const externalId = text(1, 255);

export const RoomParams = z.object({ room_id: z.string().meta({ description: "The id, or `ext:<external_id>`" }) });
export const NewRoom = input({
  name: orNull(name).describe("Needed unless the kind is `direct`"),
  description: orNull(description),
  kind: RoomKindSchema.default("private"),
  external_id: orNull(externalId).describe("With a client key alone"),
  join_role: JoinRoleSchema.default("member"),
  meta: meta.default({}),
  members: z
    .array(input({ user_id: userId, role: RoleSchema.default("member"), name: orNull(name) }))
    .max(MAX_FIRST_MEMBERS)
    .default([]),
});
export type NewRoom = z.output<typeof NewRoom>;
export const RoomPatch = input({
  name: name.optional(),
  description: patched(description),
  kind: RoomKindSchema.optional(),
  join_role: JoinRoleSchema.optional(),
  meta: patched(meta),
});
export type RoomPatch = z.output<typeof RoomPatch>;
export const RoomQuery = input({
  ...paging,
  ...created,
  search: text(1, 200).optional().meta({ description: "Part of the name or description, in any case" }),
  member: commaSeparated(userId).optional(),
  active: queryBoolean.optional(),
  external_id: commaSeparated(externalId).optional(),
  sort: z.enum(["-created_at", "created_at", "name"]).default("-created_at"),
});
export type RoomQuery = z.output<typeof RoomQuery>;

export const MemberParams = RoomParams.extend({ user_id: userId });
export const MemberInput = input({ role: orNull(RoleSchema), name: orNull(name), meta: meta.default({}) });
export type MemberInput = z.output<typeof MemberInput>;

export const ReadMarkerInput = input({ seq: z.int().min(0) });

// Messages

const MAX_SEQ = 2 ** 31 - 1;
const content = text(0, 10_000);
const messageType = pattern(/^[a-z][a-z0-9_.-]*$/, "of a-z 0-9 _ . - and begin with a letter", 1, 64);

export const MessageParams = RoomParams.extend({ message_id: z.string() });
export const NewMessage = input({
  sender_id: orNull(userId).describe("Needed with a client key; a user token's own otherwise"),
  sender_name: orNull(name).describe("With a client key alone; left out: the member's name, else the user's"),
  content: content.describe("May be empty with meta, except for `text` and `system`"),
  type: messageType.default("text").describe("text, image, file, system or your own"),
  meta: meta.default({}),
  reply_to: orNull(text(1, 128)),
});
export type NewMessage = z.output<typeof NewMessage>;
export const MessagePatch = input({ content: content.optional(), meta: patched(meta) });
export type MessagePatch = z.output<typeof MessagePatch>;
export const MessageQuery = input({
  ...paging,
  after_seq: queryInteger(0, MAX_SEQ).optional(),
  before_seq: queryInteger(0, MAX_SEQ).optional(),
  order: z.enum(["asc", "desc"]).optional().describe("Left out: asc when only after_seq is given, else desc"),
  sender_id: commaSeparated(userId).optional(),
  type: commaSeparated(messageType).optional(),
  include_deleted: queryBoolean.default(false),
});
export type MessageQuery = z.output<typeof MessageQuery>;

// Notifications

/** Content and text of a notification together, in bytes. */
const MAX_CONTENT_BYTES = 256 * 1024;
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

const mailSubject = line(255, /[\r\n]/, "must be one line");
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
};

export const NewNotification = z.discriminatedUnion("type", [
  input({
    type: z.literal("email"),
    to_email: orNull(z.union([mailAddress, z.array(mailAddress).min(1).max(MAX_RECIPIENTS)])),
    to: several(input({ email: mailAddress, name: orNull(name) })),
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
    ...ofEveryChannel,
  }),
  input({
    type: z.literal("websocket"),
    user_ids: several(userId),
    recipients: several(userId),
    subject: orNull(text(1, 255)),
    content: contentText,
    ...ofEveryChannel,
  }),
  input({
    type: z.literal("webhook"),
    url: orNull(webhookUrl),
    urls: several(webhookUrl),
    recipients: several(webhookUrl),
    subject: orNull(text(1, 255)),
    content: JsonValueSchema.meta({ description: "Any JSON." }),
    ...ofEveryChannel,
  }),
]);
export type NewNotification = z.output<typeof NewNotification>;

/** A merge patch; what the notification's channel allows is checked with the notification at hand. */
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

/** A URL may have commas in it, and then is the only value. */
const recipients = z
  .string()
  .transform((value) => (/^https?:/i.test(value) ? [value] : value.split(",").map((one) => one.trim())))
  .pipe(z.array(text(1, 2_048)).max(100));

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
});
export type NotificationQuery = z.output<typeof NotificationQuery>;
export const Retry = input({ delivery_ids: orNull(z.array(text(1, 128)).min(1).max(MAX_RETRIED)) });

export const DeliveryParams = z.object({ delivery_id: DeliveryIdSchema });

// Email providers

export const ProviderParams = z.object({
  name: pattern(/^[a-z0-9][a-z0-9_-]{0,63}$/, "of a-z 0-9 _ - and begin with a-z 0-9", 1, 64),
});
export const VerifiedProviderParams = z.object({ name: z.string() });
/** Text that stands in headers, or in a dialogue of lines. */
const headerLine = (max: number) => line(max, /\p{Cc}/u, "must not contain control characters");
export const ProviderInput = input({
  type: z.literal("smtp"),
  config: input({
    host: headerLine(255),
    port: z.int().min(1).max(65_535),
    username: orNull(headerLine(255)),
    password: orNull(headerLine(1_024)),
    security: SmtpSecuritySchema.default("starttls"),
  }),
  from_email: mailAddress,
  from_name: orNull(headerLine(200)),
  reply_to: orNull(mailAddress),
  use_for: orNull(
    z
      .array(ProviderUseSchema)
      .min(1)
      .max(2)
      .transform((given) => [...new Set(given)]),
  ),
  order: z.int().min(0).max(1_000).default(0),
  options: orNull(
    input({
      rate_per_second: orNull(z.number().min(0.01).max(1_000)),
      timeout_seconds: orNull(z.int().min(1).max(45)),
    }),
  ),
});
export type ProviderInput = z.output<typeof ProviderInput>;
export const Verification = input({ to_email: orNull(mailAddress) });

// Audit

export const StreamParams = z.object({ stream: z.string() });
/** `types`: the types of stored events. */
export const auditQuery = <T extends readonly [string, ...string[]]>(types: T) =>
  input({
    ...paging,
    ...created,
    type: commaSeparated(z.enum(types)).optional(),
    after: z.string().optional().meta({ description: "A position: only events after it" }),
    correlation_id: commaSeparated(text(1, 128))
      .optional()
      .meta({ description: "The `X-Request-Id` of the requests that led to them" }),
    room_id: commaSeparated(text(1, 128)).optional().meta({ description: "Events of these rooms" }),
    message_id: MessageIdSchema.optional().meta({
      type: "string",
      description: "The message's posting, edits, deletions and restorings",
    }),
    notification_id: NotificationIdSchema.optional().meta({
      type: "string",
      description: "Events of the notification and of its deliveries",
    }),
    user_id: userId.optional().meta({ description: "What the user did, and what was done to its profile and tokens" }),
    actor: commaSeparated(text(1, 255)).optional().meta({ description: "Ids of keys or users" }),
  });
