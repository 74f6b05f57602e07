// Problems: every code that the API answers with, its one status and title, and how errors become them.
import { DomainError, type FieldFault, InvalidInput, type RefusalCode } from "../../domain/errors.ts";
import { AppendTooLarge, StoreUnavailable } from "../../event-store/event-store.ts";
import { CommandTimedOut, StreamOverloaded } from "../../event-store/handle-command.ts";
import { isDatabaseAway } from "../../platform/database-away.ts";
import { InvalidCursor } from "../../projections/page.ts";

/** The codes of the interface itself; deciders have their own. */
export type ProblemCode =
  | RefusalCode
  | "malformed_request"
  | "malformed_json"
  | "invalid_cursor"
  | "invalid_position"
  | "unauthenticated"
  | "token_expired"
  | "key_expired"
  | "insufficient_scope"
  | "method_not_allowed"
  | "request_timeout"
  | "idempotency_key_in_flight"
  | "email_provider_not_configured"
  | "body_too_large"
  | "expectation_failed"
  | "headers_too_large"
  | "unsupported_media_type"
  | "unknown_host"
  | "validation_failed"
  | "ambiguous_recipients"
  | "no_recipients"
  | "rate_limited"
  | "internal"
  | "read_model_behind"
  | "unavailable";

type ProblemKind = {
  readonly status: number;
  readonly title: string;
  /** What it means and what to do, for the page of errors. */
  readonly meaning: string;
};

const kind = (status: number, title: string, meaning: string): ProblemKind => ({ status, title, meaning });

/** Part of the interface: one code, one status, one title. Codes are only added. */
export const PROBLEMS: Readonly<Record<ProblemCode, ProblemKind>> = {
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
    "`Read-After` is damaged, or is not a position of this server's log.",
  ),
  unauthenticated: kind(401, "Not authenticated", "No valid key or token was sent, or it was revoked."),
  token_expired: kind(401, "Token expired", "The user token's time is over. Get another one."),
  key_expired: kind(401, "Key expired", "The API key's time is over. Use the one that it was rotated to."),
  forbidden: kind(403, "Forbidden", "The caller may never do this: it needs a client key, or another origin."),
  insufficient_scope: kind(403, "Insufficient scope", "The API key lacks the scope that `detail` names."),
  role_required: kind(403, "Role required", "The user's role in the room does not allow this."),
  not_a_member: kind(403, "Not a member", "The user is not a member of the room."),
  read_only: kind(403, "Read only", "The user's role in the room is `reader`, which may not post."),
  sender_mismatch: kind(403, "Sender mismatch", "A user token may only act as its own user."),
  not_found: kind(404, "Not found", "There is no such thing, or none that the caller may see."),
  method_not_allowed: kind(405, "Method not allowed", "The path exists; `Allow` lists its methods."),
  request_timeout: kind(408, "Request timeout", "The request did not arrive whole in time."),
  room_inactive: kind(409, "Room inactive", "The room was deactivated. Activate it to post again."),
  last_owner: kind(409, "Last owner", "The last owner of a room with others in it cannot leave or be demoted."),
  direct_room_fixed: kind(409, "Direct room is fixed", "The two members of a direct room do not change."),
  external_id_taken: kind(409, "External id taken", "Another room has this `external_id`: `existing_id`."),
  message_deleted: kind(409, "Message deleted", "The message was deleted. Restore it first."),
  too_many_members: kind(409, "Too many members", "The room has as many members as a room can have."),
  not_cancellable: kind(409, "Not cancellable", "Nothing is left of the notification that could be stopped."),
  not_editable: kind(409, "Not editable", "Only a notification that is still scheduled can be edited."),
  nothing_to_retry: kind(409, "Nothing to retry", "No delivery of the notification has failed for good."),
  last_key: kind(409, "Last key", "A client keeps at least one key."),
  provider_limit: kind(409, "Too many providers", "The client has as many email providers as it can have."),
  key_limit: kind(
    409,
    "Too many keys",
    "As many of the client's keys hold as can at once. Rotate without a grace, or wait until one has ended.",
  ),
  email_provider_not_configured: kind(409, "No email provider", "Set an email provider before sending mail."),
  idempotency_key_in_flight: kind(
    409,
    "Request in flight",
    "A request with this `Idempotency-Key` is still being handled. Try again.",
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
  rate_limited: kind(429, "Too many requests", "Wait for `Retry-After` seconds."),
  headers_too_large: kind(431, "Headers too large", "The target and the headers have at most 16 KiB together."),
  internal: kind(500, "Internal error", "A fault of the server. Its log has the `request_id`."),
  read_model_behind: kind(
    503,
    "Read model behind",
    "What was written before `Read-After` cannot be read yet. Try again.",
  ),
  unavailable: kind(
    503,
    "Unavailable",
    "A part of the server cannot be reached now. Try again; a POST under its `Idempotency-Key`.",
  ),
};

