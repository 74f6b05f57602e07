// channels/email/channel.ts: the way out for mails, through a provider of any type.

import { MAX_TIMEOUT_SECONDS } from "../../contract/providers.ts";
import { SECOND_MS } from "../../contract/time.ts";
import type { ProviderSettings } from "../../domain/provider.ts";
import { createHttpClient } from "../outgoing-http.ts";
import { apiProvider, type MailApi } from "./http-api.ts";
import { mailgun } from "./mailgun.ts";
import { postmark } from "./postmark.ts";
import type { EmailProvider } from "./provider.ts";
import { sendgrid } from "./sendgrid.ts";
import { ses } from "./ses.ts";
import { createSmtpChannel, type SmtpChannelOptions } from "./smtp.ts";

export type EmailChannel = AsyncDisposable & { readonly provider: (settings: ProviderSettings) => EmailProvider };

/**
 * Four times the connections that the channel keeps: one client gets half, so that its next attempts are in the log when a
 * connection is free. More wait as jobs, where clients take part fairly, and not yet as attempts.
 */
const MAIL_ATTEMPTS_PER_SERVER = 20;
const VERIFY_TIMEOUT_MS = 20_000;

/** An attempt must end well within its lease, whatever a provider's options say. */
const maxMsOf = ({ options: { timeoutSeconds } }: ProviderSettings): number =>
  Math.min(timeoutSeconds ?? MAX_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS) * SECOND_MS;

type EmailChannelOptions = SmtpChannelOptions & {
  /** The time that requests are signed with. */
  readonly now?: () => number;
};

/** Makes the channel. Disposing it closes all connections. Attempts still under way then end as `cancelled`. */
export function createEmailChannel(options: EmailChannelOptions): EmailChannel {
  const { guard, verifyTimeoutMs = VERIFY_TIMEOUT_MS, now = Date.now } = options;
  const smtp = createSmtpChannel(options);
  const http = createHttpClient({ guard, connectTimeoutMs: 5_000, bodyTimeoutMs: 5_000, maxResponseBytes: 65_536 });
  const closing = new AbortController();
  const throughApi = (settings: ProviderSettings, api: MailApi) =>
    apiProvider(settings, api, { http, maxMs: maxMsOf(settings), verifyTimeoutMs, closing: closing.signal });

  function throughSmtp(settings: Extract<ProviderSettings, { type: "smtp" }>): EmailProvider {
    const { name, type, config, fromEmail, fromName, replyTo, options } = settings;
    const maxMs = maxMsOf(settings);
    const timeoutSeconds = maxMs / SECOND_MS;
    const provider = { ...config, name, fromEmail, fromName, replyTo, tags: options.tags, timeoutSeconds };
    const account = `smtp:${config.host}:${config.port}:${config.username ?? ""}`;
    return {
      ...{ name, type, account, attemptsAtOnce: MAIL_ATTEMPTS_PER_SERVER, maxMs },
      send: (mail, signal, onHandedOver) => smtp.send(provider, mail, signal, onHandedOver),
      verify: (toEmail) => smtp.verify(provider, toEmail),
    };
  }

  return {
    provider(settings) {
      switch (settings.type) {
        case "smtp":
          return throughSmtp(settings);
        case "mailgun":
          return throughApi(settings, mailgun(settings));
        case "sendgrid":
          return throughApi(settings, sendgrid(settings, now));
        case "postmark":
          return throughApi(settings, postmark(settings));
        case "ses":
          return throughApi(settings, ses(settings, now));
      }
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await http[Symbol.asyncDispose]();
      await smtp[Symbol.asyncDispose]();
    },
  };
}
