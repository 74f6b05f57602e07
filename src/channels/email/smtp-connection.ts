// channels/email/smtp-connection.ts: connects to an SMTP server, and reads what a failure of the session means.

import { isIP } from "node:net";
import type { SMTPPoolOptions } from "nodemailer/lib/smtp-pool";
import { z } from "zod";
import type { AttemptErrorCode } from "../attempt-result.ts";
import { type AddressGuard, canonicalHost } from "../guard.ts";
import { ConnectFailure, type ConnectStage, errorCode, networkFault, openSocket } from "../outgoing-socket.ts";
import { InvalidMail, type MailSender } from "./message.ts";

/** A provider's settings, as a client set them. */
export type SmtpProvider = MailSender & {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly username?: string | null;
  readonly password?: string | null;
  /** `starttls` requires TLS: without it nothing is sent. */
  readonly security: "starttls" | "tls" | "none";
  /** For one whole attempt. */
  readonly timeoutSeconds?: number | null;
};

export type SmtpTimeouts = {
  /** For name resolution, connection and, with `tls`, its handshake together. */
  readonly connectTimeoutMs: number;
  /** For the greeting, and again for STARTTLS. */
  readonly greetingTimeoutMs: number;
  /** For any silence of the server after that. */
  readonly silenceTimeoutMs: number;
};

// No mail server sends a longer reply.
const MAX_REPLY_BYTES = 16_384;
const CLOSE_TIMEOUT_MS = 1_000;

/** nodemailer's settings for a provider, without the socket, which `openSmtpSocket` opens. */
export function connectionOptions(provider: SmtpProvider, timeouts: SmtpTimeouts) {
  const host = canonicalHost(provider.host) ?? provider.host;
  return {
    host,
    port: provider.port,
    secure: provider.security === "tls",
    requireTLS: provider.security === "starttls",
    ignoreTLS: provider.security === "none",
    connectionTimeout: timeouts.connectTimeoutMs + 2 * timeouts.greetingTimeoutMs,
    greetingTimeout: timeouts.greetingTimeoutMs,
    socketTimeout: timeouts.silenceTimeoutMs,
    socketCloseTimeout: CLOSE_TIMEOUT_MS,
    maxResponseSize: MAX_REPLY_BYTES,
    ...(isIP(host) === 0 ? { servername: host } : {}),
  } satisfies SMTPPoolOptions;
}

/** Opens the connection under the guard. `secured` means that TLS is already on. Rejects with `ConnectFailure`. */
export async function openSmtpSocket(provider: SmtpProvider, guard: AddressGuard, timeouts: SmtpTimeouts) {
  const secured = provider.security === "tls";
  const { host, port } = provider;
  const connection = await openSocket({ guard, host, port, tls: secured, timeoutMs: timeouts.connectTimeoutMs });
  const rejectUnauthorized = !guard.trustsUnchecked(connection.remoteAddress ?? "");
  return { connection, secured, tls: { rejectUnauthorized } };
}

/** The login of a provider, or null. When set it is used even if the server does not ask for it. */
export function credentials(provider: SmtpProvider): { user: string; pass: string } | null {
  return provider.username ? { user: provider.username, pass: provider.password ?? "" } : null;
}

export type SmtpStage = ConnectStage | "auth" | "send";

export type SmtpFailure = {
  readonly stage: SmtpStage;
  readonly permanent: boolean;
  readonly code: AttemptErrorCode;
  /** Ours, without a byte of the server's. */
  readonly message: string;
  /** The server's reply code. */
  readonly status: number | null;
  /** The server's text, only once it has shown that it speaks SMTP. Else we would reveal what internal services say. */
  readonly text: string | null;
};

