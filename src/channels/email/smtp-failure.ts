// channels/email/smtp-failure.ts: what an SMTP error means for an attempt, and which of its words may be shown.

import type { AttemptErrorCode } from "../attempt-result.ts";
import { ConnectFailure, type ConnectStage, errorCode, networkFault } from "../guarded-socket.ts";
import { InvalidMail } from "./message.ts";

export type SmtpStage = ConnectStage | "auth" | "send";

export type SmtpFailure = {
  readonly stage: SmtpStage;
  readonly permanent: boolean;
  readonly code: AttemptErrorCode;
  /** Ours, without a byte of the server's. */
  readonly message: string;
  /** The server's reply code. */
  readonly status: number | null;
  /** The server's words, only once it has shown that it speaks SMTP: else we would read internal services aloud. */
  readonly text: string | null;
};

/** Reads an error of nodemailer's. A reply 4xx is transient and 5xx permanent; faults of the network are transient. */
export function smtpFailure(error: unknown): SmtpFailure {
  const silent = { status: null, text: null };
  if (error instanceof ConnectFailure) {
    return { ...silent, stage: error.stage, permanent: false, code: error.code, message: error.message };
  }
  if (error instanceof InvalidMail) {
    return { ...silent, stage: "send", permanent: true, code: "invalid_message", message: error.message };
  }
  // When every recipient was refused, what became of the first decides.
  const all = typeof error === "object" && error !== null && "rejectedErrors" in error ? error.rejectedErrors : null;
  if (Array.isArray(all) && all.length > 0) return smtpFailure(all[0]);
  const command = text(error, "command");
  const status = replyStatus(error);
  const stage = stageOf(error, command);
  if (status !== null) {
    const spokeSmtp = !["", "CONN", "EHLO", "HELO", "API"].includes(command);
    const reply = { status, text: spokeSmtp ? text(error, "response") : null };
    return { ...reply, stage, permanent: status >= 500, ...refusal(stage, command, status) };
  }
  return { ...silent, stage, ...withoutReply(error, stage) };
}

/**
 * The error of the first recipient, as an error or a result of nodemailer's tells it; null when the server took it.
 * Recipients are named in the order of the envelope, so only the first refusal can be the first recipient's.
 */
export function firstRecipientError(
  outcome: { readonly rejectedErrors?: readonly { readonly recipient?: string | undefined }[] | undefined },
  first: string | undefined,
): unknown {
  const [error] = outcome.rejectedErrors ?? [];
  return error !== undefined && error.recipient === first ? error : null;
}

function stageOf(error: unknown, command: string): SmtpStage {
  const code = text(error, "code");
  if (code === "ETLS" || isTlsError(error) || text(error, "timeoutType") === "UPGRADE_TIMEOUT") return "tls";
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

function withoutReply(error: unknown, stage: SmtpStage) {
  const of = (code: AttemptErrorCode, message: string, permanent = false) => ({ code, message, permanent });
  const code = text(error, "code");
  if (code === "ETIMEDOUT") return of("timeout", "The server took too long to answer");
  if (stage === "tls") return of("tls_failure", "The TLS connection could not be made");
  if (code === "EAUTH") return of("auth_failed", "The user name and password could not be used", true);
  if (code === "EPROTOCOL") return of("protocol_error", "The server does not speak SMTP");
  if (code === "EENVELOPE" || code === "EMESSAGE") {
    return of("invalid_message", "The mail is larger than the server takes, or one of its addresses is invalid", true);
  }
  const fault = networkFault({ code: text(error, "originalCode") || code });
  if (fault) return of(fault.code, fault.message);
  if (code === "ECONNECTION") return of("connection_closed", "The server closed the connection");
  return of("network_failure", "The connection failed");
}

function replyStatus(error: unknown): number | null {
  const status = typeof error === "object" && error !== null && "responseCode" in error ? error.responseCode : null;
  return typeof status === "number" && status >= 400 && status <= 599 ? status : null;
}

function isTlsError(error: unknown): boolean {
  const code = text(error, "originalCode") || errorCode(error);
  return /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|EPROTO$|HOSTNAME_MISMATCH|INVALID_)/.test(code);
}

function text(error: unknown, field: "code" | "command" | "response" | "originalCode" | "timeoutType") {
  const value =
    typeof error === "object" && error !== null ? Object.entries(error).find(([k]) => k === field)?.[1] : "";
  return typeof value === "string" ? value : "";
}
