// The development mailbox: a real SMTP server on a loopback port that takes every mail and delivers none.

import { randomUUID } from "node:crypto";
import { watch } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import PostalMime, { type Address, decodeWords } from "postal-mime";
import { SMTPServer, type SMTPServerDataStream } from "smtp-server";
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
type Mail = {
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

type Envelope = { readonly from: string; readonly to: readonly string[] };

/** Whether two spellings name one mailbox. Real servers ignore case in the local part too. */
const sameAddress = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

/** Parses a message. A malformed one is not refused: it shows its envelope. */
async function readMail(raw: Uint8Array, envelope: Envelope, id: string, receivedAt: number): Promise<Mail> {
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

/** Keeps the last `mails` messages, fewer when they exceed `totalBytes`; one message has at most `mailBytes`. */
type MailboxLimits = { readonly mails: number; readonly mailBytes: number; readonly totalBytes: number };

const MEBIBYTE = 1024 * 1024;
const LIMITS: MailboxLimits = { mails: 500, mailBytes: 20 * MEBIBYTE, totalBytes: 128 * MEBIBYTE };
const MAX_CLIENTS = 50;
const MAX_RECIPIENTS = 1_000;
const SOCKET_TIMEOUT_MS = 60_000;
const CLOSE_TIMEOUT_MS = 200;
const HOST = "127.0.0.1";

/** `to`: for this address (of To, Cc or a hidden recipient), whatever its case. `after`: newer than this mail. */
type MailFilter = { readonly to?: string | undefined; readonly after?: string | undefined };

export type Mailbox = {
  readonly host: string;
  readonly port: number;
  /** Takes over what other processes of the node received and deleted: the folder is theirs too. */
  refresh(): Promise<void>;
  /** Newest first. */
  list(filter?: MailFilter): readonly Mail[];
  /** The same as soon as there is one; after `timeoutMs`, or when aborted, an empty list. */
  wait(filter: MailFilter, timeoutMs: number, signal: AbortSignal): Promise<readonly Mail[]>;
  get(id: string): Mail | undefined;
  /** The mail's bytes as they arrived. */
  raw(id: string): Uint8Array | undefined;
  /** False when there is no such mail. */
  delete(id: string): Promise<boolean>;
  clear(): Promise<void>;
  /** Closes the port and every connection. */
  [Symbol.asyncDispose](): Promise<void>;
};

/**
 * Starts the mailbox on a free loopback port. It takes any sender, recipient and credentials, without TLS, and refuses
 * only a mail over its bound (552) and connections over its bound (421). A mail is listed, and in `folder`, before its
 * sender gets the 250. Without a folder mails are gone with the process. `now` is in ms since the epoch.
 */
export async function startMailbox(options: {
  log: (line: string) => void;
  now?: () => number;
  limits?: MailboxLimits;
  folder?: string;
}): Promise<Mailbox> {
  const { log, now = Date.now, limits = LIMITS, folder } = options;
  const files = folder === undefined ? undefined : new MailFiles(folder, log);
  const kept = new Map<string, KeptMail>(); // oldest first
  const arrived = new EventTarget();
  let keptBytes = 0;

  const drop = async (id: string): Promise<boolean> => {
    const one = kept.get(id);
    if (one === undefined) return false;
    kept.delete(id);
    keptBytes -= one.raw.byteLength;
    await files?.remove(id);
    return true;
  };
  const keep = async (mail: Mail, raw: Uint8Array): Promise<void> => {
    kept.set(mail.id, { mail, raw });
    keptBytes += raw.byteLength;
    for (const oldest of kept.keys()) {
      if (kept.size <= limits.mails && keptBytes <= limits.totalBytes) break;
      await drop(oldest);
    }
  };
  const takeOver = async (): Promise<void> => {
    const { added, gone } = (await files?.changes()) ?? { added: [], gone: [] };
    for (const { id, envelope, at, raw } of added) await keep(await readMail(raw, envelope, id, at), raw);
    for (const id of gone) await drop(id);
    if (added.length > 0) arrived.dispatchEvent(new Event("mail"));
  };
  // One after the other: a file and what is known of it change together.
  let last: Promise<unknown> = Promise.resolve();
  const serially = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  };
  const refresh = (): Promise<void> =>
    serially(takeOver).catch((error: Error) => log(`development mailbox: ${error.message}`));
  await takeOver();
  const watcher = folder === undefined ? undefined : watch(folder, () => void refresh());

  const receive = async (stream: SMTPServerDataStream, envelope: Envelope): Promise<string> => {
    const raw = await readAll(stream, limits.mailBytes);
    if (raw === undefined) throw smtpError(552, `the mail is larger than ${limits.mailBytes} bytes`);
    const id = `mail_${randomUUID()}`;
    const at = now();
    const mail = await readMail(raw, envelope, id, at);
    await serially(async () => {
      await files?.write({ id, envelope, at, raw });
      await keep(mail, raw);
    });
    arrived.dispatchEvent(new Event("mail"));
    return `kept as ${id}`;
  };

  const server = new SMTPServer({
    name: "chatapi-mailbox",
    banner: "ChatAPI development mailbox",
    logger: false,
    // It never leaves this machine, and clients would refuse a self-made certificate.
    disabledCommands: ["STARTTLS"],
    authOptional: true,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    size: limits.mailBytes,
    maxClients: MAX_CLIENTS,
    socketTimeout: SOCKET_TIMEOUT_MS,
    closeTimeout: CLOSE_TIMEOUT_MS,
    onAuth: (auth, _session, done) => done(null, { user: auth.username ?? "anyone" }),
    onRcptTo: (_address, session, done) =>
      done(session.envelope.rcptTo.length < MAX_RECIPIENTS ? null : smtpError(452, "too many recipients")),
    onData: (stream, { envelope: { mailFrom, rcptTo } }, done) => {
      const envelope = { from: mailFrom ? mailFrom.address : "", to: rcptTo.map(({ address }) => address) };
      receive(stream, envelope).then(
        (answer) => done(null, answer),
        (error: unknown) => done(error instanceof Error ? error : new Error(String(error))),
      );
    },
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    // Exclusive: forked processes would share the port, and each has its own.
    server.listen({ port: 0, host: HOST, exclusive: true }, () => {
      server.off("error", reject);
      resolve();
    });
  });
  // Broken connections of clients; the next mail comes over another one.
  server.on("error", (error) => log(`development mailbox: ${error.message}`));
  const address = server.server.address();
  if (address === null || typeof address === "string") throw new Error("the development mailbox has no port");

  const listed = ({ to, after }: MailFilter = {}): readonly Mail[] => {
    const mails = [...kept.values()].map(({ mail }) => mail).reverse();
    const known = after === undefined ? -1 : mails.findIndex(({ id }) => id === after);
    const newer = known < 0 ? mails : mails.slice(0, known);
    return to === undefined ? newer : newer.filter((mail) => isFor(mail, to));
  };

  let closing: Promise<void> | undefined;
  return {
    host: HOST,
    port: address.port,
    refresh,
    list: listed,
    async wait(filter, timeoutMs, signal) {
      const over = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
      for (;;) {
        const mails = listed(filter);
        if (mails.length > 0 || over.aborted) return mails;
        await new Promise<void>((resolve) => {
          const done = () => {
            arrived.removeEventListener("mail", done);
            over.removeEventListener("abort", done);
            resolve();
          };
          arrived.addEventListener("mail", done);
          over.addEventListener("abort", done);
        });
      }
    },
    get: (id) => kept.get(id)?.mail,
    raw: (id) => kept.get(id)?.raw,
    delete: (id) => serially(() => drop(id)),
    clear: () =>
      serially(async () => {
        for (const id of kept.keys()) await drop(id);
      }),
    async [Symbol.asyncDispose]() {
      watcher?.close();
      closing ??= new Promise((resolve) => server.close(() => resolve()));
      await Promise.all([closing, last]);
    },
  };
}

type KeptMail = { readonly mail: Mail; readonly raw: Uint8Array };
type StoredMail = { readonly id: string; readonly envelope: Envelope; readonly at: number; readonly raw: Uint8Array };

const StoredHead = z.object({
  id: z.string(),
  at: z.number(),
  envelope: z.object({ from: z.string(), to: z.array(z.string()) }),
});
const NEWLINE = 10;
/** Digits of a time in a file's name, so that names sort as times do. */
const TIME_DIGITS = 15;

/** Mails as files: what SMTP said of each as a line of JSON, then the mail as it came. */
class MailFiles {
  readonly #folder: string;
  readonly #log: (line: string) => void;
  readonly #names = new Map<string, string>();
  readonly #unreadable = new Set<string>();

  constructor(folder: string, log: (line: string) => void) {
    this.#folder = folder;
    this.#log = log;
  }

  /** The mails of files that it does not know yet, oldest first, and the ids of those whose files are gone. */
  async changes(): Promise<{ readonly added: readonly StoredMail[]; readonly gone: readonly string[] }> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const names = new Set((await readdir(this.#folder)).filter((name) => name.endsWith(".mail")));
    const known = new Map([...this.#names].map(([id, name]) => [name, id]));
    const gone = [...known].flatMap(([name, id]) => (names.has(name) ? [] : id));
    const added: StoredMail[] = [];
    for (const name of [...names].filter((one) => !known.has(one) && !this.#unreadable.has(one)).toSorted()) {
      const bytes = await readFile(join(this.#folder, name)).catch(() => undefined);
      if (bytes === undefined) continue; // another process has deleted it
      const end = bytes.indexOf(NEWLINE);
      try {
        const { id, at, envelope } = StoredHead.parse(JSON.parse(bytes.toString("utf8", 0, end)));
        added.push({ id, at, envelope, raw: bytes.subarray(end + 1) });
        this.#names.set(id, name);
      } catch {
        this.#unreadable.add(name);
        this.#log(`development mailbox: ${name} cannot be read; left out`);
      }
    }
    return { added, gone };
  }

  async write({ id, at, envelope, raw }: StoredMail): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const name = `${String(at).padStart(TIME_DIGITS, "0")}-${id}.mail`;
    const path = join(this.#folder, name);
    await writeFile(`${path}.part`, Buffer.concat([Buffer.from(`${JSON.stringify({ id, at, envelope })}\n`), raw]), {
      mode: 0o600,
    });
    await rename(`${path}.part`, path);
    this.#names.set(id, name);
  }

  async remove(id: string): Promise<void> {
    const name = this.#names.get(id);
    this.#names.delete(id);
    if (name !== undefined) await rm(join(this.#folder, name), { force: true });
  }
}

function isFor(mail: Mail, to: string): boolean {
  return [mail.to, mail.cc, mail.bcc].some((list) => list.some(({ address }) => sameAddress(address, to)));
}

/** The complete message; undefined when it is too large. Reads to the end either way, so that the SMTP session goes on. */
async function readAll(stream: SMTPServerDataStream, maxBytes: number): Promise<Uint8Array | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= maxBytes) chunks.push(chunk);
    else chunks.length = 0;
  }
  return size <= maxBytes ? Buffer.concat(chunks) : undefined;
}

function smtpError(responseCode: number, message: string): Error {
  return Object.assign(new Error(message), { responseCode });
}