/** Reads an error of nodemailer. A reply 4xx is transient, a reply 5xx permanent, a network error transient. */
export function smtpFailure(error: unknown): SmtpFailure {
  const silent = { status: null, text: null };
  if (error instanceof ConnectFailure) {
    return { ...silent, stage: error.stage, permanent: false, code: error.code, message: error.message };
  }
  if (error instanceof InvalidMail) {
    return { ...silent, stage: "send", permanent: true, code: "invalid_message", message: error.message };
  }
  const known = SmtpErrorSchema.parse(typeof error === "object" && error !== null ? error : {});
  // When every recipient was refused, the first one decides.
  if (known.rejectedErrors.length > 0) return smtpFailure(known.rejectedErrors[0]);
  const { command, responseCode: status } = known;
  const stage = stageOf(known, known.originalCode || errorCode(error));
  if (status === null) return { ...silent, stage, ...withoutReply(known, stage) };
  const spokeSmtp = !["", "CONN", "EHLO", "HELO", "API"].includes(command);
  const reply = { status, text: spokeSmtp ? known.response : null };
  return { ...reply, stage, permanent: status >= 500, ...refusal(stage, command, status) };
}

const text = z.string().catch("");
/** The fields of nodemailer's errors. */
const SmtpErrorSchema = z.object({
  code: text,
  command: text,
  response: text,
  /** The code of the error underneath. */
  originalCode: text,
  timeoutType: text,
  responseCode: z.number().min(400).max(599).nullable().catch(null),
  rejectedErrors: z.array(z.unknown()).catch([]),
});
type SmtpError = z.infer<typeof SmtpErrorSchema>;

/**
 * The error of the first recipient in a result of nodemailer. Null when the server accepted it. Refusals are in the order
 * of the envelope, so only the first one can be the first recipient's.
 */
export function firstRecipientError(
  outcome: { readonly rejectedErrors?: readonly { readonly recipient?: string | undefined }[] | undefined },
  first: string | undefined,
): unknown {
  const [error] = outcome.rejectedErrors ?? [];
  return error !== undefined && error.recipient === first ? error : null;
}

const TLS_ERROR = /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|EPROTO$|HOSTNAME_MISMATCH|INVALID_)/;

function stageOf({ code, command, timeoutType }: SmtpError, cause: string): SmtpStage {
  if (code === "ETLS" || TLS_ERROR.test(cause) || timeoutType === "UPGRADE_TIMEOUT") return "tls";
  if (code === "EAUTH" || command.startsWith("AUTH")) return "auth";
  if (["MAIL FROM", "RCPT TO", "DATA", "RSET"].includes(command)) return "send";
  return ["EENVELOPE", "EMESSAGE", "ESTREAM"].includes(code) ? "send" : "connect";
}

function refusal(stage: SmtpStage, command: string, status: number) {
  const by = (code: AttemptErrorCode, what: string) => ({ code, message: `The server ${what} (${status})` });
  if (stage === "tls") return by("tls_failure", "refused to start TLS");
  if (stage === "auth") return by("auth_failed", "refused the user name or password");
  if (command === "MAIL FROM") return by("sender_refused", "refused the sender");
  if (command === "RCPT TO") return by("recipient_refused", "refused the recipient");
  if (command === "DATA") return by("message_refused", "refused the message");
  return by("server_refused", "refused the connection");
}

function withoutReply({ code, originalCode }: SmtpError, stage: SmtpStage) {
  const of = (code: AttemptErrorCode, message: string, permanent = false) => ({ code, message, permanent });
  if (code === "ETIMEDOUT") return of("timeout", "The server took too long to answer");
  if (stage === "tls") return of("tls_failure", "The TLS connection could not be made");
  if (code === "EAUTH") return of("auth_failed", "The user name and password could not be used", true);
  if (code === "EPROTOCOL") return of("protocol_error", "The server does not speak SMTP");
  if (code === "EENVELOPE" || code === "EMESSAGE") {
    return of("invalid_message", "The mail is larger than the server accepts, or an address is invalid", true);
  }
  const fault = networkFault({ code: originalCode || code });
  if (fault) return of(fault.code, fault.message);
  if (code === "ECONNECTION") return of("connection_closed", "The server closed the connection");
  return of("network_failure", "The connection failed");
}
