// channels/email/smtp.ts: sends mails by SMTP over a pool of connections for each provider's settings.

import { LRUCache } from "lru-cache";
import { SECOND_MS } from "../../contract/time.ts";
import { type AttemptResult, emptyResult, type RecipientResult, type Redact, storedText } from "../attempt-result.ts";
import type { AddressGuard } from "../guard.ts";
import { deadline } from "../outgoing-socket.ts";
import { type MailContent, partsOf } from "./message.ts";
import { composeMail } from "./mime.ts";
import type { EmailVerdict } from "./provider.ts";
import {
  refusedRecipients,
  type SmtpFailure,
  type SmtpProvider,
  SmtpSession,
  type SmtpSettings,
  type SmtpTimeouts,
  smtpFailure,
  smtpRedactor,
} from "./smtp-connection.ts";
import { SmtpPool } from "./smtp-pool.ts";
import { verifySmtp } from "./verify.ts";

export type SmtpChannelOptions = Partial<SmtpTimeouts> & {
  readonly guard: AddressGuard;
  /** The name that EHLO gives. Default: this machine's own. */
  readonly ehloName?: string | undefined;
  /** Connections to one provider at a time. */
  readonly maxConnections?: number;
  /** For one attempt, until all of the mail has left. Waiting for a free connection counts. */
  readonly attemptTimeoutMs?: number;
  readonly verifyTimeoutMs?: number;
};

const MAX_POOLS = 200;

/** Makes the channel. Disposing it closes all connections. Attempts still under way then end as transient. */
export function createSmtpChannel(options: SmtpChannelOptions) {
  const { guard, ehloName, maxConnections = 5, attemptTimeoutMs = 60_000, verifyTimeoutMs = 20_000 } = options;
  const { connectTimeoutMs = 10_000, greetingTimeoutMs = 15_000, silenceTimeoutMs = 30_000 } = options;
  const { acceptTimeoutMs = 600_000 } = options;
  const settings: SmtpSettings = {
    ...{ guard, ehloName, connectTimeoutMs, greetingTimeoutMs, silenceTimeoutMs, acceptTimeoutMs },
  };
  const closing = new AbortController();
  // One that is pushed out still sends the mails that wait in it.
  const pools = new LRUCache<string, SmtpPool>({ max: MAX_POOLS, dispose: (pool) => pool.retire() });

  function poolOf(provider: SmtpProvider): SmtpPool {
    const { host, port, username, password, security } = provider;
    const key = JSON.stringify([host, port, username, password, security]);
    const open = (signal: AbortSignal) => SmtpSession.open(provider, settings, { signal });
    const pool = pools.get(key) ?? new SmtpPool({ open, maxConnections });
    pools.set(key, pool);
    return pool;
  }

  /**
   * Makes one attempt for the recipients that are not settled yet. It succeeded once the server accepted the mail for its
   * recipient and no copy waits for another attempt; what became of each is in `recipients`. Replies 4xx are transient, 5xx
   * permanent, network errors and refusals of the account and of the guard transient. From the moment that all of the mail has left the server
   * has ten minutes to answer; what is not known then is unknown: a later attempt repeats it under the same Message-ID.
   * `onHandedOver` is called at that moment. Never rejects for what the server does.
   */
  async function send(
    provider: SmtpProvider,
    mail: MailContent,
    signal?: AbortSignal,
    onHandedOver?: (answersWithinMs: number) => void,
  ): Promise<AttemptResult> {
    const { name } = provider;
    const timeoutMs = provider.timeoutSeconds ? provider.timeoutSeconds * SECOND_MS : attemptTimeoutMs;
    const redact = smtpRedactor(provider);
    using time = deadline(timeoutMs, signal, closing.signal);
    let handedOver = false;
    const outcomeOf = (error: unknown): AttemptResult => {
      const outcome = handedOver ? ("unknown" as const) : ("transient" as const);
      if (time.isUp) {
        const message = handedOver
          ? `The server had the whole mail and did not answer within ${acceptTimeoutMs / SECOND_MS} s`
          : `The mail was not taken within ${timeoutMs / SECOND_MS} s`;
        return { ...emptyResult(name), outcome, error: { code: "timeout", message } };
      }
      if (time.signal.aborted) {
        return { ...emptyResult(name), outcome, error: { code: "cancelled", message: "The attempt was cancelled" } };
      }
      const failure = smtpFailure(error);
      const result = failed(name, failure, redact);
      return handedOver && failure.status === null ? { ...result, outcome } : result;
    };
    try {
      const parts = await partsOf(provider, mail);
      const request = await composeMail(parts, provider.dkim);
      const answer = await withSession(provider, time.signal, (session) =>
        session.send(request, time.signal, () => {
          handedOver = true;
          time.restart(acceptTimeoutMs);
          onHandedOver?.(acceptTimeoutMs);
        }),
      );
      const refused = refusedRecipients(answer.rejectedErrors);
      // nodemailer may spell an address differently, but it keeps the order of the envelope.
      const { indexes, total } = parts.envelope;
      const failures = indexes.map((index, nth) => ({ index, failure: refused.get(request.envelope.to[nth] ?? "") }));
      const { messageId } = parts;
      return judge({ name, response: answer.response, failures, total, messageId, redact });
    } catch (error) {
      return outcomeOf(error);
    }
  }

  /** Runs on a session of the pool; on another one when the server had closed an idle one before it got the mail. */
  async function withSession<T>(
    provider: SmtpProvider,
    signal: AbortSignal,
    run: (session: SmtpSession) => Promise<T>,
  ) {
    const pool = poolOf(provider);
    for (;;) {
      const { session, reused } = await unlessAborted(pool, signal);
      try {
        const result = await run(session);
        pool.give(session);
        return result;
      } catch (error) {
        const { code, status } = smtpFailure(error);
        if (session.isUsable && status !== null) void session.reset(signal).then(() => pool.give(session));
        else {
          session.close();
          pool.give(session);
        }
        const wasClosed = reused && status === null && code === "connection_closed" && !signal.aborted;
        if (!wasClosed) throw error;
      }
    }
  }

  return {
    send,
    /** Tries a provider's settings, and sends a test mail when an address is given. */
    verify: (provider: SmtpProvider, toEmail?: string | null): Promise<EmailVerdict> =>
      verifySmtp(settings, verifyTimeoutMs, provider, toEmail ?? null),
    async [Symbol.asyncDispose]() {
      closing.abort();
      pools.clear();
    },
  };
}

