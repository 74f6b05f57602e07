// A mail as the development mailbox shows it, read from the bytes that arrived by SMTP.

import PostalMime, { type Address, decodeWords } from "postal-mime";
import { z } from "zod";

/** `name` is null when the mail gives none. */
type MailAddress = { readonly address: string; readonly name: string | null };

/** What is known of an attachment; its content is in the raw mail. `size` is in bytes, decoded. */
type MailAttachment = {
  readonly filename: string | null;
  readonly content_type: string;
  readonly disposition: string | null;
  readonly content_id: string | null;
  readonly size: number;
};

/** The shape of `GET /dev/mailbox`. */
export type Mail = {
  readonly id: string;
  /** From the header, else the envelope's sender; null when both are empty. */
  readonly from: MailAddress | null;
  readonly to: readonly MailAddress[];
  readonly cc: readonly MailAddress[];
  /** Recipients of the envelope that no header names. */
  readonly bcc: readonly MailAddress[];
  readonly subject: string | null;
  readonly html: string | null;
  readonly text: string | null;
  /** Decoded, by lower-case name; several of one name are joined by ", ". The raw mail has them as they came. */
  readonly headers: Readonly<Record<string, string>>;
  readonly attachments: readonly MailAttachment[];
  /** RFC 3339, milliseconds. */
  readonly received_at: string;
};

export type Envelope = { readonly from: string; readonly to: readonly string[] };

/** Whom two spellings of an address name, as mailboxes compare them in practice. */
export const sameAddress = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

/** Reads a mail. One that is no proper mail is not refused: it shows what its envelope says. */
export async function readMail(raw: Uint8Array, envelope: Envelope, id: string, receivedAt: number): Promise<Mail> {
  const parsed = await PostalMime.parse(raw, { attachmentEncoding: "arraybuffer" }).catch(() => undefined);
  const to = (parsed?.to ?? []).flatMap(mailboxes);
  const cc = (parsed?.cc ?? []).flatMap(mailboxes);
  const named = [...to, ...cc];
  const hidden = envelope.to.filter((recipient) => !named.some(({ address }) => sameAddress(address, recipient)));
  const sender = envelope.from === "" ? null : { address: envelope.from, name: null };
  return {
    id,
    from: (parsed?.from === undefined ? undefined : mailboxes(parsed.from)[0]) ?? sender,
    to,
    cc,
    bcc: hidden.map((address) => ({ address, name: null })),
    subject: parsed?.subject ?? null,
    html: body(parsed?.html),
    text: body(parsed?.text),
    headers: headers(parsed?.headers ?? []),
    attachments: (parsed?.attachments ?? []).map((attachment) => ({
      filename: attachment.filename,
      content_type: attachment.mimeType,
      disposition: attachment.disposition,
      content_id: attachment.contentId ?? null,
      size: z.union([z.instanceof(ArrayBuffer), z.instanceof(Uint8Array)]).parse(attachment.content).byteLength,
    })),
    received_at: new Date(receivedAt).toISOString(),
  };
}

/** The parser counts the line end before the next boundary to the part. */
function body(content: string | undefined): string | null {
  return content?.replace(/\n$/, "") ?? null;
}

function mailboxes(address: Address): readonly MailAddress[] {
  if (address.group !== undefined) return address.group.flatMap(mailboxes);
  return address.address === "" ? [] : [{ address: address.address, name: address.name === "" ? null : address.name }];
}

function headers(lines: readonly { key: string; value: string }[]): Readonly<Record<string, string>> {
  const values = new Map<string, string[]>();
  for (const { key, value } of lines) {
    const list = values.get(key);
    if (list === undefined) values.set(key, [decodeWords(value)]);
    else list.push(decodeWords(value));
  }
  return Object.fromEntries([...values].map(([key, list]) => [key, list.join(", ")]));
}
