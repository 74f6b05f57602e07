// channels/email/mime.ts: a mail as MIME, for the providers that take it so.

import type { SendMailOptions } from "nodemailer";
import MailComposer from "nodemailer/lib/mail-composer";
import { encodeWord, encodeWords } from "nodemailer/lib/mime-funcs";
import { type DkimSettings, withSignature } from "./dkim.ts";
import type { MailParts } from "./message.ts";

/** A mail as nodemailer composes it. */
function composed(parts: MailParts): SendMailOptions {
  const names = new Map(parts.headers.map(([name]) => [name.toLowerCase(), name]));
  const encoded = parts.subject.includes(ENCODED_MARK);
  const headers = parts.headers.map(([key, value]) => {
    if (UNFOLDED.has(key)) return { key, value: { prepared: true, foldLines: false, value } };
    if (!value.includes(ENCODED_MARK)) return { key, value };
    return { key, value: { prepared: true, foldLines: true, value: asTyped(value) } };
  });
  const subject = { prepared: true, foldLines: true, value: asTyped(parts.subject) };
  return {
    from: { ...parts.from },
    to: parts.to.map((one) => ({ ...one })),
    ...(parts.cc.length > 0 ? { cc: parts.cc.map((one) => ({ ...one })) } : {}),
    ...(encoded ? {} : { subject: parts.subject }),
    ...(parts.replyTo === null ? {} : { replyTo: { ...parts.replyTo } }),
    ...(parts.html === null ? {} : { html: parts.html }),
    text: parts.text,
    attachments: parts.attachments.map(({ filename, contentType, content, contentId }) => ({
      ...{ filename, contentType, content },
      contentDisposition: contentId === null ? ("attachment" as const) : ("inline" as const),
      ...(contentId === null ? {} : { cid: contentId }),
    })),
    messageId: parts.messageId,
    date: new Date(parts.at),
    headers: [...headers, ...(encoded ? [{ key: "Subject", value: subject }] : [])],
    // nodemailer would write "X-Chatapi-Delivery".
    normalizeHeaderKey: (key) => names.get(key.toLowerCase()) ?? key,
    envelope: { from: parts.envelope.from, to: [...parts.envelope.to] },
    // Content comes from tenants: it must not make us read files or URLs.
    disableFileAccess: true,
    disableUrlAccess: true,
  };
}

/** RFC 8058, 4: what one click needs is in one line each. */
const UNFOLDED: ReadonlySet<string> = new Set(["List-Unsubscribe", "List-Unsubscribe-Post"]);

/** A mail as MIME, signed when there is a key for it, and its envelope. */
export async function composeMail(parts: MailParts, dkim: DkimSettings | null = null) {
  const node = new MailComposer(composed(parts)).compile();
  if ("_encodeAddressName" in node && typeof node._encodeAddressName === "function") {
    const nameOf = node._encodeAddressName.bind(node);
    // nodemailer writes such a name in quotes, in which readers decode it all the same.
    const _encodeAddressName = (name: string): unknown =>
      /* fence: encoded-words */ name.includes(ENCODED_MARK) ? asTyped(name) : nameOf(name);
    Object.assign(node, { _encodeAddressName });
  }
  const message = await node.build();
  return { envelope: node.getEnvelope(), message: dkim === null ? message : withSignature(message, dkim, parts.at) };
}

/** What readers of mail would take for an encoded word. */
const ENCODED_MARK = "=?";
const MAX_ENCODED_BYTES = 52;

/** Text in which an encoded word was typed, encoded once more, so that it shows what was typed. */
const asTyped = (text: string): string => encodeWord(text, "B", MAX_ENCODED_BYTES);

/** A header's value as ASCII (RFC 2047), for providers that take headers as they are sent. */
export function encodedHeader(value: string): string {
  if (value.includes(ENCODED_MARK)) return asTyped(value);
  return /[^ -~]/.test(value) ? encodeWords(value, "B", MAX_ENCODED_BYTES) : value;
}
