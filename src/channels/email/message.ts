// channels/email/message.ts: one mail as it is handed to a provider, the same on every attempt but for its date.

import { isIP } from "node:net";
import { domainToASCII } from "node:url";
import type { SendMailOptions } from "nodemailer";
import type { Instant } from "../../domain/time.ts";
import { htmlFromText, looksLikeHtml, textFromHtml } from "./html.ts";

type MailAddress = { readonly email: string; readonly name?: string | null };

/** Who a mail comes from: the provider's settings. */
export type MailSender = {
  readonly fromEmail: string;
  readonly fromName?: string | null;
  /** Where answers go when the mail itself does not say. */
  readonly replyTo?: string | null;
};

/** One mail to one recipient; `cc` and `bcc` share it. */
export type MailContent = {
  readonly deliveryId: string;
  readonly to: MailAddress;
  readonly cc?: readonly MailAddress[];
  readonly bcc?: readonly MailAddress[];
  readonly replyTo?: string | null;
  readonly subject: string;
  /** HTML or plain text; which, it tells by itself. */
  readonly content: string;
  /** The plain part; made from HTML content when absent. */
  readonly text?: string | null;
  /** The time of this attempt. */
  readonly at: Instant;
};

const DELIVERY_HEADER = "X-ChatAPI-Delivery";

/** A mail that no attempt can send, as it stands. */
export class InvalidMail extends Error {}

/**
 * Builds the mail. Its Message-ID is the delivery's, so that a receiver can tell a second attempt from a second mail.
 * Line breaks and control characters become spaces in names and subject. Throws `InvalidMail` for an address that
 * could mean anything but one mailbox.
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
    // Blind copies are in the envelope alone.
    envelope: { from: from.address, to: recipients(mail) },
    // Content is a tenant's: it may name neither files nor URLs for us to read.
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** Not the sender's domain: the next attempt may go through another provider, and is still the same mail. */
const MESSAGE_ID_DOMAIN = "chatapi.internal";

/** The Message-ID of a delivery's mail, with its angle brackets. */
const messageId = (deliveryId: string): string =>
  `<${deliveryId.replace(/[^A-Za-z0-9._-]/g, "")}@${MESSAGE_ID_DOMAIN}>`;

/** All addresses that a mail goes to, each once, its recipient first. */
export function recipients(mail: MailContent): string[] {
  const all = [mail.to, ...(mail.cc ?? []), ...(mail.bcc ?? [])];
  return [...new Set(all.map((address) => mailbox(address).address))];
}

function parts(mail: MailContent): { text: string; html?: string } {
  const content = clean(mail.content);
  const text = mail.text === undefined || mail.text === null ? null : clean(mail.text);
  if (looksLikeHtml(content)) {
    // A mail of pictures alone has no text of its own, but still a plain part.
    return { html: content, text: text ?? (textFromHtml(content) || headerText(mail.subject)) };
  }
  return text === null ? { text: content } : { html: htmlFromText(content), text };
}

const clean = (text: string) => text.toWellFormed().replaceAll("\0", "");

/** A header's text on one line: whatever could end it or start another one becomes a space. */
function headerText(text: string): string {
  return text
    .toWellFormed()
    .replace(/[\p{Cc}\u2028\u2029]+/gu, " ")
    .trim();
}

const LONGEST_ADDRESS = 254;

/** One mailbox. Refuses all that mail programs could read as several addresses, a comment, a route or a second line. */
function mailbox({ email, name }: MailAddress): { address: string; name: string } {
  const match = /^([^\s\p{Cc}@,;:<>()[\]\\"]+)@([^\s\p{Cc}@,;:<>()[\]\\"]+)$/u.exec(email.trim().toWellFormed());
  const [, local = "", written = ""] = match ?? [];
  const domain = domainToASCII(written);
  if (domain === "" || isIP(domain) !== 0 || local.length + domain.length >= LONGEST_ADDRESS) {
    throw new InvalidMail("An address is not a single mailbox");
  }
  return { address: `${local}@${domain}`, name: headerText(name ?? "") };
}
