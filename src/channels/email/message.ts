// channels/email/message.ts: the parts of one mail, the same for every provider. Only its date differs between attempts.

import { domainToASCII } from "node:url";
import { canonicalMailAddress } from "../../contract/fields.ts";
import { DELIVERY_HEADER } from "../../contract/providers.ts";
import type { Instant } from "../../contract/time.ts";
import { looksLikeHtml, textFromHtml } from "./html-text.ts";

type MailAddress = { readonly email: string; readonly name?: string | null };

/** The sender, from the provider's settings. */
export type MailSender = {
  readonly fromEmail: string;
  readonly fromName?: string | null;
  /** The reply address of mails that name none. */
  readonly replyTo?: string | null;
  /** On every mail, beside its own. */
  readonly tags?: readonly string[];
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
  /** The envelope's sender, by SMTP. Default: the sender's address. */
  readonly returnPath?: string | null;
  /** The domain of the Message-ID: that of the delivery's first sender. Default: the sender's. */
  readonly domain?: string | null;
  /** Recipients, by their place among all, that have it already, or never will. */
  readonly settled?: readonly number[];
  /** The time of this attempt. */
  readonly at: Instant;
};

const TAG_HEADER = "X-ChatAPI-Tag";
/** A mail that no attempt can send. */
export class InvalidMail extends Error {}

export type Mailbox = { readonly address: string; readonly name: string };

/** A mail's parts, the same for every provider. Names and values are one line each, and not encoded. */
export type MailParts = {
  readonly deliveryId: string;
  readonly from: Mailbox;
  readonly to: readonly Mailbox[];
  readonly cc: readonly Mailbox[];
  readonly bcc: readonly Mailbox[];
  readonly replyTo: Mailbox | null;
  readonly subject: string;
  readonly html: string | null;
  readonly text: string;
  readonly attachments: readonly MailAttachment[];
  readonly messageId: string;
  readonly at: Instant;
  /** All further headers. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** The mail's own first. */
  readonly tags: readonly string[];
  /** `indexes`: of each of `to`, its index among all recipients, of whom there are `total`. */
  readonly envelope: {
    readonly from: string;
    readonly to: readonly string[];
    readonly indexes: readonly number[];
    readonly total: number;
  };
};

/**
 * Reads the parts of a mail. Its Message-ID is derived from the delivery, so that a receiver can tell a second attempt from
 * a second mail. Line breaks and control characters become spaces in names, subject and headers. Throws `InvalidMail` for
 * an address that could mean anything but one mailbox.
 */
export async function partsOf(sender: MailSender, mail: MailContent): Promise<MailParts> {
  const from = mailbox(mail.from ?? { email: sender.fromEmail, name: sender.fromName ?? null });
  const replyTo = mail.replyTo ?? sender.replyTo ?? null;
  const all = recipients(mail);
  const settled = new Set(mail.settled ?? []);
  const indexes = [...all.keys()].filter((index) => !settled.has(index));
  const tags = [...new Set([mail.tag ?? null, ...(sender.tags ?? [])])].filter((tag) => tag !== null);
  const { unsubscribeUrl: unsubscribe = null } = mail;
  const own = Object.entries(mail.headers ?? {}).map(([name, value]) => [name, headerText(value)] as const);
  return {
    deliveryId: headerText(mail.deliveryId),
    from,
    to: [mailbox(mail.to)],
    cc: (mail.cc ?? []).map(mailbox),
    bcc: (mail.bcc ?? []).map(mailbox),
    replyTo: replyTo === null ? null : mailbox({ email: replyTo }),
    subject: headerText(mail.subject),
    ...(await bodies(mail)),
    attachments: (mail.attachments ?? []).map(attachment),
    messageId: messageIdOf(mail.deliveryId, domainOf(sender, mail)),
    at: mail.at,
    headers: [
      ["Auto-Submitted", "auto-generated"],
      [DELIVERY_HEADER, headerText(mail.deliveryId)],
      ...(tags.length === 0 ? [] : [[TAG_HEADER, tags.map(headerText).join(", ")] as const]),
      ...(unsubscribe === null ? [] : unsubscribeHeaders(headerText(unsubscribe))),
      ...own.filter(([name, value]) => HEADER_NAME.test(name) && value !== ""),
    ],
    tags,
    // Blind copies are only in the envelope.
    envelope: {
      from: mail.returnPath ?? from.address,
      to: all.filter((_, index) => !settled.has(index)),
      indexes,
      total: all.length,
    },
  };
}

/**
 * The recipients that are not settled yet, for APIs that make the headers from them. Whoever is left gets the mail even if
 * its recipient has it: the first copy takes that place.
 */
export function addressedTo({ to, cc, bcc, envelope }: MailParts): Pick<MailParts, "to" | "cc" | "bcc"> {
  const open = new Set(envelope.to);
  // Each once: some vendors refuse an address that is named twice.
  const left = (all: readonly Mailbox[]) => all.filter(({ address }) => open.delete(address));
  const [first, copies, blind] = [left(to), left(cc), left(bcc)];
  if (first.length > 0) return { to: first, cc: copies, bcc: blind };
  if (copies.length > 0) return { to: copies.slice(0, 1), cc: copies.slice(1), bcc: blind };
  return { to: blind.slice(0, 1), cc: [], bcc: blind.slice(1) };
}

/** RFC 8058. */
const unsubscribeHeaders = (url: string): readonly (readonly [string, string])[] => [
  ["List-Unsubscribe", `<${url}>`],
  ["List-Unsubscribe-Post", "List-Unsubscribe=One-Click"],
];
const HEADER_NAME = /^[A-Za-z][A-Za-z0-9-]{0,99}$/;

const MEDIA_TYPE = /^(?!multipart\/)[A-Za-z]+\/[A-Za-z0-9!#$&^_.+-]+$/;

/** A type that is none, or would have parts of its own, counts as plain bytes. */
function attachment({ filename, contentType, content, contentId }: MailAttachment): MailAttachment {
  const type = MEDIA_TYPE.test(contentType) ? contentType : "application/octet-stream";
  return { filename: headerText(filename), contentType: type, content, contentId };
}

/** The domain of a mail's Message-ID. */
const domainOf = ({ fromEmail }: MailSender, { domain, from }: MailContent): string =>
  domain ?? senderDomain(from?.email ?? fromEmail);

/** The domain of a sender's address, in ASCII. */
export const senderDomain = (email: string): string => domainToASCII(email.slice(email.lastIndexOf("@") + 1));

/** The Message-ID of a delivery's mail, with its angle brackets. */
const messageIdOf = (deliveryId: string, domain: string): string =>
  `<${deliveryId.replace(/[^A-Za-z0-9._-]/g, "")}@${domain}>`;

/** All addresses that a mail goes to, each once, the recipient first. */
function recipients(mail: MailContent): string[] {
  const all = [mail.to, ...(mail.cc ?? []), ...(mail.bcc ?? [])];
  return [...new Set(all.map((address) => mailbox(address).address))];
}

async function bodies(mail: MailContent): Promise<{ text: string; html: string | null }> {
  const content = clean(mail.content);
  const text = mail.text === undefined || mail.text === null ? null : clean(mail.text);
  if ((mail.contentType ?? (looksLikeHtml(content) ? "html" : "text")) === "html") {
    // A mail of pictures alone may have no text, but it still gets a plain part.
    return { html: content, text: text ?? ((await textFromHtml(content)) || headerText(mail.subject)) };
  }
  return text === null ? { html: null, text: content } : { html: htmlFromText(content), text };
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
function mailbox({ email, name }: MailAddress): Mailbox {
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
