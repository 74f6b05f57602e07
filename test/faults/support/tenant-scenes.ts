// What is sent to each route by who has no right to what it names, and who of them is let in all the same, and why.

export type Scene = {
  /** One that the owner could send: so that it is the ids that decide. */
  readonly body?: object;
  /** What everybody asks. */
  readonly query?: string;
  /** What a key sends beside, to say for whom. */
  readonly byKey?: { readonly body?: object; readonly query?: string };
  /**
   * Who may, and with what: by its id, together with what is one's own. Users and providers are names: each client has
   * its own under the same one.
   */
  readonly may?: readonly string[];
};

const SEES_ROOMS = ["an outsider: public room", "a reader: public room", "a reader: private room"];
const ADDS = ["another client's key: user", "another client's user: user", "an outsider: user"];
/** A client may name a user as it likes: its own, or nobody. */
const OWN_INBOX = ["another client's key: user"];
const JOINS = SEES_ROOMS;
const READS = ["a reader: private room"];
const READS_MESSAGES = [
  ...READS,
  "a reader: message in the private room",
  "a reader: growing message in the private room",
];

/** By method and path. A route that is not here fails the test, and so does what is here and is no route. */
export const SCENES: Readonly<Record<string, Scene>> = {
  "GET /clients/me": {},
  "PATCH /clients/me": { body: {} },
  "GET /clients/me/webhook-secret": {},
  "POST /clients/me/webhook-secret/rotate": { body: { grace_seconds: 60 } },
  "POST /clients/me/keys": { body: { name: "Another", scopes: ["rooms:read"] } },
  "GET /clients/me/keys": {},
  "GET /clients/me/keys/:key_id": {},
  "DELETE /clients/me/keys/:key_id": {},
  "POST /clients/me/keys/:key_id/rotate": { body: { grace_seconds: 60 } },

  "PUT /users/:user_id": { body: { name: "Another" }, may: ["another client's key: user"] },
  "PATCH /users/:user_id": { body: { name: "Another" } },
  "GET /users/:user_id": {},
  "GET /users": {},
  "GET /users/:user_id/preferences": {},
  "PUT /users/:user_id/preferences": { body: {}, may: ["another client's key: user"] },
  "GET /users/:user_id/rooms": {},
  "GET /users/:user_id/presence": {},
  "POST /users/:user_id/tokens": { body: {}, may: ["another client's key: user"] },
  "DELETE /users/:user_id/tokens": { may: ["another client's key: user"] },

  "POST /rooms": { body: { name: "Mine" } },
  "GET /rooms": {},
  "GET /rooms/:room_id": { may: SEES_ROOMS },
  "PATCH /rooms/:room_id": { body: { name: "Mine" } },
  "DELETE /rooms/:room_id": {},
  "POST /rooms/:room_id/deactivate": { body: {} },
  "POST /rooms/:room_id/activate": { body: {} },
  "PUT /rooms/:room_id/members/:user_id": { body: {}, may: [...ADDS, ...JOINS] },
  "PATCH /rooms/:room_id/members/:user_id": { body: { muted_until: "2099-01-01" } },
  "DELETE /rooms/:room_id/members/:user_id": { may: [...ADDS, ...JOINS] },
  "GET /rooms/:room_id/members": { may: READS },
  "GET /rooms/:room_id/presence": { may: READS },
  "POST /rooms/:room_id/bans/:user_id": { body: {}, may: ADDS },
  "DELETE /rooms/:room_id/bans/:user_id": { may: ADDS },
  "GET /rooms/:room_id/bans": {},
  "GET /messages/search": { query: "?q=message" },
  "POST /rooms/:room_id/messages": { body: { content: "Let me in" }, byKey: { body: { sender_id: "eve" } } },
  "GET /rooms/:room_id/messages": { may: READS },
  "GET /rooms/:room_id/messages/:message_id": { may: READS_MESSAGES },
  "PATCH /rooms/:room_id/messages/:message_id": { body: { content: "Changed" } },
  "DELETE /rooms/:room_id/messages/:message_id": {},
  "POST /rooms/:room_id/messages/:message_id/restore": { body: {} },
  "POST /rooms/:room_id/messages/:message_id/append": {
    // What it begins with: its writer may send that again.
    body: { text: "a", offset: 0 },
  },
  "POST /rooms/:room_id/messages/:message_id/complete": { body: {} },
  "POST /rooms/:room_id/messages/:message_id/cancel": { body: {} },
  "GET /rooms/:room_id/messages/:message_id/history": { may: READS_MESSAGES },
  "GET /rooms/:room_id/messages/:message_id/replies": { may: READS_MESSAGES },
  "GET /rooms/:room_id/scheduled-messages": { may: READS },
  "GET /rooms/:room_id/scheduled-messages/:scheduled_id": {},
  "PATCH /rooms/:room_id/scheduled-messages/:scheduled_id": { body: { content: "Changed" } },
  "DELETE /rooms/:room_id/scheduled-messages/:scheduled_id": {},
  "POST /rooms/:room_id/scheduled-messages/:scheduled_id/send-now": { body: {} },
  "PUT /rooms/:room_id/messages/:message_id/reactions/:emoji": { body: {}, byKey: { body: { user_id: "eve" } } },
  "DELETE /rooms/:room_id/messages/:message_id/reactions/:emoji": { byKey: { query: "?user_id=eve" } },
  "GET /rooms/:room_id/messages/:message_id/reactions": { may: READS_MESSAGES },
  "PUT /rooms/:room_id/reads/:user_id": { body: { seq: 1 }, may: READS },
  "GET /rooms/:room_id/reads": { may: READS },

  "POST /notifications": { body: { type: "websocket", user_ids: ["eve"], content: "Hello" } },
  "POST /notifications/batch": {
    body: { notifications: [{ type: "websocket", user_ids: ["eve"], content: "Hello" }] },
  },
  "GET /notifications": {},
  "GET /notifications/:notification_id": {},
  "GET /notifications/:notification_id/timeline": {},
  "POST /notifications/:notification_id/cancel": { body: {} },
  "DELETE /notifications/:notification_id": {},
  "PATCH /notifications/:notification_id": { body: { subject: "Changed" } },
  "POST /notifications/:notification_id/retry": { body: {} },
  "POST /deliveries/:delivery_id/ack": { body: {} },
  "GET /deliveries": {},
  "GET /deliveries/:delivery_id": {},
  "GET /deliveries/:delivery_id/timeline": {},
  "POST /deliveries/:delivery_id/redrive": { body: {} },
  "POST /deliveries/redrive": { body: {} },
  "GET /redrives/:job_id": {},
  "GET /notifications/analytics": {},
  "GET /users/:user_id/notifications": { may: OWN_INBOX },
  "POST /users/:user_id/notifications/:notification_id/read": { body: {} },
  "POST /users/:user_id/notifications/:notification_id/unread": { body: {} },
  "POST /users/:user_id/notifications/:notification_id/archive": { body: {} },
  "POST /users/:user_id/notifications/:notification_id/unarchive": { body: {} },
  "POST /users/:user_id/notifications/seen": { body: {}, may: OWN_INBOX },
  "POST /users/:user_id/notifications/read-all": { body: {}, may: OWN_INBOX },
  "POST /users/:user_id/notifications/archive-all": { body: {}, may: OWN_INBOX },

  "PUT /email-providers/:name": {
    may: ["another client's key: provider"],
    body: { type: "smtp", config: { host: "127.0.0.1", port: 1, security: "none" }, from_email: "a@example.com" },
  },
  "GET /email-providers": {},
  "GET /email-providers/:name": {},
  "DELETE /email-providers/:name": {},
  "POST /email-providers/:name/verify": { body: {} },

  "GET /suppressions": {},
  "GET /suppressions/:email": {},
  "PUT /suppressions/:email": { body: { reason: "manual" }, may: ["another client's key: address"] },
  "DELETE /suppressions/:email": {},
  "POST /webhooks": { body: { url: "http://127.0.0.1:8099/hook", events: ["provider.*"] } },
  "GET /webhooks": {},
  "GET /webhooks/:endpoint_id": {},
  "PATCH /webhooks/:endpoint_id": { body: { description: "Changed" } },
  "DELETE /webhooks/:endpoint_id": {},
  "GET /webhooks/:endpoint_id/secret": {},
  "POST /webhooks/:endpoint_id/rotate-secret": { body: {} },
  "POST /webhooks/:endpoint_id/test": { body: {} },
  "POST /webhooks/:endpoint_id/pause": { body: {} },
  "POST /webhooks/:endpoint_id/resume": { body: {} },
  "POST /webhooks/:endpoint_id/rewind": { body: { to: "2026-01-01" } },
  "GET /webhooks/:endpoint_id/deliveries": {},
  "POST /webhooks/:endpoint_id/deliveries/:webhook_delivery_id/retry": { body: {} },

  "GET /events": {},
  "GET /users/:user_id/events": {},
  "POST /tickets": { body: {} },
  "GET /rooms/:room_id/events": { may: READS },
  "GET /audit/events": {},
  "GET /audit/streams/:stream/events": {},
};
