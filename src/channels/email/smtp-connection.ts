// channels/email/smtp-connection.ts: connects to an SMTP server, and reads what a failure of the session means.

import { isIP } from "node:net";
import { Readable } from "node:stream";
import SMTPConnection, { type SMTPConnectionOptions, type SMTPEnvelope } from "nodemailer/lib/smtp-connection";
import { z } from "zod";
import type { Refusal } from "../../contract/deliveries.ts";
import { type AttemptErrorCode, base64WithoutPadding, type Redact, redactor } from "../attempt-result.ts";
import { type AddressGuard, canonicalHost } from "../guard.ts";
import { ConnectFailure, type ConnectStage, errorCode, networkFault, openSocket } from "../outgoing-socket.ts";
import type { DkimSettings } from "./dkim.ts";
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
  /** Signs each mail. */
  readonly dkim?: DkimSettings | null;
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
  /** For the answer to the whole mail. RFC 5321, 4.5.3.2.6: ten minutes. */
  readonly acceptTimeoutMs: number;
};

export type SmtpSettings = SmtpTimeouts & {
  readonly guard: AddressGuard;
  /** The name that EHLO gives. Undefined: this machine's own. */
  readonly ehloName: string | undefined;
};

// No mail server sends a longer reply.
const MAX_REPLY_BYTES = 16_384;
const CLOSE_TIMEOUT_MS = 1_000;

/** nodemailer's settings for a provider, without the socket, which the session opens. */
function connectionOptions(provider: SmtpProvider, settings: SmtpSettings): SMTPConnectionOptions {
  const host = canonicalHost(provider.host) ?? provider.host;
  return {
    host,
    port: provider.port,
    ...(settings.ehloName === undefined ? {} : { name: settings.ehloName }),
    secure: provider.security === "tls",
    requireTLS: provider.security === "starttls",
    ignoreTLS: provider.security === "none",
    connectionTimeout: settings.connectTimeoutMs + 2 * settings.greetingTimeoutMs,
    greetingTimeout: settings.greetingTimeoutMs,
    socketTimeout: settings.silenceTimeoutMs,
    socketCloseTimeout: CLOSE_TIMEOUT_MS,
    maxResponseSize: MAX_REPLY_BYTES,
    ...(isIP(host) === 0 ? { servername: host } : {}),
  };
}

/** What the server said to a mail: which recipients it refused, and its answer to the whole. */
type SmtpAnswer = { readonly response: string; readonly rejectedErrors: readonly unknown[] };
type SessionOptions = {
  /** Closes the session. */
  readonly signal: AbortSignal;
  readonly onStage?: (stage: SmtpStage) => void;
};

/** One connection to a provider, ready to take mails one after the other. */
export class SmtpSession {
  readonly #connection: SMTPConnection;
  readonly #settings: SmtpSettings;
  /** Mails that went over it. */
  mails = 0;

  private constructor(connection: SMTPConnection, settings: SmtpSettings) {
    this.#connection = connection;
    this.#settings = settings;
    // Errors of steps reach their steps; one that comes between them only ends the session.
    connection.on("error", () => {});
  }

