// The development mailbox: a real SMTP server on a loopback port that takes every mail and delivers none.

import { randomUUID } from "node:crypto";
import { SMTPServer, type SMTPServerDataStream } from "smtp-server";
import { type Envelope, type Mail, readMail, sameAddress } from "./mailbox-mail.ts";

/** What is kept at most: the last `mails`, fewer when they are more than `totalBytes`; each has `mailBytes` at most. */
type MailboxLimits = { readonly mails: number; readonly mailBytes: number; readonly totalBytes: number };

const MEBIBYTE = 1024 * 1024;
const LIMITS: MailboxLimits = { mails: 500, mailBytes: 10 * MEBIBYTE, totalBytes: 128 * MEBIBYTE };
const MAX_CLIENTS = 50;
const MAX_RECIPIENTS = 1_000;
const SOCKET_TIMEOUT_MS = 60_000;
const CLOSE_TIMEOUT_MS = 200;
const HOST = "127.0.0.1";

/** The mails are in memory only, and gone with the process. */
export type Mailbox = {
  readonly host: string;
  readonly port: number;
  /** Newest first; with `to`, those for this address (of To, Cc or a hidden recipient), whatever its case. */
  list(filter?: { readonly to?: string | undefined }): readonly Mail[];
  get(id: string): Mail | undefined;
  /** The mail's bytes as they arrived. */
  raw(id: string): Uint8Array | undefined;
  clear(): void;
  /** Closes the port and every connection. */
  [Symbol.asyncDispose](): Promise<void>;
};

/**
 * Starts the mailbox on a free loopback port. It takes any sender, recipient and credentials, without TLS, and refuses
 * only a mail over its bound (552) and connections over its bound (421). A mail is listed before its sender gets
 * the 250. `now` is in ms since the epoch.
 */
export async function startMailbox(options: {
  log: (line: string) => void;
  now?: () => number;
  limits?: MailboxLimits;
}): Promise<Mailbox> {
  const { log, now = Date.now, limits = LIMITS } = options;
  const kept = new Map<string, { mail: Mail; raw: Uint8Array }>(); // oldest first
  let keptBytes = 0;

  const receive = async (stream: SMTPServerDataStream, envelope: Envelope): Promise<string> => {
    const raw = await readAll(stream, limits.mailBytes);
    if (raw === undefined) throw smtpError(552, `the mail is larger than ${limits.mailBytes} bytes`);
    const id = `mail_${randomUUID()}`;
    const mail = await readMail(raw, envelope, id, now());
    kept.set(id, { mail, raw });
    keptBytes += raw.byteLength;
    for (const [oldest, { raw: bytes }] of kept) {
      if (kept.size <= limits.mails && keptBytes <= limits.totalBytes) break;
      kept.delete(oldest);
      keptBytes -= bytes.byteLength;
    }
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
    server.listen(0, HOST, () => {
      server.off("error", reject);
      resolve();
    });
  });
  // Broken connections of clients; the next mail comes over another one.
  server.on("error", (error) => log(`development mailbox: ${error.message}`));
  const address = server.server.address();
  if (address === null || typeof address === "string") throw new Error("the development mailbox has no port");

  let closing: Promise<void> | undefined;
  return {
    host: HOST,
    port: address.port,
    list({ to } = {}) {
      const mails = [...kept.values()].map(({ mail }) => mail).reverse();
      return to === undefined ? mails : mails.filter((mail) => isFor(mail, to));
    },
    get: (id) => kept.get(id)?.mail,
    raw: (id) => kept.get(id)?.raw,
    clear() {
      kept.clear();
      keptBytes = 0;
    },
    async [Symbol.asyncDispose]() {
      closing ??= new Promise((resolve) => server.close(() => resolve()));
      await closing;
    },
  };
}

function isFor(mail: Mail, to: string): boolean {
  return [mail.to, mail.cc, mail.bcc].some((list) => list.some(({ address }) => sameAddress(address, to)));
}

/** The whole stream; undefined when it is too big, and then read to its end all the same, so that SMTP goes on. */
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
