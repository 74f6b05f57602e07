// Every code that tells what went wrong: problems of requests, faults of fields, errors and closes of sockets.
// All are part of the interface: codes are only added.

type ProblemKind = {
  readonly status: number;
  readonly title: string;
  /** What it means and what to do, for the page of errors. */
  readonly meaning: string;
  /** When the same request may be sent again. */
  readonly retryAfterSeconds?: number;
};

const kind = (status: number, title: string, meaning: string, retryAfterSeconds?: number): ProblemKind =>
  retryAfterSeconds === undefined ? { status, title, meaning } : { status, title, meaning, retryAfterSeconds };

/** The problems a request may end with: one code, one status, one title. */
export const PROBLEMS = {
  malformed_request: kind(400, "Malformed request", "The request is not valid HTTP, or its target is none."),
  malformed_json: kind(400, "Malformed JSON", "The body is not UTF-8 JSON, or is nested deeper than 32 levels."),
  invalid_cursor: kind(
    400,
    "Invalid cursor",
    "The cursor is damaged, or was made with other filters. Start from the first page.",
  ),
  invalid_position: kind(
    400,
    "Invalid position",
    "The position is damaged, another client's, or beyond the end of this server's log.",
  ),
  unauthenticated: kind(401, "Not authenticated", "No valid key or token was sent, or it was revoked."),
  token_expired: kind(401, "Token expired", "The user token's time is over. Get another one."),
  key_expired: kind(401, "Key expired", "The API key's time is over. Use the one that it was rotated to."),
  forbidden: kind(403, "Forbidden", "The caller may never do this: it needs a client key, or another origin."),
  insufficient_scope: kind(
    403,
    "Insufficient scope",
    "The API key, or the user token that it minted, lacks the scope that `detail` names.",
  ),
  role_required: kind(403, "Role required", "The user's role in the room does not allow this."),
  removed: kind(403, "Removed", "Who was removed from a public room does not join it again by itself."),
  not_a_member: kind(403, "Not a member", "The user is not a member of the room."),
  banned: kind(403, "Banned", "The user is banned from the room, and neither joins nor is added until that ends."),
  muted: kind(403, "Muted", "The member is muted in the room, and may read and not post until that ends."),
  read_only: kind(
    403,
    "Read only",
    "The user's role in the room may not post: it is `reader`, or the room is for admins to post in.",
  ),
  sender_mismatch: kind(403, "Sender mismatch", "A user token may only act as its own user."),
  not_found: kind(404, "Not found", "There is no such thing, or none that the caller may see."),
  method_not_allowed: kind(405, "Method not allowed", "The path exists; `Allow` lists its methods."),
  not_acceptable: kind(406, "Not acceptable", "There is a stream alone: ask with `Accept: text/event-stream`."),
  request_timeout: kind(408, "Request timeout", "The request did not arrive whole in time."),
  room_inactive: kind(409, "Room inactive", "The room was deactivated. Activate it to post again."),
  last_owner: kind(409, "Last owner", "The last owner of a room with others in it cannot leave or be demoted."),
  direct_room_fixed: kind(409, "Direct room is fixed", "The two members of a direct room do not change."),
  external_id_taken: kind(409, "External id taken", "Another room has this `external_id`: `existing_id`."),
  message_deleted: kind(409, "Message deleted", "The message was deleted. Restore it first."),
  message_growing: kind(409, "Message growing", "The message is still being written: complete or cancel it first."),
  not_growing: kind(409, "Not growing", "The message is not being written any more, or never was."),
  offset_mismatch: kind(
    409,
    "Offset mismatch",
    "The text does not go on where the message ends: `expected` is its length. Nothing was appended.",
  ),
  not_scheduled: kind(409, "Not scheduled", "The message for later was posted, refused or cancelled."),
  too_many_scheduled: kind(
    409,
    "Too many scheduled messages",
    "As many messages of the user or of the client wait for later as may. Cancel some first.",
  ),
  too_many_growing: kind(
    409,
    "Too many growing messages",
    "As many messages grow in the room, of the user or of the client as can at once. Complete or cancel some first.",
  ),
  too_many_reactions: kind(409, "Too many reactions", "The message has 50 different reactions, and takes no other."),
  room_full: kind(409, "Room full", "The room has as many members as it may have: its `max_members`."),
  not_cancellable: kind(409, "Not cancellable", "Nothing is left of the notification that could be stopped."),
  not_editable: kind(409, "Not editable", "Only a notification that is still scheduled can be edited."),
  nothing_to_retry: kind(409, "Nothing to retry", "No delivery of the notification has failed for good."),
  last_key: kind(409, "Last key", "A client keeps a key with `keys:manage` that does not expire."),
  provider_limit: kind(409, "Too many providers", "The client has as many email providers as it can have."),
  key_limit: kind(
    409,
    "Too many keys",
    "As many of the client's keys hold as can at once. Delete one, rotate without a grace, or wait until one has ended.",
  ),
  too_many_endpoints: kind(409, "Too many endpoints", "The client has as many webhook endpoints as it can have."),
  email_provider_not_configured: kind(409, "No email provider", "Set an email provider before sending mail."),
  idempotency_key_in_flight: kind(
    409,
    "Request in flight",
    "A request with this `Idempotency-Key` is still being handled. Try again.",
    1,
  ),
  precondition_failed: kind(412, "Precondition failed", "It has changed since the `ETag` in `If-Match`."),
  body_too_large: kind(413, "Body too large", "The request, or what it would store, is over `max_bytes`."),
  unsupported_media_type: kind(
    415,
    "Unsupported media type",
    "Bodies are `application/json` in UTF-8, without content coding.",
  ),
  expectation_failed: kind(417, "Expectation failed", "`Expect` takes `100-continue` alone."),
  unknown_host: kind(421, "Unknown host", "The server does not answer for this `Host`. See `ALLOWED_HOSTS`."),
  validation_failed: kind(422, "Validation failed", "`errors` lists every fault of body, query and headers."),
  ambiguous_recipients: kind(422, "Ambiguous recipients", "Give exactly one of the alternative fields for recipients."),
  no_recipients: kind(422, "No recipients", "Nobody would get the notification."),
  idempotency_key_reused: kind(422, "Idempotency key reused", "The `Idempotency-Key` came before with another body."),
  upgrade_required: kind(
    426,
    "Upgrade required",
    "This path is the WebSocket's. A proxy in between may have dropped the `Upgrade` and `Connection` headers.",
  ),
  rate_limited: kind(429, "Too many requests", "Wait for `Retry-After` seconds."),
  headers_too_large: kind(431, "Headers too large", "The target and the headers have at most 16 KiB together."),
  internal: kind(500, "Internal error", "A fault of the server. Its log has the `request_id`."),
  read_model_behind: kind(
    503,
    "Read model behind",
    "What was written before `Read-After` cannot be read yet. Try again.",
    1,
  ),
  unavailable: kind(
    503,
    "Unavailable",
    "A part of the server cannot be reached now. Try again; a POST under its `Idempotency-Key`.",
    1,
  ),
} as const satisfies Readonly<Record<string, ProblemKind>>;

