// channels/email/smtp-connection.ts: how we connect to an SMTP server, for pools and for trying a provider's settings.

import { isIP } from "node:net";
import type { SMTPPoolOptions } from "nodemailer/lib/smtp-pool";
import type { AddressGuard } from "../address-guard.ts";
import { canonicalHost } from "../address-ranges.ts";
import { openSocket } from "../guarded-socket.ts";
import type { MailSender } from "./message.ts";

/** A provider's settings, as a client set them. */
export type SmtpProvider = MailSender & {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly username?: string | null;
  readonly password?: string | null;
  /** `starttls` insists on it: without TLS nothing is sent. */
  readonly security: "starttls" | "tls" | "none";
  /** For one whole attempt. */
  readonly timeoutSeconds?: number | null;
};

export type SmtpTimeouts = {
  /** For name resolution, connection and, with `tls`, its handshake together. */
  readonly connectTimeoutMs: number;
  /** For the greeting, and again for STARTTLS. */
  readonly greetingTimeoutMs: number;
  /** For any silence of the server's later on. */
  readonly silenceTimeoutMs: number;
};

// A longer reply is no mail server's.
const MAX_REPLY_BYTES = 16_384;
const CLOSE_TIMEOUT_MS = 1_000;

/** nodemailer's settings for a provider, without the socket: `openSmtpSocket` gives that. */
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

/** Opens the connection under the guard; `secured` says that TLS is up already. Rejects with `ConnectFailure`. */
export async function openSmtpSocket(provider: SmtpProvider, guard: AddressGuard, timeouts: SmtpTimeouts) {
  const secured = provider.security === "tls";
  const { host, port } = provider;
  const connection = await openSocket({ guard, host, port, tls: secured, timeoutMs: timeouts.connectTimeoutMs });
  const rejectUnauthorized = !guard.trustsUnchecked(connection.remoteAddress ?? "");
  return { connection, secured, tls: { rejectUnauthorized } };
}

/** The login of a provider, or null. Once set it is used, also when the server does not ask for it. */
export function credentials(provider: SmtpProvider): { user: string; pass: string } | null {
  return provider.username ? { user: provider.username, pass: provider.password ?? "" } : null;
}