/** A session, or the signal's reason as soon as it aborts: one that opens later goes back to the pool. */
async function unlessAborted(pool: SmtpPool, signal: AbortSignal) {
  const taking = pool.take(signal);
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    return await Promise.race([taking, aborted.promise]);
  } catch (error) {
    taking.then(
      ({ session }) => pool.give(session),
      () => {},
    );
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

type Answered = {
  readonly name: string;
  readonly response: string;
  /** Of each recipient of this attempt, by its place among all; undefined: taken. */
  readonly failures: readonly { readonly index: number; readonly failure: SmtpFailure | undefined }[];
  readonly total: number;
  readonly messageId: string;
  readonly redact: Redact;
};

/** Any recipient that was deferred makes the attempt transient; else it is what became of the mail's recipient. */
function judge({ name, response, failures, total, messageId, redact }: Answered): AttemptResult {
  const results = failures.map(({ index, failure }): RecipientResult => {
    if (failure === undefined) return { index, outcome: "taken", status: statusOf(response) };
    return { index, outcome: failure.permanent ? "refused" : "deferred", status: failure.status };
  });
  const deferred = failures.find(({ failure }) => failure?.permanent === false);
  const own = failures.find(({ index }) => index === 0);
  const decisive = own?.failure?.permanent === false ? own : (deferred ?? own);
  // The outcome of a lone recipient is that of the attempt.
  const each = total > 1 ? { recipients: results } : {};
  if (decisive?.failure === undefined) {
    const said = {
      status: statusOf(response),
      body: storedText(Buffer.from(/* fence: smtp-secrets */ redact(response))),
    };
    return { ...emptyResult(name), outcome: "succeeded", response: said, providerMessageId: messageId, ...each };
  }
  const result = failed(name, decisive.failure, redact);
  return { ...result, ...each, providerMessageId: own !== undefined && own.failure === undefined ? messageId : null };
}

const statusOf = (response: string): number => Number(/^\d{3}/.exec(response)?.[0] ?? 250);

function failed(provider: string, failure: SmtpFailure, redact: Redact): AttemptResult {
  const { permanent, code, message, refusal, status, text } = failure;
  const response = status === null ? null : { status, body: storedText(Buffer.from(redact(text ?? ""))) };
  return {
    ...emptyResult(provider),
    outcome: permanent ? "permanent" : "transient",
    response,
    error: { code, message },
    refusal,
  };
}
