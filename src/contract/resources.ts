// What answers show, one schema a resource. The names of the schemas are those of the OpenAPI document.
import { z } from "zod";

/** A time in an answer. */
export const time = z.string().meta({ format: "date-time" });
const anyObject = z.record(z.string(), z.unknown());

/** The body of a list. */
export const listBody = <T extends z.ZodType>(item: T) =>
  z.object({ data: z.array(item), next_cursor: z.string().nullable() });

/** Who acts. */
export const ActorTypeSchema = z.enum(["key", "user", "system", "operator"]);

// Rooms

export const RoleSchema = z.enum(["reader", "member", "admin", "owner"]);
export type Role = z.infer<typeof RoleSchema>;
/** What joining by oneself may give. */
export const JoinRoleSchema = z.enum(["member", "reader"]);
export const RoomKindSchema = z.enum(["private", "public", "direct"]);
export type RoomKind = z.infer<typeof RoomKindSchema>;

export const RoomResource = z
  .object({
    id: z.string(),
    external_id: z.string().nullable(),
    name: z.string().nullable().describe("null in a direct room that was given none"),
    description: z.string().nullable(),
    kind: RoomKindSchema,
    join_role: JoinRoleSchema.describe("The role of a user who joins a public room by itself"),
    meta: anyObject,
    active: z.boolean(),
    seq: z.int().describe("The seq of the room's last event"),
    member_count: z.int(),
    message_count: z.int().describe("Messages that are not deleted"),
    created_at: time,
    updated_at: time,
  })
  .meta({ id: "Room" });
export type RoomResource = z.infer<typeof RoomResource>;

export const MemberResource = z
  .object({
    user_id: z.string().nullable().describe("null when the person was erased"),
    name: z.string().nullable().describe("The name in this room, else the user's own"),
    role: RoleSchema,
    meta: anyObject,
    joined_at: time,
  })
  .meta({ id: "Member" });
export type MemberResource = z.infer<typeof MemberResource>;

export const ReadMarkerResource = z
  .object({
    room_id: z.string(),
    user_id: z.string().nullable(),
    read_seq: z.int(),
    unread_count: z.int(),
  })
  .meta({ id: "ReadMarker" });
export type ReadMarkerResource = z.infer<typeof ReadMarkerResource>;

export const MessageResource = z
  .object({
    id: z.string(),
    room_id: z.string(),
    seq: z.int().describe("The seq of its posting"),
    sender_id: z.string().nullable().describe("null when the person was erased"),
    sender_name: z.string().nullable(),
    type: z.string(),
    content: z.string().nullable().describe("null when it was deleted or the person erased"),
    meta: anyObject,
    reply_to: z.string().nullable(),
    created_at: time,
    edited_at: time.nullable(),
    deleted_at: time.nullable(),
  })
  .meta({ id: "Message" });
export type MessageResource = z.infer<typeof MessageResource>;

// Users

export const UserResource = z
  .object({
    id: z.string().nullable().describe("The client's own id; null when the person was erased"),
    name: z.string().nullable(),
    email: z.string().nullable(),
    timezone: z.string().nullable(),
    meta: anyObject,
    created_at: time,
    updated_at: time,
  })
  .meta({ id: "User" });
export type UserResource = z.infer<typeof UserResource>;

export const UserRoomResource = z
  .object({
    room: RoomResource,
    role: RoleSchema,
    seq: z.int().describe("The seq of the room's last event"),
    read_seq: z.int(),
    unread_count: z.int(),
    last_message: MessageResource.nullable(),
  })
  .meta({ id: "UserRoom" });
export type UserRoomResource = z.infer<typeof UserRoomResource>;

export const UserRoomList = listBody(UserRoomResource).extend({ unread_total: z.int().describe("Over all rooms") });

export const TokenResource = z.object({ token: z.string().describe("A JWT"), expires_at: time }).meta({ id: "Token" });
export type TokenResource = z.infer<typeof TokenResource>;

// Clients and their keys

const client = { id: z.string(), name: z.string(), description: z.string().nullable() };
const shownOnce = z.string().nullable().describe("Shown this once; null in a replay");

export const RegisteredClientResource = z
  .object({
    ...client,
    api_key: shownOnce,
    webhook_secret: z.string().describe("Signs webhooks: whsec_ and base64 of 32 bytes"),
    created_at: time,
  })
  .meta({ id: "RegisteredClient" });
export type RegisteredClientResource = z.infer<typeof RegisteredClientResource>;

export const ClientResource = z
  .object({
    ...client,
    mode: z.enum(["development", "production"]),
    email: z.object({
      configured: z.boolean().describe("Whether there is a provider"),
      providers: z.array(z.string()).describe("Their names"),
    }),
    key: z
      .object({ id: z.string(), name: z.string(), last4: z.string(), created_at: time })
      .describe("The key that asked"),
    created_at: time,
  })
  .meta({ id: "Client" });
export type ClientResource = z.infer<typeof ClientResource>;

export const WebhookSecretResource = z
  .object({
    webhook_secret: z.string(),
    previous: z
      .object({ webhook_secret: z.string(), expires_at: time })
      .nullable()
      .describe("The one before, which also signs until then"),
  })
  .meta({ id: "WebhookSecret" });
export type WebhookSecretResource = z.infer<typeof WebhookSecretResource>;

export const RotatedKeyResource = z
  .object({
    id: z.string(),
    name: z.string(),
    api_key: shownOnce,
    last4: z.string(),
    created_at: time,
    expires_at: time.nullable(),
    previous: z.object({ id: z.string(), expires_at: time }).describe("The old key, which works until then"),
  })
  .meta({ id: "RotatedKey" });