  /** Connects under the guard, greets, secures and logs in. Rejects with what `smtpFailure` reads. */
  static async open(provider: SmtpProvider, settings: SmtpSettings, options: SessionOptions): Promise<SmtpSession> {
    const { guard, connectTimeoutMs: timeoutMs } = settings;
    const secured = provider.security === "tls";
    const { host, port, username } = provider;
    const socket = await openSocket({ guard, host, port, tls: secured, timeoutMs });
    // It may have opened late: a connection that nobody waits for must not be used, least of all to send.
    if (options.signal.aborted) {
      socket.destroy();
      throw new ConnectFailure("connect", "timeout", "The server took too long to answer");
    }
    options.onStage?.("connect");
    const tls = { rejectUnauthorized: !guard.trustsUnchecked(socket.remoteAddress ?? "") };
    const connection = new SMTPConnection({
      ...connectionOptions(provider, settings),
      connection: socket,
      secured,
      tls,
    });
    const session = new SmtpSession(connection, settings);
    try {
      await session.#step(options.signal, (done) => connection.connect(done));
      options.onStage?.("auth");
      if (username) {
        const auth = { user: username, pass: provider.password ?? "" };
        await session.#step(options.signal, (done) => connection.login({ ...auth, credentials: auth }, done));
      }
      return session;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  get isUsable(): boolean {
    return !this.#connection.destroyed;
  }

  /** Sends one mail. `onHandedOver`: all of it has left, and the server may have taken it whatever comes now. */
  async send(
    { envelope, message }: { readonly envelope: SMTPEnvelope; readonly message: Buffer },
    signal: AbortSignal,
    onHandedOver: () => void,
  ): Promise<SmtpAnswer> {
    this.mails += 1;
    // In pieces, so that its end is read only when nearly all of it has left.
    const pieces = Readable.from(piecesOf(message));
    pieces.once("end", () => {
      this.#setTimeout(this.#settings.acceptTimeoutMs);
      onHandedOver();
    });
    const answer = Promise.withResolvers<SmtpAnswer>();
    await this.#step(signal, (done) =>
      this.#connection.send({ ...envelope, size: message.length }, pieces, (error, info) => {
        const rejectedErrors = info?.rejectedErrors ?? rejectedBy(error);
        if (error && rejectedErrors.length === 0) return done(error);
        answer.resolve({ response: info?.response ?? "", rejectedErrors });
        done();
      }),
    );
    if (!pieces.readableEnded) await this.reset(signal);
    this.#setTimeout(this.#settings.silenceTimeoutMs);
    return answer.promise;
  }

  /** Makes it ready for another mail after one that was refused. */
  async reset(signal: AbortSignal): Promise<void> {
    await this.#step(signal, (done) => this.#connection.reset(done)).catch(() => this.#connection.close());
  }

  quit(): void {
    if (this.isUsable) this.#connection.quit();
  }

  close(): void {
    this.#connection.close();
  }

  #setTimeout(ms: number): void {
    const socket = this.#connection._socket;
    if (socket) socket.setTimeout(ms);
  }

  /** Runs one step of the session. An error that the connection emits meanwhile fails it, and so does its end. */
  async #step(signal: AbortSignal, run: (done: (error?: Error | null) => void) => void): Promise<void> {
    const connection = this.#connection;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const closed = () => reject(Object.assign(new Error("The connection ended"), { code: "ECONNECTION" }));
    const abort = () => connection.close();
    connection.once("error", reject).once("end", closed);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    run((error) => (error ? reject(error) : resolve()));
    try {
      await promise;
    } finally {
      connection.off("error", reject).off("end", closed);
      signal.removeEventListener("abort", abort);
    }
  }
}

/** The recipients that were refused, when nobody took the mail. */
const rejectedBy = (error: unknown): readonly unknown[] => SmtpErrorSchema.parse(error ?? {}).rejectedErrors;

const PIECE_BYTES = 65_536;
function* piecesOf(message: Buffer): Generator<Buffer> {
  for (let from = 0; from < message.length; from += PIECE_BYTES) yield message.subarray(from, from + PIECE_BYTES);
}

/** Takes a provider's password out, as it is and as it is sent. */
export const smtpRedactor = ({ username, password }: SmtpProvider): Redact =>
  redactor([password, base64WithoutPadding(`\0${username ?? ""}\0${password ?? ""}`)]);

export type SmtpStage = ConnectStage | "auth" | "send";

export type SmtpFailure = {
  readonly stage: SmtpStage;
  readonly permanent: boolean;
  readonly code: AttemptErrorCode;
  readonly refusal: Refusal | null;
  /** Ours, without a byte of the server's. */
  readonly message: string;
  /** The server's reply code. */
  readonly status: number | null;
  /** The server's text, only once it has shown that it speaks SMTP. Else we would reveal what internal services say. */
  readonly text: string | null;
};

/**
 * Reads an error of nodemailer. A reply 4xx is transient, a reply 5xx permanent, but for one that refuses the account, a
 * network error transient.
 */
