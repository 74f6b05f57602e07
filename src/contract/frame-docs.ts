// Frames of sockets in words and by example, for the AsyncAPI document: the same story as the examples of resources.
import { AT, DELIVERY_ID, message, RESOURCE_EXAMPLES } from "./resource-examples.ts";

/** What a client sends. `answers`: the frames of the server that may answer it, beside `error`. */
export type ClientFrameDoc = {
  readonly summary: string;
  readonly description: string;
  readonly example: object;
  readonly answers: readonly string[];
};

/** What the server sends. */
type ServerFrameDoc = { readonly description: string; readonly example: object };

const { id: message_id, room_id } = message;
const content = "The parcel has arrived, thank you!";
const ref = "r1";
const position = "Zm9yLXRoZS1leGFtcGxlLQ";
const cursor = position;
const userRoom = RESOURCE_EXAMPLES.UserRoom;

/** What clients send, by type. */
export const CLIENT_FRAME_DOCS: Readonly<Record<string, ClientFrameDoc>> = {
  auth: {
    summary: "Authenticate, or extend the connection",
    description:
      "The first frame, within five seconds, of a connection without a credential in its header or query. Later, with a token of the same user, it extends the connection.",
    example: { type: "auth", ref, token: "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJhbGljZSJ9.4kx0v7q2m9t3c8e1" },
    answers: ["welcome", "authenticated"],
  },
  subscribe: {
    summary: "Subscribe to rooms",
    description:
      "One room in `room_id`, or up to 100 in `rooms`, each answered by itself. With `after_seq` each event after it comes once and in order, then `caught_up`; without it only what happens from now on.",
    example: { type: "subscribe", ref, room_id, after_seq: 3 },
    answers: ["subscribed", "event", "caught_up"],
  },
  unsubscribe: {
    summary: "End a subscription",
    description: "No event of the room comes after the answer.",
    example: { type: "unsubscribe", ref, room_id },
    answers: ["unsubscribed"],
  },
  read: {
    summary: "Mark a room as read",
    description: "Up to a `seq`. All sockets of the room are sent the marker.",
    example: { type: "read", ref, room_id, seq: 5 },
    answers: ["ok"],
  },
  ack: {
    summary: "Acknowledge a notification",
    description: "Once the person has seen it. The user's other sockets are sent `acked`.",
    example: { type: "ack", ref, delivery_id: DELIVERY_ID },
    answers: ["ok"],
  },
  ping: {
    summary: "Ask for a sign of life",
    description: "Any frame shows the server that the client is there; this one does nothing else.",
    example: { type: "ping", ref },
    answers: ["pong"],
  },
  typing: {
    summary: "Show that the user types",
    description: "Ends by itself after 6 seconds, or with the socket. Never stored.",
    example: { type: "typing", ref, room_id, active: true },
    answers: ["ok"],
  },
  presence: {
    summary: "Watch who is online in a room",
    description: "Who is there now, then whoever comes or goes. `active: false` ends it, and is answered with `ok`.",
    example: { type: "presence", ref, room_id, active: true },
    answers: ["presence", "ok"],
  },
  post: {
    summary: "Post a message",
    description: "With the fields of `POST /rooms/{room_id}/messages`; the message's type is `message_type`.",
    example: { type: "post", ref, room_id, content, idempotency_key: "parcel-arrived" },
    answers: ["ok"],
  },
  edit: {
    summary: "Edit a message",
    description: "With the fields of `PATCH /rooms/{room_id}/messages/{message_id}`.",
    example: { type: "edit", ref, room_id, message_id, content: "The parcel has arrived." },
    answers: ["ok"],
  },
  delete: {
    summary: "Delete a message",
    description: "To delete it again changes nothing.",
    example: { type: "delete", ref, room_id, message_id },
    answers: ["ok"],
  },
  restore: {
    summary: "Restore a deleted message",
    description: "As `POST /rooms/{room_id}/messages/{message_id}/restore` does.",
    example: { type: "restore", ref, room_id, message_id, idempotency_key: "restore-1" },
    answers: ["ok"],
  },
  append: {
    summary: "Append to a message that grows",
    description:
      "Adds `text` at `offset`, the message's length in code points. The same text sent again changes nothing; other text there, or a gap, is refused: `offset_mismatch`, with `expected`.",
    example: { type: "append", ref, room_id, message_id, text: " And undamaged.", offset: 23 },
    answers: ["ok"],
  },
  complete: {
    summary: "Complete a message that grows",
    description: "It is a message like any other from then on. `content` replaces what has grown.",
    example: { type: "complete", ref, room_id, message_id },
    answers: ["ok"],
  },
  cancel: {
    summary: "Cancel a message that grows",
    description: "It keeps what has grown so far, and grows no more.",
    example: { type: "cancel", ref, room_id, message_id },
    answers: ["ok"],
  },
  react: {
    summary: "React to a message",
    description: "As `PUT …/reactions/{emoji}` does. To react in the same way again changes nothing.",
    example: { type: "react", ref, room_id, message_id, emoji: "👍" },
    answers: ["ok"],
  },
  unreact: {
    summary: "Take a reaction back",
    description: "As `DELETE …/reactions/{emoji}` does.",
    example: { type: "unreact", ref, room_id, message_id, emoji: "👍" },
    answers: ["ok"],
  },
  delivered: {
    summary: "Mark messages as received by the device",
    description: "Up to a `seq`. All sockets of the room are sent the marker, at most one a second and user.",
    example: { type: "delivered", ref, room_id, seq: 5 },
    answers: ["ok"],
  },
  follow: {
    summary: "Follow everything of the user",
    description:
      "Every room that the user is in, on one cursor. Without `after` it begins with the list of rooms; with it, with what was missed since that cursor, or with the list again when that is too long ago.",
    example: { type: "follow", ref, limit: 50 },
    answers: ["inbox", "following"],
  },
  unfollow: {
    summary: "End following",
    description: "Subscriptions to single rooms stay.",
    example: { type: "unfollow", ref },
    answers: ["unfollowed"],
  },
};

