// Examples of what answers show, for the OpenAPI document: one story, the same ids throughout, also in what requests send.

import type { AuditEventResource } from "./audit.ts";
import type {
  ClientResource,
  CreatedKeyResource,
  KeyResource,
  RegisteredClientResource,
  RotatedKeyResource,
  WebhookSecretResource,
} from "./clients.ts";
import type { AcceptedRedrive, AnalyticsFigures, DeliveryResource, RedriveResource } from "./deliveries.ts";
import type { EndpointResource, EndpointSecretResource, EndpointTestResource } from "./endpoints.ts";
import { publicEventExample } from "./event-requests.ts";
import type { InboxItemResource } from "./inbox.ts";
import type { FoundMessageResource, MessageResource, ScheduledMessageResource } from "./messages.ts";
import type { NotificationResource } from "./notifications.ts";
import type { PreferencesResource, SuppressionResource } from "./preferences.ts";
import type { ProviderResource } from "./providers.ts";
import type { BanResource, MemberResource, ReadMarkerResource, RoomResource } from "./rooms.ts";
import type { TokenResource, UserResource, UserRoomResource } from "./users.ts";

export const AT = "2026-03-02T09:30:00.000Z";
const LATER = "2026-03-02T09:31:12.480Z";
export const NEXT_DAY = "2026-03-03T09:30:00.000Z";
const IN_A_WEEK = "2026-03-09T09:30:00.000Z";
const ROOM_ID = "room_4kx0v7q2m9t3c8e1w6z5y2b7ha";
const KEY_ID = "key_2m9t3c8e1w6z5y2b7ha4kx0v7q";
const NOTIFICATION_ID = "ntf_9t3c8e1w6z5y2b7ha4kx0v7q2m";
export const DELIVERY_ID = "dlv_c8e1w6z5y2b7ha4kx0v7q2m9t3";
const COMMAND_ID = "5f0c3b1e-8a54-5d0c-9c1b-1d2f3a4b5c6d";
const POSITION = "3f2a9c1d5b7e8a40.00000000000004d2";
const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";

