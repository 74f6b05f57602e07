// channels/email/smtp.ts: sends mails by SMTP over a pool of connections for each provider's settings.

import { LRUCache } from "lru-cache";
import { createTransport, type Transporter } from "nodemailer";
import type { SMTPPoolOptions, SMTPPoolSentMessageInfo } from "nodemailer/lib/smtp-pool";
import { type AttemptResult, emptyResult, storedText } from "../attempt-result.ts";
import type { AddressGuard } from "../guard.ts";
import { deadline } from "../outgoing-socket.ts";
import { buildMail, type MailContent, recipients } from "./message.ts";
import {
  connectionOptions,
  credentials,
  firstRecipientError,
  openSmtpSocket,
  type SmtpFailure,
  type SmtpProvider,
  type SmtpTimeouts,
  smtpFailure,
} from "./smtp-connection.ts";
import { type SmtpVerdict, verifySmtp } from "./verify.ts";

type SmtpChannelOptions = Partial<SmtpTimeouts> & {
  readonly guard: AddressGuard;
  /** Connections to one provider at a time. */
  readonly maxConnections?: number;
  /** For one attempt, when the provider names no limit. Waiting for a free connection counts. */
  readonly attemptTimeoutMs?: number;
  readonly verifyTimeoutMs?: number;
};

export type SmtpChannel = AsyncDisposable & {
  /**
   * Makes one attempt. It succeeded once the server accepted the mail for its recipient, whatever became of `cc` and
   * `bcc`. Replies 4xx are transient, 5xx permanent, network errors and refusals of the guard transient. A timeout or
   * cancellation may come after the server accepted the mail: a later attempt then repeats it under the same Message-ID.
   * Never rejects for what the server does.
   */
  send(provider: SmtpProvider, mail: MailContent, signal?: AbortSignal): Promise<AttemptResult>;
  /** Tries a provider's settings, and sends a test mail when an address is given. */
  verify(provider: SmtpProvider, toEmail?: string | null): Promise<SmtpVerdict>;
};

const MAX_POOLS = 200;
const IDLE_CONNECTION_MS = 60_000;
const MAILS_PER_CONNECTION = 100;
// For a server that closed an idle connection before it got the mail.
const REQUEUES = 1;
// Max deliveries remembered whose copies were accepted while the recipient was refused.
const MAX_REMEMBERED_COPIES = 10_000;

type Pool = {
  readonly transport: Transporter<SMTPPoolSentMessageInfo, SMTPPoolOptions>;
  users: number;
  retired: boolean;
};

/** Makes the channel. Disposing it closes all connections. Attempts still under way then end as transient. */
export function createSmtpChannel(options: SmtpChannelOptions): SmtpChannel {
  const { guard, maxConnections = 5, attemptTimeoutMs = 60_000, verifyTimeoutMs = 20_000 } = options;
  const { connectTimeoutMs = 10_000, greetingTimeoutMs = 15_000, silenceTimeoutMs = 30_000 } = options;
  const timeouts = { connectTimeoutMs, greetingTimeoutMs, silenceTimeoutMs };
  const copied = new LRUCache<string, readonly string[]>({ max: MAX_REMEMBERED_COPIES });
  let closed = false;
  const retired = new Set<Pool>();
  const pools = new LRUCache<string, Pool>({
    max: MAX_POOLS,
    dispose: (pool) => {
      pool.retired = true;
      retired.add(pool);
      closeUnused(pool);
    },
  });

  // An evicted pool still sends the mails that wait in it.
  function closeUnused(pool: Pool) {
    if (!pool.retired || pool.users > 0) return;
    retired.delete(pool);
    pool.transport.close();
  }

  function poolOf(provider: SmtpProvider): Pool {
    const key = settingsKey(provider);
    const known = pools.get(key);
    if (known) return known;
    const auth = credentials(provider);
    const settings: SMTPPoolOptions & { pool: true } = {
      ...connectionOptions(provider, timeouts),
      ...(auth ? { auth, forceAuth: true } : {}),
      pool: true,
      maxConnections,
      maxMessages: MAILS_PER_CONNECTION,
      maxRequeues: REQUEUES,
      idleTimeout: IDLE_CONNECTION_MS,
      getSocket: (_options, callback) => {
        openSmtpSocket(provider, guard, timeouts).then(
          (socket) => callback(null, socket),
          (failure: Error) => callback(failure),
        );
      },
    };
    const transport = createTransport(settings);
    const pool: Pool = { transport, users: 0, retired: false };
    pools.set(key, pool);
    return pool;
  }

  async function send(provider: SmtpProvider, mail: MailContent, signal?: AbortSignal): Promise<AttemptResult> {
    const { name } = provider;
    if (closed) return gaveUp(name, "cancelled", "The server is shutting down");
    const timeoutMs = provider.timeoutSeconds ? provider.timeoutSeconds * 1_000 : attemptTimeoutMs;
    using time = deadline(timeoutMs, signal);
    const pool = poolOf(provider);
    pool.users += 1;
    try {
      const message = buildMail(provider, mail);
      const [recipient = "", ...copies] = recipients(mail);
      const taken = copied.get(mail.deliveryId) ?? [];
      const to = [recipient, ...copies.filter((copy) => !taken.includes(copy))];
      const info = await pool.transport.sendMail({
        ...message,
        envelope: { from: provider.fromEmail, to },
        signal: time.signal,
      });
      // nodemailer may spell an address differently, but it keeps the order of the envelope.
      const refused = firstRecipientError(info, info.envelope.to[0]);
      if (refused !== null) {
        // The copies were sent: later attempts leave them out, as far as this process remembers.
        const accepted = to.filter((_, index) => info.accepted.includes(info.envelope.to[index] ?? ""));
        copied.set(mail.deliveryId, [...taken, ...accepted]);
        return failed(name, smtpFailure(refused));
      }
      return succeeded(name, info);
    } catch (error) {
      if (signal?.aborted) return gaveUp(name, "cancelled", "The attempt was cancelled");
      if (time.isUp) return gaveUp(name, "timeout", `The mail was not taken within ${timeoutMs / 1_000} s`);
      return failed(name, smtpFailure(error));
    } finally {
      pool.users -= 1;
      closeUnused(pool);
    }
  }

  return {
    send,
    verify: (provider, toEmail) =>
      verifySmtp({ guard, timeouts, timeoutMs: verifyTimeoutMs }, provider, toEmail ?? null),
    [Symbol.asyncDispose]: async () => {
      closed = true;
      const all = new Set([...pools.values(), ...retired]);
      pools.clear();
      for (const pool of all) pool.transport.close({ force: true });
    },
  };
}

/** Identifies a provider's connection settings. */
const settingsKey = ({ host, port, username, password, security }: SmtpProvider): string =>
  JSON.stringify([host, port, username, password, security]);

function succeeded(provider: string, info: SMTPPoolSentMessageInfo): AttemptResult {
  const status = Number(/^\d{3}/.exec(info.response)?.[0] ?? 250);
  const response = { status, body: storedText(Buffer.from(info.response)) };
  return { ...emptyResult(provider), outcome: "succeeded", response, providerMessageId: info.messageId };
}

function failed(provider: string, { permanent, code, message, status, text }: SmtpFailure): AttemptResult {
  const response = status === null ? null : { status, body: storedText(Buffer.from(text ?? "")) };
  const outcome = permanent ? "permanent" : "transient";
  return { ...emptyResult(provider), outcome, response, error: { code, message } };
}

const gaveUp = (provider: string, code: "cancelled" | "timeout", message: string): AttemptResult => ({
  ...emptyResult(provider),
  outcome: "transient",
  error: { code, message },
});
