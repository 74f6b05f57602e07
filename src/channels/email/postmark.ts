// channels/email/postmark.ts: sends mails through Postmark's API.

import { z } from "zod";
import type { Refusal } from "../../contract/deliveries.ts";
import { DELIVERY_ARGUMENT } from "../../contract/providers.ts";
import type { ProviderSettings } from "../../domain/provider.ts";
import { type ApiAnswer, type ApiRefusal, keyName, type MailApi, USER_AGENT } from "./http-api.ts";
import { addressedTo, type Mailbox, type MailParts } from "./message.ts";
import { encodedHeader } from "./mime.ts";

const ORIGIN = "https://api.postmarkapp.com";

type PostmarkSettings = Extract<ProviderSettings, { type: "postmark" }>;

export function postmark({ config, options }: PostmarkSettings): MailApi {
  const { server_token, message_stream, webhook_password, base_url } = config;
  const origin = base_url ?? ORIGIN;
  const headers = { accept: "application/json", "x-postmark-server-token": server_token, "user-agent": USER_AGENT };

  async function send(parts: MailParts) {
    const { trackOpens, trackClicks } = options;
    const body = JSON.stringify({
      ...mailOf(parts),
      ...(message_stream === null ? {} : { MessageStream: message_stream }),
      ...(trackOpens === null ? {} : { TrackOpens: trackOpens }),
      ...(trackClicks === null ? {} : { TrackLinks: trackClicks ? "HtmlAndText" : "None" }),
    });
    const url = new URL(`${origin}/email`);
    return { method: "POST" as const, url, headers: { ...headers, "content-type": "application/json" }, body };
  }

  return {
    ...{ origin, account: keyName(server_token), secrets: [server_token, webhook_password], send },
    probe: async () => ({ method: "GET", url: new URL(`${origin}/server`), headers, body: null }),
    accepted: ({ json }) => {
      const { MessageID = null, Message = "" } = Answered.safeParse(json).data ?? {};
      return { messageId: MessageID, refused: inactiveIn(Message) };
    },
    refused,
    probed: ({ status }) => status === 200,
  };
}

function mailOf(parts: MailParts) {
  const { to, cc, bcc } = addressedTo(parts);
  const { replyTo, html, tags, attachments } = parts;
  const [tag] = tags;
  const headers = [
    { Name: "Message-ID", Value: parts.messageId },
    // Without it Postmark makes a Message-ID of its own.
    { Name: "X-PM-KeepID", Value: "true" },
    ...parts.headers.map(([name, value]) => ({ Name: name, Value: encodedHeader(value) })),
  ];
  return {
    From: person(parts.from),
    To: to.map(person).join(", "),
    ...(cc.length > 0 ? { Cc: cc.map(person).join(", ") } : {}),
    ...(bcc.length > 0 ? { Bcc: bcc.map(person).join(", ") } : {}),
    ...(replyTo === null ? {} : { ReplyTo: person(replyTo) }),
    Subject: parts.subject,
    ...(html === null ? {} : { HtmlBody: html }),
    TextBody: parts.text,
    // It has one; the header has all.
    ...(tag === undefined ? {} : { Tag: tag }),
    Headers: headers,
    Metadata: { [DELIVERY_ARGUMENT]: parts.deliveryId },
    Attachments: attachments.map(({ filename, contentType, content, contentId }) => ({
      ...{ Name: filename, Content: content.toString("base64"), ContentType: contentType },
      ...(contentId === null ? {} : { ContentID: `cid:${contentId}` }),
    })),
  };
}

const person = ({ address, name }: Mailbox): string =>
  name === "" ? address : `"${name.replace(/[\\"]/g, "\\$&")}" <${address}>`;

const Answered = z.object({
  ErrorCode: z.number().default(0),
  Message: z.string().default(""),
  MessageID: z.string().nullable().default(null),
});

/** The addresses of a message that was taken for the others: "Message OK, but will not deliver to these inactive …: a, b". */
function inactiveIn(message: string): readonly string[] {
  if (!/will not deliver to/i.test(message)) return [];
  return message
    .slice(message.lastIndexOf(": ") + 1)
    .split(/[\s,]+/)
    .map((part) => part.replace(/[.;]$/, ""))
    .filter((part) => part.includes("@"));
}

/** Of Postmark's own error codes, whose fault each is. */
const FAULTS: ReadonlyMap<number, Refusal> = new Map([
  // No or a wrong token.
  [10, "account"],
  // The sender signature is not known, or not confirmed.
  [400, "sender"],
  [401, "sender"],
  // The account has no credits, is pending, or may not send.
  [405, "account"],
  [412, "account"],
  [413, "account"],
  // Every recipient is inactive.
  [406, "recipient"],
  // The message stream is not the server's.
  [1235, "account"],
]);
/** Offline for maintenance, and too many requests. */
const TRANSIENT: readonly number[] = [100, 429];

function refused({ status, json }: ApiAnswer): ApiRefusal {
  const { ErrorCode: code, Message: message } = Answered.safeParse(json).data ?? { ErrorCode: 0, Message: "" };
  if (TRANSIENT.includes(code)) return { transient: true };
  if (status !== 422) return {};
  if (code === 300 && /^Invalid 'To'/i.test(message)) return { refusal: "recipient" };
  if (code === 300 && /^Invalid 'From'/i.test(message)) return { refusal: "sender" };
  return { refusal: FAULTS.get(code) ?? null };
}