const room: RoomResource = {
  id: ROOM_ID,
  external_id: "order-4711",
  name: "Order 4711",
  description: "Questions about the delivery",
  kind: "private",
  join_role: "member",
  max_members: null,
  posting: "everyone",
  history: "all",
  meta: { plan: "pro" },
  active: true,
  seq: 5,
  member_count: 2,
  message_count: 3,
  created_at: AT,
  updated_at: AT,
};
const ban: BanResource = {
  user_id: "bob",
  until: "2026-03-08T12:00:00.000Z",
  reason: "Advertising",
  banned_at: AT,
  banned_by: { type: "user", id: "alice" },
};
const member: MemberResource = {
  user_id: "alice",
  name: "Alice",
  role: "admin",
  meta: {},
  joined_at: AT,
  muted_until: null,
};
const marker: ReadMarkerResource = {
  room_id: ROOM_ID,
  user_id: "alice",
  read_seq: 4,
  delivered_seq: 5,
  unread_count: 1,
  mention_count: 0,
};
export const message: MessageResource = {
  id: "msg_01kjx9d2pz5y2b7h0000005",
  room_id: ROOM_ID,
  seq: 5,
  sender_id: "alice",
  sender_name: "Alice",
  type: "text",
  content: "The parcel has arrived, thank you!",
  meta: {},
  reply_to: null,
  thread_of: null,
  state: "complete",
  mentions: ["bob"],
  thread: null,
  reactions: [{ emoji: "👍", count: 1, user_ids: ["bob"] }],
  created_at: LATER,
  edited_at: null,
  edited_by: null,
  deleted_at: null,
};
const foundMessage: FoundMessageResource = {
  message,
  score: 0.024,
  highlight: "The <mark>parcel</mark> has arrived, thank you!",
};
const scheduledMessage: ScheduledMessageResource = {
  id: "sch_7q2m9t3c8e1w6z5y2b7ha4kx0v",
  room_id: ROOM_ID,
  sender_id: "alice",
  type: "text",
  content: "Happy birthday, Bob!",
  meta: {},
  reply_to: null,
  thread_of: null,
  mentions: ["bob"],
  send_at: LATER,
  status: "scheduled",
  message_id: null,
  reason: null,
  created_at: AT,
};
const user: UserResource = {
  id: "alice",
  name: "Alice",
  email: "alice@example.com",
  timezone: "Europe/Berlin",
  meta: { team: "blue" },
  created_at: AT,
  updated_at: AT,
};
const preferences: PreferencesResource = {
  categories: { orders: { email: true, websocket: true }, "*": { email: false, websocket: null } },
  quiet_hours: { from: "22:00", to: "07:00", days: ["mon", "tue", "wed", "thu", "sun"], timezone: "Europe/Berlin" },
};
const userRoom: UserRoomResource = {
  room,
  role: "admin",
  seq: 5,
  read_seq: 4,
  delivered_seq: 5,
  unread_count: 1,
  mention_count: 0,
  last_message: message,
};
const token: TokenResource = { token: "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJhbGljZSJ9.4kx0v7q2m9t3c8e1", expires_at: LATER };
const client: RegisteredClientResource = {
  id: "cli_w6z5y2b7ha4kx0v7q2m9t3c8e1",
  name: "My App",
  description: null,
  api_key: "ck_2vUq7mXc9LrT4bNfY8sKdW1hGjP6aZeQ3xRoM5iBtCyDuVnE0wS",
  webhook_secret: SECRET,
  created_at: AT,
};
const key: KeyResource = {
  id: KEY_ID,
  name: "Sends mail",
  last4: "E0wS",
  scopes: ["notifications:read", "notifications:write"],
  created_at: AT,
  expires_at: null,
  last_used_at: "2026-03-02T09:00:00.000Z",
};
const createdKey: CreatedKeyResource = { ...key, api_key: client.api_key };
const ownClient: ClientResource = {
  id: client.id,
  name: client.name,
  description: null,
  policy: { users_create_rooms: true, users_add_members: false, users_join_public_rooms: true },
  mode: "production",
  email: { configured: true, providers: ["main"] },
  key,
  created_at: AT,
};
const webhookSecret: WebhookSecretResource = {
  webhook_secret: SECRET,
  previous: { webhook_secret: SECRET.replace("Mf", "Kq"), expires_at: NEXT_DAY },
};
const rotatedKey: RotatedKeyResource = {
  ...createdKey,
  previous: { id: "key_1w6z5y2b7ha4kx0v7q2m9t3c8e", expires_at: NEXT_DAY },
};
const provider: ProviderResource = {
  name: "main",
  type: "smtp",
  config: {
    ...{ host: "smtp.example.com", port: 587, username: "mailer", password: { set: true }, security: "starttls" },
    dkim: null,
  },
  from_email: "hello@example.com",
  from_name: "My App",
  from_domains: [],
  reply_to: null,
  use_for: ["single", "bulk"],
  order: 0,
  events_url: null,
  options: {
    ...{ rate_per_second: null, timeout_seconds: null, weight: null, return_path: null, tags: [] },
    ...{ track_opens: null, track_clicks: null },
  },
  health: { state: "up", since: AT, last_error: null },
};
const suppression: SuppressionResource = {
  email: "former@example.com",
  reason: "bounced",
  category: null,
  delivery_id: DELIVERY_ID,
  created_at: LATER,
};
const delivery: DeliveryResource = {
  id: DELIVERY_ID,
  notification_id: NOTIFICATION_ID,
  source: null,
  channel: "email",
  recipient: "alice@example.com",
  status: "sent",
  fallback_of: null,
  attempt_count: 1,
  next_attempt_at: null,
  held_until: null,
  sent_at: LATER,
  delivered_at: null,
  read_at: null,
  opened_at: null,
  provider: "main",
  provider_message_id: "250 2.0.0 Ok: queued as 4F1B2",
  error: null,
  attempts: [
    {
      ...{ number: 1, started_at: AT, ended_at: LATER, outcome: "succeeded", provider: "main" },
      response: { status: 250, body: "2.0.0 Ok: queued as 4F1B2" },
      ...{ error: null, next_attempt_at: null },
    },
  ],
};
const { deliveries: _deliveries, ...notificationFields } = {
  id: NOTIFICATION_ID,
  type: "email",
  status: "sent",
  room_id: null,
  subject: "Your order is on its way",
  content: "<p>It arrives on Tuesday.</p>",
  meta: { order: 4711 },
  priority: "normal",
  category: "orders",
  tag: "order-shipped",
  attachments: [{ filename: "invoice.pdf", content_type: "application/pdf", size: 48_213, content_id: null }],
  email_fallback: null,
  send_at: null,
  expires_at: IN_A_WEEK,
  created_at: AT,
  updated_at: LATER,
  deliveries: [delivery],
  deliveries_total: 1,
} satisfies NotificationResource;
const inboxItem: InboxItemResource = {
  ...{ id: NOTIFICATION_ID, delivery_id: DELIVERY_ID, subject: "Lunch?", content: "At noon", meta: {} },
  ...{ priority: "normal", category: "social", room_id: null, created_at: AT },
  ...{ seen_at: LATER, read_at: null, archived_at: null },
};
const figures: AnalyticsFigures = {
  ...{ requested: 1_000, sent: 960, delivered: 940, opened: 410, bounced: 12, complained: 1, failed: 8 },
  ...{ suppressed: 20, fell_back: 0, cancelled: 0, delivery_rate: 0.98, p50_seconds: 0.4, p95_seconds: 2.1 },
};
const acceptedRedrive: AcceptedRedrive = { job_id: "rdr_t3c8e1w6z5y2b7ha4kx0v7q2m9", matched: 4_211 };
const redrive: RedriveResource = {
  ...{ id: acceptedRedrive.job_id, status: "running", matched: acceptedRedrive.matched, done: 2_600 },
  ...{ created_at: AT, finished_at: null },
};
const auditEvent: AuditEventResource = {
  id: "0b6f5b0e-2f5c-5d8e-9a51-7d1c2b3a4f5e",
  type: "MessagePosted",
  stream: `room-${ROOM_ID}`,
  revision: 4,
  position: POSITION,
  at: LATER,
  actor: { type: "user", id: "alice" },
  correlation_id: "req-8f3a",
  causation_id: COMMAND_ID,
  data: { id: message.id, type: "text", content: message.content },
};
export const endpoint: EndpointResource = {
  id: "whk_6z5y2b7ha4kx0v7q2m9t3c8e1w",
  url: "https://example.com/hooks/chat",
  events: ["message.*", "delivery.bounced"],
  room_ids: null,
  filter: { "data.type": { $in: ["text"] } },
  description: "The order service",
  headers: { "X-Team": { set: true } },
  ordered: true,
  rate_per_second: 50,
  timeout_seconds: 15,
  retry_schedule: ["5s", "2m", "1h"],
  status: "active",
  position: "c3VjaCBhIG5pY2UgZGF5IQ",
  lag_events: 0,
  lag_seconds: 0,
  last_success_at: LATER,
  last_failure: null,
  created_at: AT,
};
const endpointSecret: EndpointSecretResource = {
  secret: SECRET,
  previous: { secret: SECRET, expires_at: NEXT_DAY },
};
const EVENT_ID = "evt_5f0c3b1e8a545d0c9c1b1d2f3a4b5c6d";
const endpointTest: EndpointTestResource = { event_id: EVENT_ID, delivery_id: DELIVERY_ID };