/** What the server sends, by type; events say themselves when they come. */
export const SERVER_FRAME_DOCS: Readonly<Record<string, ServerFrameDoc>> = {
  welcome: {
    description: "The connection is authenticated. Open notifications follow, oldest first.",
    example: { type: "welcome", connection_id: "conn_5f0c3b1e", user_id: "alice", heartbeat_seconds: 25, ref },
  },
  authenticated: {
    description: "The connection holds until the new token ends.",
    example: { type: "authenticated", expires_at: AT, ref },
  },
  subscribed: {
    description: "Events of the room come from now on. `seq` is the room's last.",
    example: { type: "subscribed", room_id, seq: 5, ref },
  },
  caught_up: {
    description: "Every event that was missed has been sent.",
    example: { type: "caught_up", room_id, seq: 5 },
  },
  unsubscribed: {
    description: "The subscription has ended, on request or for what became of the membership or the room.",
    example: { type: "unsubscribed", room_id, reason: "removed" },
  },
  growing: {
    description: "A message grows: from `offset` on, in code points, it has `text`.",
    example: { type: "growing", room_id, seq: 5, id: message_id, text: " And undamaged.", offset: 23 },
  },
  delivered: {
    description: "A member's device has the room's messages up to `seq`.",
    example: { type: "delivered", room_id, seq: 5, user_id: "alice", at: AT },
  },
  inbox: {
    description:
      "The user's rooms, newest activity first, as far as `limit`; the others by request, from `next_cursor` on.",
    example: { type: "inbox", rooms: [userRoom], unread_total: 1, cursor, next_cursor: null, ref },
  },
  following: {
    description: "What was missed follows, then `caught_up`. `cursor` is that of now.",
    example: { type: "following", cursor, ref },
  },
  room: {
    description: "The user came into a room; its events follow.",
    example: { type: "room", room: userRoom, cursor },
  },
  unfollowed: { description: "Nothing more comes of the user's rooms.", example: { type: "unfollowed", ref } },
  read: {
    description: "A member has read the room up to `seq`.",
    example: { type: "read", room_id, seq: 5, user_id: "alice", at: AT },
  },
  notification: {
    description: "A notification to the user that is not acknowledged yet.",
    example: {
      ...{ type: "notification", delivery_id: DELIVERY_ID, notification_id: "ntf_9t3c8e1w6z5y2b7ha4kx0v7q2m" },
      ...{ subject: "Lunch?", content: "At noon", meta: {}, priority: "normal", category: null, room_id: null },
      ...{ at: AT, fell_back: false },
    },
  },
  acked: {
    description: "Another connection of the user acknowledged the delivery.",
    example: { type: "acked", delivery_id: DELIVERY_ID },
  },
  inbox_counts: {
    description: "The counts of the user's inbox, when they change.",
    example: { type: "inbox_counts", unread_count: 2, unseen_count: 1 },
  },
  ok: {
    description: "The frame was carried out. Of a message: where it is, and the position for `Read-After`.",
    example: { type: "ok", room_id, seq: 5, message_id, position, ref },
  },
  pong: { description: "The answer to `ping`.", example: { type: "pong", ref } },
  typing: {
    description: "Another member began to type, or stopped.",
    example: { type: "typing", room_id, user_id: "bob", active: true },
  },
  presence: {
    description: "Who is online: the members at first, then those who came or went.",
    example: {
      ...{ type: "presence", room_id, ref },
      users: [{ user_id: "bob", online: true, since: AT, last_seen_at: AT, devices: 1 }],
    },
  },
  heartbeat: {
    description: "Nothing else was sent for 25 seconds. Who hears nothing for 50 seconds reconnects.",
    example: { type: "heartbeat" },
  },
  error: {
    description: "A frame could not be carried out, and the connection stays. `code` says why, `errors` which fields.",
    example: { type: "error", room_id, code: "not_found", message: "there is no such room", ref },
  },
};
