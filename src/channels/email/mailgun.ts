// channels/email/mailgun.ts: sends mails through Mailgun's API, as MIME.

import { z } from "zod";
import { DELIVERY_ARGUMENT } from "../../contract/providers.ts";
import type { ProviderSettings } from "../../domain/provider.ts";
import { type ApiAnswer, type ApiRefusal, type MailApi, USER_AGENT } from "./http-api.ts";
import type { MailParts } from "./message.ts";
import { composeMail } from "./mime.ts";

const ORIGINS = { us: "https://api.mailgun.net", eu: "https://api.eu.mailgun.net" } as const;

type MailgunSettings = Extract<ProviderSettings, { type: "mailgun" }>;

export function mailgun({ config, options }: MailgunSettings): MailApi {
  const { api_key, domain, region, webhook_signing_key, base_url } = config;
  const origin = base_url ?? ORIGINS[region];
  const { trackOpens, trackClicks } = options;
  const basic = Buffer.from(`api:${api_key}`).toString("base64");

  /** Posts a form to the domain's MIME endpoint. A key that may only send may call no other. */
  async function post(form: FormData) {
    // Serialises the form and makes its boundary.
    const encoded = new Response(form);
    return {
      method: "POST" as const,
      url: new URL(`${origin}/v3/${encodeURIComponent(domain)}/messages.mime`),
      headers: {
        authorization: `Basic ${basic}`,
        "content-type": encoded.headers.get("content-type") ?? "",
        "user-agent": USER_AGENT,
      },
      body: Buffer.from(await encoded.arrayBuffer()),
    };
  }

  async function send(parts: MailParts) {
    const { envelope, message } = await composeMail(parts);
    const form = new FormData();
    // Who gets the mail, blind copies too; its headers name the others.
    for (const address of [envelope.to].flat()) form.append("to", String(address));
    form.append("message", new Blob([new Uint8Array(message)], { type: "message/rfc822" }), "message.mime");
    for (const tag of parts.tags) form.append("o:tag", tag);
    if (trackOpens !== null) form.append("o:tracking-opens", yesNo(trackOpens));
    if (trackClicks !== null) form.append("o:tracking-clicks", yesNo(trackClicks));
    form.append(`v:${DELIVERY_ARGUMENT}`, parts.deliveryId);
    return post(form);
  }

  return {
    ...{ origin, account: domain, secrets: [api_key, basic, webhook_signing_key], send },
    probe: () => {
      // Without a recipient it is refused with 400, after the key was checked.
      const form = new FormData();
      form.append("to", "");
      return post(form);
    },
    accepted: ({ json }) => ({ messageId: Accepted.safeParse(json).data?.id ?? null }),
    refused,
    probed: ({ status }) => status === 400 || (status >= 200 && status < 300),
  };
}

const yesNo = (value: boolean): string => (value ? "yes" : "no");
const Accepted = z.object({ id: z.string() });
const Refused = z.object({ message: z.string() });

function refused({ status, json }: ApiAnswer): ApiRefusal {
  const message = Refused.safeParse(json).data?.message ?? "";
  // The domain is none of the account's.
  if (status === 404) return { refusal: "account" };
  if (status !== 400) return {};
  if (/^'?to'? parameter is not a valid address/i.test(message)) return { refusal: "recipient" };
  return /^'?from'? parameter is not a valid address/i.test(message) ? { refusal: "sender" } : {};
}