/** By the name of the resource's schema. */
export const RESOURCE_EXAMPLES: Readonly<Record<string, unknown>> = {
  WebhookEndpoint: endpoint,
  CreatedWebhookEndpoint: { ...endpoint, secret: SECRET },
  WebhookEndpointSecret: endpointSecret,
  WebhookEndpointTest: endpointTest,
  Room: room,
  Member: member,
  Ban: ban,
  ReadMarker: marker,
  Message: message,
  FoundMessage: foundMessage,
  ScheduledMessage: scheduledMessage,
  MessageVersion: {
    ...{ event: "message.edited", content: message.content, meta: {}, at: LATER },
    actor: { type: "user", id: "alice" },
  },
  Reaction: { emoji: "👍", user_id: "bob", created_at: LATER },
  Presence: { user_id: "bob", online: true, since: LATER, last_seen_at: LATER, devices: 2 },
  User: user,
  UserRoom: userRoom,
  Preferences: preferences,
  Token: token,
  RegisteredClient: client,
  Client: ownClient,
  WebhookSecret: webhookSecret,
  RotatedKey: rotatedKey,
  Key: key,
  CreatedKey: createdKey,
  EmailProvider: provider,
  ProviderVerdict: { ok: true, stage: "auth", code: null, message: null },
  Suppression: suppression,
  Delivery: delivery,
  Notification: { ...notificationFields, deliveries: [delivery] },
  BatchItem: { index: 0, status: 202, body: { ...notificationFields, deliveries: [delivery] } },
  NotificationSummary: { ...notificationFields, delivery_counts: { sent: 1 } },
  InboxItem: inboxItem,
  InboxCounts: { unread_count: 1, unseen_count: 0 },
  AnalyticsFigures: figures,
  AnalyticsReport: { data: [{ day: "2026-03-02T00:00:00.000Z", ...figures }], totals: figures },
  AcceptedRedrive: acceptedRedrive,
  Redrive: redrive,
  AuditEvent: auditEvent,
  PublicEvent: publicEventExample(EVENT_ID, message),
  Ticket: { ticket: "tkt_Zm9yLXRoZS1leGFtcGxlLW9ubHktbm90LXJlYWwtYXQtYWw", expires_at: LATER },
};