export type RotatedKeyResource = z.infer<typeof RotatedKeyResource>;

// Email providers

export const SmtpSecuritySchema = z.enum(["starttls", "tls", "none"]);
export const ProviderUseSchema = z.enum(["single", "bulk"]);

export const ProviderResource = z
  .object({
    name: z.string(),
    type: z.literal("smtp"),
    config: z.object({
      host: z.string().nullable(),
      port: z.int().nullable(),
      username: z.string().nullable(),
      password: z
        .object({ set: z.literal(true) })
        .nullable()
        .describe("Whether there is one; never the password"),
      security: SmtpSecuritySchema.nullable(),
    }),
    from_email: z.string(),
    from_name: z.string().nullable(),
    reply_to: z.string().nullable(),
    use_for: z.array(ProviderUseSchema),
    order: z.int(),
    options: z.object({ rate_per_second: z.number().nullable(), timeout_seconds: z.number().nullable() }),
  })
  .meta({ id: "EmailProvider" });
export type ProviderResource = z.infer<typeof ProviderResource>;

export const ProviderVerdict = z
  .object({
    ok: z.boolean(),
    stage: z
      .enum(["resolve", "connect", "tls", "auth", "send"])
      .describe("The last one passed, or the one that failed"),
    code: z.string().nullable(),
    message: z.string().nullable().describe("At most 200 characters"),
  })
  .meta({ id: "ProviderVerdict" });
export type ProviderVerdict = z.infer<typeof ProviderVerdict>;

// Notifications and their deliveries

export const ChannelSchema = z.enum(["email", "websocket", "webhook"]);
export type Channel = z.infer<typeof ChannelSchema>;
/** What the content of a mail is. */
export const ContentTypeSchema = z.enum(["html", "text"]);

export const PrioritySchema = z.enum(["low", "normal", "high", "critical"]);
export type Priority = z.infer<typeof PrioritySchema>;

export const DeliveryStatusSchema = z.enum([
  "pending",
  "sending",
  "retrying",
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
export type DeliveryStatus = z.infer<typeof DeliveryStatusSchema>;

export const NotificationStatusSchema = z.enum([
  "scheduled",
  "pending",
  "processing",
  "delivered",
  "sent",
  "partial",
  "cancelled",
  "expired",
  "failed",
]);
export type NotificationStatus = z.infer<typeof NotificationStatusSchema>;

/** What an attempt came to; `unknown` when its worker was lost. */
const AttemptOutcomeSchema = z.enum(["succeeded", "transient", "permanent", "unknown"]);
export type AttemptOutcome = z.infer<typeof AttemptOutcomeSchema>;

/** Why a delivery or attempt failed; `message` may quote what a server said. */
const DeliveryError = z.object({ code: z.string(), message: z.string() });
export type DeliveryError = z.infer<typeof DeliveryError>;

const AttemptResource = z
  .object({
    number: z.int().describe("From 1; starting again counts on"),
    started_at: time,
    ended_at: time.nullable(),
    outcome: AttemptOutcomeSchema.nullable().describe("null while it is under way; unknown when its worker was lost"),
    provider: z.string().nullable(),
    response: z
      .object({ status: z.int().nullable(), body: z.string() })
      .nullable()
      .describe("What the target answered, the first KiB of it"),
    error: DeliveryError.nullable(),
    next_attempt_at: time.nullable(),
  })
  .meta({ id: "Attempt" });
export type AttemptResource = z.infer<typeof AttemptResource>;

export const DeliveryResource = z
  .object({
    id: z.string(),
    notification_id: z.string(),
    channel: ChannelSchema,
    recipient: z
      .string()
      .nullable()
      .describe("A mail address, user id or URL; null when there is none or it was erased"),
    status: DeliveryStatusSchema,
    fallback_of: z.string().nullable().describe("The WebSocket delivery that this mail stands in for"),
    attempt_count: z.int(),
    next_attempt_at: time.nullable(),
    sent_at: time.nullable(),
    delivered_at: time.nullable(),
    read_at: time.nullable(),
    provider: z.string().nullable(),
    provider_message_id: z.string().nullable(),
    error: DeliveryError.nullable(),
    attempts: z.array(AttemptResource),
  })
  .meta({ id: "Delivery" });
export type DeliveryResource = z.infer<typeof DeliveryResource>;

/** Deliveries that an answer about one notification shows. */
export const SHOWN_DELIVERIES = 100;

const notification = {
  id: z.string(),
  type: ChannelSchema,
  status: NotificationStatusSchema,
  room_id: z.string().nullable(),
  subject: z.string().nullable(),
  content: z.unknown().describe("Text, or any JSON for a webhook; null when it was erased"),
  meta: anyObject,
  priority: PrioritySchema,
  category: z.string().nullable(),
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

// Audit

export const AuditEventResource = z
  .object({
    id: z.string(),
    type: z.string().describe("The stored type, such as MessagePosted"),
    stream: z.string(),
    revision: z.int(),
    position: z.string(),
    at: time,
    actor: z.object({
      type: ActorTypeSchema,
      id: z.string().describe("A user's own id as long as it is known, else the subject"),
    }),
    correlation_id: z.string(),
    causation_id: z.string(),
    data: z.record(z.string(), z.unknown()).describe('Secrets read {"sealed": true}, what was erased {"erased": true}'),
  })
  .meta({ id: "AuditEvent" });
export type AuditEventResource = z.infer<typeof AuditEventResource>;
