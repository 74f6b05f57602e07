// channels/email/message.ts: one mail as it is given to a provider. Only its date differs between attempts.

import { domainToASCII } from "node:url";
import type { SendMailOptions } from "nodemailer";
import MailComposer from "nodemailer/lib/mail-composer";
import { encodeWord } from "nodemailer/lib/mime-funcs";
import { canonicalMailAddress } from "../../contract/fields.ts";
import type { Instant } from "../../contract/time.ts";
import { looksLikeHtml, textFromHtml } from "./html-text.ts";

type MailAddress = { readonly email: string; readonly name?: string | null };

/** The sender, from the provider's settings. */
export type MailSender = {
  readonly fromEmail: string;
  readonly fromName?: string | null;
  /** The reply address of mails that name none. */
  readonly replyTo?: string | null;
};

/** A file of a mail. With a `contentId` the HTML shows it as `cid:<contentId>`. */
export type MailAttachment = {
  readonly filename: string;
  readonly contentType: string;
  readonly content: Buffer;
  readonly contentId: string | null;
};

/** One mail to one recipient. `cc` and `bcc` get copies of it. */
export type MailContent = {
  readonly deliveryId: string;
  readonly to: MailAddress;
  readonly cc?: readonly MailAddress[];
  readonly bcc?: readonly MailAddress[];
  readonly replyTo?: string | null;
  /** The sender of this mail. Default: the provider's. */
  readonly from?: MailAddress | null;
  readonly subject: string;
  readonly content: string;
  /** Detected from the content when absent. */
  readonly contentType?: "html" | "text" | null;
  /** The plain part. Made from HTML content when absent. */
  readonly text?: string | null;
  readonly attachments?: readonly MailAttachment[];
  /** Further headers, by name, none of ours among them. */
  readonly headers?: Readonly<Record<string, string>>;
  /** What the provider's statistics group it by. */
  readonly tag?: string | null;
  /** Where one click ends mails of this kind (RFC 8058). */
  readonly unsubscribeUrl?: string | null;
  /** The sender of the envelope, where bounces go, of providers that let us choose it. Default: the sender. */
  readonly returnPath?: string | null;
  /** The domain of the Message-ID: that of the delivery's first sender. Default: the sender's. */
  readonly domain?: string | null;
  /** Recipients, by their place among all, that have it already, or never will. */
  readonly settled?: readonly number[];
  /** The time of this attempt. */
  readonly at: Instant;
};

const DELIVERY_HEADER = "X-ChatAPI-Delivery";
/** A mail that no attempt can send. */
export class InvalidMail extends Error {}

/**
 * Builds the mail. Its Message-ID is derived from the delivery, so that a receiver can tell a second attempt from a
 * second mail. Line breaks and control characters become spaces in names and subject. Throws `InvalidMail` for an
 * address that could mean anything but one mailbox.
 */
