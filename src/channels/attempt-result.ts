// channels/attempt-result.ts: the result of one attempt on any channel, as the attempt's event records it.

import type { Refusal } from "../contract/deliveries.ts";

/**
 * Why an attempt failed. Stable: recorded in events, shown in answers. `cancelled` means that our own side gave up
 * (shutdown, the caller's signal), not the target.
 */
export type AttemptErrorCode =
  | "address_not_allowed"
  | "invalid_target"
  | "invalid_message"
  | "dns_failure"
  | "connection_refused"
  | "connection_closed"
  | "unreachable"
  | "tls_failure"
  | "timeout"
  | "protocol_error"
  | "network_failure"
  | "cancelled"
  | "unexpected_status"
  | "gone"
  | "auth_failed"
  | "sender_refused"
  | "recipient_refused"
  | "message_refused"
  | "server_refused";

/** What became of one of a mail's recipients, by its place: the recipient is 0, then come the copies. */
export type RecipientResult = {
  readonly index: number;
  /** A deferred one is tried again. */
  readonly outcome: "taken" | "deferred" | "refused";
  readonly status: number | null;
};

/** The outcome of one attempt. `transient` may be tried again, `permanent` must not, `unknown` may have succeeded. */
export type AttemptResult = {
  readonly outcome: "succeeded" | "transient" | "permanent" | "unknown";
  /** Of a mail with copies: of each recipient that this attempt was for. */
  readonly recipients: readonly RecipientResult[];
  /** The provider's name for email, `webhook` for webhooks. */
  readonly provider: string;
  /** The target's answer: its status and the first KiB of its text. Null when it did not answer. */
  readonly response: { readonly status: number | null; readonly body: string } | null;
  readonly error: { readonly code: AttemptErrorCode; readonly message: string } | null;
  /** Of a mail. Null: a fault of none of these. */
  readonly refusal: Refusal | null;
  /** How long the target asked us to wait, in ms, at most 24 h. Null when it did not say. */
  readonly retryAfterMs: number | null;
  readonly providerMessageId: string | null;
};

/** The fields of a result without an answer, an error, a refusal or a retry time. */
export const emptyResult = (provider: string) => {
  const nothing = { response: null, error: null, refusal: null, retryAfterMs: null, providerMessageId: null } as const;
  return { provider, recipients: [], ...nothing } as const;
};

/** The part of a target's answer that is kept, in bytes before decoding. */
const STORED_RESPONSE_BYTES = 1024;

/**
 * The first KiB of a target's bytes as text that PostgreSQL accepts: invalid UTF-8 becomes U+FFFD, NUL is removed, and
 * a character cut in two by the limit is left out.
 */
export function storedText(bytes: Uint8Array): string {
  const cut = bytes.length > STORED_RESPONSE_BYTES;
  const text = new TextDecoder("utf-8").decode(bytes.subarray(0, STORED_RESPONSE_BYTES), { stream: cut });
  return text.replaceAll("\0", "");
}
