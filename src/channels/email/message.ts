// channels/email/message.ts: one mail as it is given to a provider. Only its date differs between attempts.

import { convert } from "html-to-text";
import { LRUCache } from "lru-cache";
import type { SendMailOptions } from "nodemailer";
import { canonicalMailAddress } from "../../contract/fields.ts";
import type { Instant } from "../../contract/time.ts";

type MailAddress = { readonly email: string; readonly name?: string | null };

/** The sender, from the provider's settings. */
export type MailSender = {
  readonly fromEmail: string;
  readonly fromName?: string | null;
  /** The reply address of mails that name none. */
  readonly replyTo?: string | null;
};

/** One mail to one recipient. `cc` and `bcc` get copies of it. */
export type MailContent = {
  readonly deliveryId: string;
  readonly to: MailAddress;
  readonly cc?: readonly MailAddress[];
  readonly bcc?: readonly MailAddress[];
  readonly replyTo?: string | null;
  readonly subject: string;
  /** HTML or plain text, detected from the content. */
  readonly content: string;
  /** The plain part. Made from HTML content when absent. */
  readonly text?: string | null;
  /** The time of this attempt. */
  readonly at: Instant;
};

const DELIVERY_HEADER = "X-ChatAPI-Delivery";
/** Not the sender's domain: the next attempt may go through another provider, and is still the same mail. */
const MESSAGE_ID_DOMAIN = "chatapi.internal";

/** A mail that no attempt can send. */
export class InvalidMail extends Error {}

/**
 * Builds the mail. Its Message-ID is derived from the delivery, so that a receiver can tell a second attempt from a
 * second mail. Line breaks and control characters become spaces in names and subject. Throws `InvalidMail` for an
 * address that could mean anything but one mailbox.
 */
export function buildMail(sender: MailSender, mail: MailContent): SendMailOptions {
  const from = mailbox({ email: sender.fromEmail, name: sender.fromName ?? null });
  const to = mailbox(mail.to);
  const cc = (mail.cc ?? []).map(mailbox);
  const replyTo = mail.replyTo ?? sender.replyTo ?? null;
  return {
    from,
    to: [to],
    ...(cc.length > 0 ? { cc } : {}),
    ...(replyTo === null ? {} : { replyTo: mailbox({ email: replyTo }) }),
    subject: headerText(mail.subject),
    ...parts(mail),
    messageId: messageId(mail.deliveryId),
    date: new Date(mail.at),
    headers: { "Auto-Submitted": "auto-generated", [DELIVERY_HEADER]: headerText(mail.deliveryId) },
    // nodemailer would write "X-Chatapi-Delivery".
    normalizeHeaderKey: (key) => (key.toLowerCase() === DELIVERY_HEADER.toLowerCase() ? DELIVERY_HEADER : key),
    // Blind copies are only in the envelope.
    envelope: { from: from.address, to: recipients(mail) },
    // Content comes from tenants: it must not make us read files or URLs.
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** The Message-ID of a delivery's mail, with its angle brackets. */
const messageId = (deliveryId: string): string =>
  `<${deliveryId.replace(/[^A-Za-z0-9._-]/g, "")}@${MESSAGE_ID_DOMAIN}>`;

/** All addresses that a mail goes to, each once, the recipient first. */
export function recipients(mail: MailContent): string[] {
  const all = [mail.to, ...(mail.cc ?? []), ...(mail.bcc ?? [])];
  return [...new Set(all.map((address) => mailbox(address).address))];
}

function parts(mail: MailContent): { text: string; html?: string } {
  const content = clean(mail.content);
  const text = mail.text === undefined || mail.text === null ? null : clean(mail.text);
  if (looksLikeHtml(content)) {
    // A mail of pictures alone has no text, but it still gets a plain part.
    return { html: content, text: text ?? (textFromHtml(content) || headerText(mail.subject)) };
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

/** One mailbox. Refuses what mail programs could read as several addresses, a comment, a route or a second line. */
function mailbox({ email, name }: MailAddress): { address: string; name: string } {
  const address = canonicalMailAddress(email.trim().toWellFormed());
  if (address === undefined) throw new InvalidMail("An address is not a single mailbox");
  return { address, name: headerText(name ?? "") };
}

// Elements of mails, without attributes or with at least one that has a value. "<3", "<jane@example.com>" and "if a<b
// and b>c" in plain text are not HTML.
const ELEMENTS =
  "a|abbr|address|article|aside|b|big|blockquote|body|br|button|caption|center|cite|code|col|colgroup|dd|del|details|" +
  "div|dl|dt|em|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|li|link|main|" +
  "mark|meta|nav|ol|p|picture|pre|q|s|samp|section|small|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|" +
  "tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr";
const HTML = new RegExp(`<!doctype\\s|<!--|</?(?:${ELEMENTS})(?:\\s*|\\s[^<>=]*=[^<>]*)/?>`, "i");

/** True when the content has at least one element, comment or doctype of HTML. */
export const looksLikeHtml = (content: string): boolean => HTML.test(content);

// Content comes from tenants: nesting and number of elements are bounded. Beyond that the text ends in an ellipsis.
const LIMITS = { maxInputLength: 1_048_576, maxDepth: 100, maxChildNodes: 20_000, ellipsis: "…" };
const asWritten = { uppercase: false };

// A thousand recipients get the same content, and converting a large one takes a tenth of a second.
const MAX_CACHED_CHARACTERS = 8_388_608;
const textCache = new LRUCache<string, string>({
  maxSize: MAX_CACHED_CHARACTERS,
  sizeCalculation: (text, html) => text.length + html.length + 1,
  memoMethod: convertHtml,
});

/** The text of a mail for readers without HTML. Links keep their addresses, headings their case. */
export const textFromHtml = (html: string): string => textCache.memo(html);

function convertHtml(html: string): string {
  return convert(html, {
    wordwrap: 78,
    limits: LIMITS,
    selectors: [
      ...["h1", "h2", "h3", "h4", "h5", "h6"].map((selector) => ({ selector, options: asWritten })),
      { selector: "a", options: { hideLinkHrefIfSameAsText: true } },
      { selector: "img", format: "skip" },
    ],
  });
}

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** Plain text as HTML that shows exactly the same, line breaks and runs of spaces included. */
function htmlFromText(text: string): string {
  const escaped = text.replace(/[&<>"]/g, (character) => ESCAPES[character] ?? character);
  return `<div style="white-space: pre-wrap">${escaped}</div>`;
}
