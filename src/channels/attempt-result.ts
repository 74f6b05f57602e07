// channels/attempt-result.ts: the result of one attempt on any channel, as the attempt's event records it: without secrets.

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

// Takes secrets out of what others say before any of it is kept or shown.

export type Redact = (text: string) => string;

const MARK = "[redacted]";
/** Shorter ones are no secrets, and would turn up in any text. */
const MIN_LENGTH = 4;

/** How a text begins in base64, whatever follows it: without the padding at its end. */
export function base64WithoutPadding(text: string): string {
  const encoded = Buffer.from(text).toString("base64");
  const padding = encoded.indexOf("=");
  return padding === -1 ? encoded : encoded.slice(0, padding);
}

/** Takes out these secrets, as they are and as they may be quoted: in a URL, in JSON, in base64; also all in lower or upper case. */
export function redactor(secrets: readonly (string | null | undefined)[]): Redact {
  const known = secrets.flatMap((secret) => ((secret ?? "").length >= MIN_LENGTH ? [secret ?? ""] : []));
  const forms = known.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
    base64WithoutPadding(secret),
  ]);
  const cased = forms.flatMap((form) => [form, form.toLowerCase(), form.toUpperCase()]);
  // The longest first: one may be in another.
  const longest = [...new Set(cased)].toSorted((a, b) => b.length - a.length);
  // fence: vendor-secrets
  return (text) => longest.reduce((left, form) => left.replaceAll(form, MARK), text);
}