export type ProblemCode = keyof typeof PROBLEMS;

/** What may be wrong with one field. */
export const FAULT_CODES = [
  "required",
  "unknown_field",
  "wrong_type",
  "too_short",
  "too_long",
  "too_small",
  "too_large",
  "invalid_format",
  "not_allowed",
] as const;

export type FaultCode = (typeof FAULT_CODES)[number];

/** A fault of one field, as `errors` of a problem lists it. */
export type FieldFault = {
  /** Dotted path into the body; `?name` for a query, `Header: Name` for a header. */
  readonly path: string;
  readonly code: FaultCode;
  readonly message: string;
};

/** Codes of a socket's `error` frames: those of problems, and its own. */
export const SOCKET_ERROR_CODES = [
  ...(Object.keys(PROBLEMS) as ProblemCode[]),
  "unknown_type",
  "user_required",
  "already_subscribed",
  "too_many_subscriptions",
  "seq_out_of_range",
  "already_following",
] as const;

export type SocketErrorCode = (typeof SOCKET_ERROR_CODES)[number];

/** What only sockets refuse, and what to do about it. */
export const SOCKET_ERRORS: Readonly<Record<Exclude<SocketErrorCode, ProblemCode>, string>> = {
  unknown_type: "No frame has this `type`. The WebSocket guide lists them.",
  user_required: "A key without `user_id` observes. Connect with a user's token, or name the user with `?user_id=`.",
  already_following: "The socket follows the user's rooms. Send `unfollow` first to start anew.",
  already_subscribed: "The socket has this room. Subscribe with `after_seq` to start anew from there.",
  too_many_subscriptions: "A socket follows 500 rooms at most. Unsubscribe from one, or open another socket.",
  seq_out_of_range: "`after_seq` is past the room's head. Subscribe from the last `seq` that you have received.",
};

/** Why the server closes a socket. 4000 to 4499: reconnect and resume; 4500 to 4999: do not. */
export const CLOSE = {
  shuttingDown: 4000,
  authenticationLate: 4002,
  heartbeatMissed: 4003,
  slowConsumer: 4008,
  expired: 4009,
  tooManyFrames: 4029,
  tooManySockets: 4030,
  unauthenticated: 4501,
  forbidden: 4503,
  malformed: 4504,
} as const;

export type CloseCode = (typeof CLOSE)[keyof typeof CLOSE];

/** The reason sent with each close code. */
export const CLOSE_REASONS: Readonly<Record<CloseCode, string>> = {
  4000: "shutting down",
  4002: "authentication late",
  4003: "heartbeat missed",
  4008: "slow consumer",
  4009: "token expired",
  4029: "too many frames",
  4030: "too many sockets",
  4501: "unauthenticated",
  4503: "forbidden",
  4504: "malformed",
};

/** What a client does after each close code. */
export const CLOSE_REMEDIES: Readonly<Record<CloseCode, string>> = {
  4000: "Reconnect with jitter and resume each room with `after_seq`.",
  4002: "Reconnect, and authenticate within five seconds.",
  4003: "Reconnect and resume. Answer pings, or send frames, at least every 50 seconds.",
  4008: "Reconnect and resume; read faster, or subscribe to fewer rooms.",
  4009: "Reconnect with a new token and resume. A fresh `auth` before its end keeps the socket.",
  4029: "Reconnect and resume; send at most 100 frames a second.",
  4030: "Close sockets that are not used, then reconnect.",
  4501: "Do not reconnect with this credential: get another.",
  4503: "Do not reconnect so: a connection is one user's.",
  4504: "Mend the client: each frame is one JSON object with a `type`.",
};