type ProblemOptions = {
  readonly detail?: string;
  /** Further members of the answer. */
  readonly extra?: Readonly<Record<string, string | number>>;
  readonly faults?: readonly FieldFault[];
  readonly headers?: Readonly<Record<string, string>>;
};

const DEFAULT_HEADERS: Partial<Record<ProblemCode, Readonly<Record<string, string>>>> = {
  unauthenticated: { "WWW-Authenticate": "Bearer" },
  token_expired: { "WWW-Authenticate": "Bearer" },
  key_expired: { "WWW-Authenticate": "Bearer" },
  idempotency_key_in_flight: { "Retry-After": "1" },
  read_model_behind: { "Retry-After": "1" },
  unavailable: { "Retry-After": "1" },
};

/** Ends a request with a problem; everything in it is shown to the caller. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly code: ProblemCode;
  readonly detail: string;
  readonly extra: Readonly<Record<string, string | number>>;
  readonly faults: readonly FieldFault[] | undefined;
  readonly headers: Readonly<Record<string, string>>;
  constructor(code: ProblemCode, { detail, extra, faults, headers }: ProblemOptions = {}) {
    super(code);
    this.code = code;
    this.detail = detail ?? PROBLEMS[code].meaning;
    this.extra = extra ?? {};
    this.faults = faults;
    this.headers = { ...DEFAULT_HEADERS[code], ...headers };
  }
}

/** A problem that lists faults of the input. */
export const invalid = (faults: readonly FieldFault[]): Problem =>
  new Problem("validation_failed", {
    detail: faults.map((fault) => (fault.path === "" ? fault.message : `${fault.path}: ${fault.message}`)).join("; "),
    faults,
  });

/** What an append may carry, sealed. */
const MAX_STORED_BYTES = 1_000_000;

/** The problem that an error stands for; undefined for a fault of ours, which is logged and not shown. */
export function toProblem(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  if (error instanceof DomainError) {
    const detail = error.message === error.code ? {} : { detail: error.message };
    return new Problem(error.code, { ...detail, extra: error.extra });
  }
  if (error instanceof InvalidInput) return invalid(error.faults);
  if (error instanceof InvalidCursor) return new Problem("invalid_cursor");
  if (error instanceof AppendTooLarge) {
    const detail = `what the request would store is over ${MAX_STORED_BYTES} bytes`;
    return new Problem("body_too_large", { detail, extra: { max_bytes: MAX_STORED_BYTES } });
  }
  if (error instanceof CommandTimedOut) {
    return new Problem("unavailable", { detail: "The outcome is not known yet: it may still be carried out." });
  }
  if (error instanceof StreamOverloaded || error instanceof StoreUnavailable) return new Problem("unavailable");
  if (isDatabaseAway(error)) return new Problem("unavailable");
  return undefined;
}

/** The body of a problem. `base` is where the pages are, without a slash at its end. */
export function problemBody(problem: Problem, base: string, requestId: string): Record<string, unknown> {
  const { status, title } = PROBLEMS[problem.code];
  const body = { type: `${base}/docs/errors#${problem.code}`, title, status, detail: problem.detail };
  const errors = problem.faults === undefined ? {} : { errors: problem.faults };
  return { ...problem.extra, ...body, code: problem.code, request_id: requestId, ...errors };
}
