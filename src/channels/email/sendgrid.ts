// channels/email/sendgrid.ts: sends mails through SendGrid's API, v3.

import { z } from "zod";
import { DELIVERY_ARGUMENT } from "../../contract/providers.ts";
import { DAY_MS, SECOND_MS } from "../../contract/time.ts";
import type { ProviderSettings } from "../../domain/provider.ts";
import { type ApiAnswer, type ApiRefusal, keyName, type MailApi, USER_AGENT } from "./http-api.ts";
import { addressedTo, type Mailbox, type MailParts } from "./message.ts";
import { encodedHeader } from "./mime.ts";

const ORIGINS = { global: "https://api.sendgrid.com", eu: "https://api.eu.sendgrid.com" } as const;
const SEND_SCOPE = "mail.send";

type SendgridSettings = Extract<ProviderSettings, { type: "sendgrid" }>;

/** `now`: the time that a vendor's limit is counted from. */
export function sendgrid({ config, options }: SendgridSettings, now: () => number): MailApi {
  const { api_key, region, base_url } = config;
  const origin = base_url ?? ORIGINS[region];
  const headers = { authorization: `Bearer ${api_key}`, "user-agent": USER_AGENT };

  async function send(parts: MailParts) {
    const body = JSON.stringify(mailOf(parts, options));
    const url = new URL(`${origin}/v3/mail/send`);
    return { method: "POST" as const, url, headers: { ...headers, "content-type": "application/json" }, body };
  }

  return {
    ...{ origin, account: keyName(api_key), secrets: [api_key], send },
    // Every key may read what it may do.
    probe: async () => ({ method: "GET", url: new URL(`${origin}/v3/scopes`), headers, body: null }),
    accepted: ({ header }) => ({ messageId: header("x-message-id") }),
    refused: (answer) => refused(answer, now()),
    probed: ({ status, json }) => status === 200 && (Scopes.safeParse(json).data?.scopes ?? []).includes(SEND_SCOPE),
  };
}

const Scopes = z.object({ scopes: z.array(z.string()) });

function mailOf(parts: MailParts, { trackOpens, trackClicks }: SendgridSettings["options"]) {
  const { to, cc, bcc } = addressedTo(parts);
  const { replyTo, html, tags, attachments } = parts;
  const copies = {
    ...(cc.length > 0 ? { cc: cc.map(person) } : {}),
    ...(bcc.length > 0 ? { bcc: bcc.map(person) } : {}),
  };
  const opens = trackOpens === null ? {} : { open_tracking: { enable: trackOpens } };
  const clicks = trackClicks === null ? {} : { click_tracking: { enable: trackClicks, enable_text: trackClicks } };
  const files = attachments.map(({ filename, contentType, content, contentId }) => ({
    ...{ content: content.toString("base64"), type: contentType, filename },
    ...(contentId === null ? { disposition: "attachment" } : { disposition: "inline", content_id: contentId }),
  }));
  return {
    personalizations: [{ to: to.map(person), ...copies }],
    from: person(parts.from),
    ...(replyTo === null ? {} : { reply_to: person(replyTo) }),
    subject: parts.subject,
    content: [
      { type: "text/plain", value: parts.text },
      ...(html === null ? [] : [{ type: "text/html", value: html }]),
    ],
    ...(files.length > 0 ? { attachments: files } : {}),
    headers: {
      "Message-ID": parts.messageId,
      ...Object.fromEntries(parts.headers.map(([name, value]) => [name, encodedHeader(value)])),
    },
    ...(tags.length > 0 ? { categories: tags } : {}),
    custom_args: { [DELIVERY_ARGUMENT]: parts.deliveryId },
    tracking_settings: { ...opens, ...clicks },
  };
}

const person = ({ address, name }: Mailbox) => (name === "" ? { email: address } : { email: address, name });

const Refused = z.object({
  errors: z.array(z.object({ message: z.string().nullish(), field: z.string().nullish() })),
});

function refused({ status, header, json }: ApiAnswer, now: number): ApiRefusal {
  const errors = Refused.safeParse(json).data?.errors ?? [];
  const fields = errors.map(({ field }) => field ?? "");
  if (status === 429) {
    const resetAt = Number(header("x-ratelimit-reset") ?? Number.NaN) * SECOND_MS;
    const wait = Math.min(Math.max(0, resetAt - now), DAY_MS);
    return header("retry-after") !== null || Number.isNaN(wait) ? {} : { retryAfterMs: wait };
  }
  // 403 too, when the address is no verified sender.
  if (fields.some((field) => field === "from" || field.startsWith("from."))) return { refusal: "sender" };
  if (status !== 400) return {};
  return fields.some((field) => /^personalizations\.\d+\.to\b/.test(field)) ? { refusal: "recipient" } : {};
}
