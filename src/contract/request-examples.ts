// Examples of what requests send, for the OpenAPI document: the same story as the examples of resources.
import { AT, DELIVERY_ID, endpoint, message, NEXT_DAY } from "./resource-examples.ts";

const { url, events, filter } = endpoint;
const profile = { name: "Alice", email: "alice@example.com", timezone: "Europe/Berlin", meta: { team: "blue" } };

/** By operation, and there by a name that says what is sent. */
export const REQUEST_EXAMPLES: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  createEndpoint: {
    "for all messages": { url, events: ["message.*"] },
    "from an hour ago, in order": { url, events, filter, ordered: true, from: AT },
  },
  changeEndpoint: { "other events": { events: ["room.*"], filter: null } },
  rewindEndpoint: { "to a time": { to: AT } },
  registerClient: { named: { name: "My App" } },
  changeClient: {
    renamed: { name: "My other App", description: null },
    restricted: { policy: { users_create_rooms: false, users_add_members: false } },
  },
  createKey: {
    "that sends notifications": { name: "Sends mail", scopes: ["notifications:read", "notifications:write"] },
    "for a year": { name: "Reports", scopes: ["audit:read"], expires_at: "2027-03-02T00:00:00Z" },
  },
  rotateWebhookSecret: { "with an hour of grace": { grace_seconds: 3_600 } },
  rotateKey: { "at once": { grace_seconds: 0 } },
  putUser: { "a profile": profile },
  changeUser: { "a name, and one key of meta": { name: "Alice B.", meta: { team: null } } },
  putPreferences: {
    "nothing but orders by email, and quiet nights": {
      categories: { orders: { email: true }, "*": { email: false } },
      quiet_hours: { from: "22:00", to: "07:00" },
    },
  },
  mintToken: { "for an hour": { ttl_seconds: 3_600 } },
  createTicket: { "for a user, by a key": { user_id: "alice" } },
  createRoom: {
    private: { name: "Order 4711", external_id: "order-4711", members: [{ user_id: "alice", role: "admin" }] },
    direct: { name: "Alice and Bob", kind: "direct", members: [{ user_id: "alice" }, { user_id: "bob" }] },
  },
  changeRoom: { renamed: { name: "Order 4711, delivered", meta: { plan: null } } },
  putMember: { "with a role": { role: "admin", name: "Alice" } },
  changeMember: { "muted for an hour": { muted_until: "2026-03-01T13:00:00.000Z" } },
  banUser: { "for a week": { until: "2026-03-08T12:00:00.000Z", reason: "Advertising" } },
  putReadMarker: { "up to a message": { seq: 5 } },
  postMessage: {
    text: { sender_id: "alice", content: "The parcel has arrived, thank you!" },
    "in a thread": { sender_id: "alice", content: "@bob Did it?", thread_of: message.id, mentions: ["bob"] },
    "for later": { sender_id: "alice", content: "Happy birthday, Bob!", send_at: "2026-12-24T08:00:00Z" },
    "growing while it is written": { sender_id: "alice", content: "", state: "growing" },
    image: { sender_id: "alice", type: "image", content: "", meta: { url: "https://example.com/parcel.jpg" } },
  },
  addReaction: { "for a user, by a client key": { user_id: "bob" } },
  appendToMessage: { "the next piece": { text: " and it is still warm", offset: 22 } },
  completeMessage: { "with its whole text anew": { content: "The parcel has arrived, and it is still warm." } },
  editScheduledMessage: { "at another time": { send_at: "2026-12-24T18:00:00Z" } },
  editMessage: { text: { content: "The parcel has arrived. Thank you!" } },
  createNotification: {
    email: {
      ...{ type: "email", to_email: "alice@example.com", subject: "Your order is on its way" },
      content: "<p>It arrives on Tuesday.</p>",
    },
    "websocket, else email": {
      ...{ type: "websocket", user_ids: ["alice"], subject: "Lunch?", content: "At noon" },
      email_fallback: { after_seconds: 60 },
    },
    webhook: { type: "webhook", url: "https://example.com/hooks/orders", content: { order: 4711, state: "sent" } },
  },
  createNotifications: {
    "two of them": {
      notifications: [
        { type: "websocket", user_ids: ["alice"], content: "At noon" },
        { type: "email", to_email: "bob@example.com", subject: "Lunch", content: "At noon" },
      ],
    },
  },
  editNotification: { "a later time": { send_at: NEXT_DAY } },
  retryNotification: { "one delivery": { delivery_ids: [DELIVERY_ID] }, "all that failed": {} },
  seeInbox: { "all of it": {} },
  readInbox: { "all of it": {}, "what came before a time": { before: NEXT_DAY } },
  archiveInbox: { "what came before a time": { before: NEXT_DAY } },
  redriveDeliveries: {
    "all of a day to one provider": { provider: "main", from: AT, to: NEXT_DAY },
    "webhooks that timed out": { channel: "webhook", error_code: "timeout", limit: 10_000 },
  },
  putProvider: {
    smtp: {
      type: "smtp",
      config: { host: "smtp.example.com", port: 587, username: "mailer", password: "correct horse" },
      ...{ from_email: "hello@example.com", from_name: "My App" },
    },
    mailgun: {
      type: "mailgun",
      config: { api_key: "3f0c17e2-key", domain: "mail.example.com", region: "eu", webhook_signing_key: "9a71d3f0" },
      from_email: "hello@mail.example.com",
    },
    sendgrid: { type: "sendgrid", config: { api_key: "SG.id.secret" }, from_email: "hello@example.com", order: 1 },
    postmark: {
      type: "postmark",
      config: { server_token: "5b1c8d7e-token", message_stream: "outbound" },
      ...{ from_email: "hello@example.com", from_domains: ["example.org"] },
    },
    ses: {
      type: "ses",
      config: { access_key_id: "AKIAIOSFODNN7EXAMPLE", secret_access_key: "wJalrXUtnFEMI", region: "eu-central-1" },
      ...{ from_email: "hello@example.com", options: { rate_per_second: 14, tags: ["app"] } },
    },
  },
  putSuppression: { "by hand": { reason: "manual" } },
  verifyProvider: { "with a test mail": { to_email: "alice@example.com" } },
};