async function buildMail(sender: MailSender, mail: MailContent): Promise<SendMailOptions> {
  const from = mailbox({ email: sender.fromEmail, name: sender.fromName ?? null });
  const to = mailbox(mail.to);
  const cc = (mail.cc ?? []).map(mailbox);
  const replyTo = mail.replyTo ?? sender.replyTo ?? null;
  const settled = new Set(mail.settled ?? []);
  const subject = headerText(mail.subject);
  const encoded = subject.includes(ENCODED_MARK);
  return {
    from,
    to: [to],
    ...(cc.length > 0 ? { cc } : {}),
    ...(encoded ? {} : { subject }),
    ...(replyTo === null ? {} : { replyTo: mailbox({ email: replyTo }) }),
    ...(await parts(mail)),
    attachments: (mail.attachments ?? []).map(({ contentId, ...file }) =>
      contentId === null ? file : { ...file, cid: contentId, contentDisposition: "inline" as const },
    ),
    messageId: messageIdOf(mail.deliveryId, domainOf(sender, mail)),
    date: new Date(mail.at),
    headers: {
      "Auto-Submitted": "auto-generated",
      [DELIVERY_HEADER]: headerText(mail.deliveryId),
      ...unsubscribeHeaders(mail.unsubscribeUrl ?? null),
      ...(encoded ? { Subject: { prepared: true, foldLines: true, value: asTyped(subject) } } : {}),
    },
    // nodemailer would write "X-Chatapi-Delivery".
    normalizeHeaderKey: (key) => (key.toLowerCase() === DELIVERY_HEADER.toLowerCase() ? DELIVERY_HEADER : key),
    // Blind copies are only in the envelope.
    envelope: { from: from.address, to: recipients(mail).filter((_, index) => !settled.has(index)) },
    // Content comes from tenants: it must not make us read files or URLs.
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** RFC 8058, unfolded: some mail programs read the first line alone. */
function unsubscribeHeaders(url: string | null) {
  if (url === null) return {};
  const header = (value: string) => ({ prepared: true, foldLines: false, value });
  return {
    "List-Unsubscribe": header(`<${headerText(url)}>`),
    "List-Unsubscribe-Post": header("List-Unsubscribe=One-Click"),
  };
}

/** A mail as it goes over the wire. Throws `InvalidMail` as above. */
export async function composeMail(sender: MailSender, mail: MailContent) {
  const node = new MailComposer(await buildMail(sender, mail)).compile();
  if ("_encodeAddressName" in node && typeof node._encodeAddressName === "function") {
    const nameOf = node._encodeAddressName.bind(node);
    // nodemailer writes such a name in quotes, in which readers decode it all the same.
    const _encodeAddressName = (name: string): unknown =>
      /* fence: encoded-words */ name.includes(ENCODED_MARK) ? asTyped(name) : nameOf(name);
    Object.assign(node, { _encodeAddressName });
  }
  return { envelope: node.getEnvelope(), message: await node.build() };
}

/** The domain of a mail's Message-ID. */
export const domainOf = ({ fromEmail }: MailSender, { domain }: MailContent): string =>
  domain ?? senderDomain(fromEmail);

/** The domain of a sender's address, in ASCII. */
export const senderDomain = (email: string): string => domainToASCII(email.slice(email.lastIndexOf("@") + 1));

/** The Message-ID of a delivery's mail, with its angle brackets. */
export const messageIdOf = (deliveryId: string, domain: string): string =>
  `<${deliveryId.replace(/[^A-Za-z0-9._-]/g, "")}@${domain}>`;

/** All addresses that a mail goes to, each once, the recipient first. */
export function recipients(mail: MailContent): string[] {
  const all = [mail.to, ...(mail.cc ?? []), ...(mail.bcc ?? [])];
  return [...new Set(all.map((address) => mailbox(address).address))];
}

async function parts(mail: MailContent): Promise<{ text: string; html?: string }> {
  const content = clean(mail.content);
  const text = mail.text === undefined || mail.text === null ? null : clean(mail.text);
  if ((mail.contentType ?? (looksLikeHtml(content) ? "html" : "text")) === "html") {
    // A mail of pictures alone may have no text, but it still gets a plain part.
    return { html: content, text: text ?? ((await textFromHtml(content)) || headerText(mail.subject)) };
  }
  return text === null ? { text: content } : { html: htmlFromText(content), text };
}

const clean = (text: string) => text.toWellFormed().replaceAll("\0", "");

/** A header's text on one line. Characters that could end it or start another one become a space. */
function headerText(text: string): string {
  return text
    .toWellFormed()
    .replace(/[\p{Cc}\u2028\u2029]+/gu, " ")
    .trim();
}

/** What readers of mail would take for an encoded word. */
const ENCODED_MARK = "=?";
const MAX_ENCODED_BYTES = 52;

/** Text in which an encoded word was typed, encoded once more, so that it shows what was typed. */
const asTyped = (text: string): string => encodeWord(text, "B", MAX_ENCODED_BYTES);

/** One mailbox. Refuses what mail programs could read as several addresses, a comment, a route or a second line. */
function mailbox({ email, name }: MailAddress): { address: string; name: string } {
  const address = canonicalMailAddress(email.trim().toWellFormed());
  if (address === undefined) throw new InvalidMail("An address is not a single mailbox");
  return { address, name: headerText(name ?? "") };
}

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** Plain text as HTML that shows exactly the same, line breaks and runs of spaces included. */
function htmlFromText(text: string): string {
  const escaped = text.replace(/[&<>"]/g, (character) => ESCAPES[character] ?? character);
  return `<div style="white-space: pre-wrap">${escaped}</div>`;
}