export function smtpFailure(error: unknown): SmtpFailure {
  const silent = { status: null, text: null, refusal: null };
  if (error instanceof ConnectFailure) {
    return { ...silent, stage: error.stage, permanent: false, code: error.code, message: error.message };
  }
  if (error instanceof InvalidMail) {
    return { ...silent, stage: "send", permanent: true, code: "invalid_message", message: error.message };
  }
  const known = SmtpErrorSchema.parse(typeof error === "object" && error !== null ? error : {});
  const { command, responseCode: status } = known;
  const stage = stageOf(known, known.originalCode || errorCode(error));
  if (status === null) return { ...silent, stage, ...withoutReply(known, stage) };
  const reply = { status, text: isSmtpReply(known) ? known.response : null };
  const refusal = status >= 500 ? refusalOf(stage, command, status) : null;
  // A mail is not at fault for the account, which may be put right.
  const permanent = status >= 500 && refusal !== "account";
  return { ...reply, stage, permanent, refusal, ...errorOf(stage, command, status) };
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
 * Whether these are words of an SMTP server, which a tenant may read, and not those of another protocol with numbers like
 * SMTP's. From MAIL on it has shown that it is one, and so has one that refuses the greeting with a reply code. EHLO is
 * what another protocol does not know either, so its refusal has to have an enhanced status code, or to name SMTP.
 */
function isSmtpReply({ command, response }: SmtpError): boolean {
  if (!/^[45]\d\d(?:[ -]|$)/.test(response)) return false;
  if (!["EHLO", "HELO"].includes(command)) return command !== "API";
  return /^\d{3}[ -][45]\.\d{1,3}\.\d{1,3}\b|\b(?:smtp|helo|ehlo)\b/i.test(response);
}

/** The recipients that a server refused, by the address in the envelope, and its failures in their order. */
export function refusedRecipients(errors: readonly unknown[]): ReadonlyMap<string, SmtpFailure> {
  const recipient = z.object({ recipient: z.string() });
  return new Map(
    errors.flatMap((error) => {
      const { data } = recipient.safeParse(error);
      return data === undefined ? [] : [[data.recipient, smtpFailure(error)]];
    }),
  );
}

const TLS_ERROR = /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|EPROTO$|HOSTNAME_MISMATCH|INVALID_)/;

function stageOf({ code, command, timeoutType }: SmtpError, cause: string): SmtpStage {
  if (code === "ETLS" || TLS_ERROR.test(cause) || timeoutType === "UPGRADE_TIMEOUT") return "tls";
  if (code === "EAUTH" || command.startsWith("AUTH")) return "auth";
  if (["MAIL FROM", "RCPT TO", "DATA", "RSET"].includes(command)) return "send";
  return ["EENVELOPE", "EMESSAGE", "ESTREAM"].includes(code) ? "send" : "connect";
}

/** RFC 4954: 530 says that this needs authentication, 535 that the credentials are invalid. */
const ACCOUNT_CODES: readonly number[] = [530, 534, 535, 538];

function refusalOf(stage: SmtpStage, command: string, status: number): Refusal | null {
  if (stage === "auth" || ACCOUNT_CODES.includes(status)) return "account";
  if (command === "MAIL FROM") return "sender";
  return command === "RCPT TO" ? "recipient" : null;
}

function errorOf(stage: SmtpStage, command: string, status: number) {
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
  if (code === "EAUTH") {
    const error = of("auth_failed", "The user name and password could not be used");
    return { ...error, refusal: "account" as const };
  }
  if (code === "EPROTOCOL") return of("protocol_error", "The server does not speak SMTP");
  if (code === "EENVELOPE" || code === "EMESSAGE") {
    return of("invalid_message", "The mail is larger than the server accepts, or an address is invalid", true);
  }
  const fault = networkFault({ code: originalCode || code });
  if (fault) return of(fault.code, fault.message);
  if (code === "ECONNECTION") return of("connection_closed", "The server closed the connection");
  return of("network_failure", "The connection failed");
}
