// The SMTP listener for what receiving servers report of mails: takes mail to return paths of this server and to postmaster.
import type { Socket } from "node:net";
import type { Logger } from "pino";
import { SMTPServer, type SMTPServerDataStream } from "smtp-server";
import { PARSED_BYTES } from "../channels/email/events/bounce-mail.ts";
import type { DeliveryId } from "../contract/ids.ts";
import { MINUTE_MS } from "../contract/time.ts";
import { messageOf } from "../platform/supervise.ts";

type InboundSmtp = AsyncDisposable & { readonly host: string; readonly port: number };

/** What a listener holds back from those who send to it. */
export type InboundLimits = {
  /** Connections at a time; more get 421. */
  readonly connections: number;
  /** Of one address, of which a relay before the listener needs several. */
  readonly connectionsOfAddress: number;
  /** Of one mail, with the mail that it returns. */
  readonly mailBytes: number;
  /** Of a mail's beginning that is kept and parsed. */
  readonly keptBytes: number;
  readonly commandBytes: number;
  readonly recipients: number;
  /** Recipients that one connection may have refused. */
  readonly refusedRecipients: number;
  /** In which something must come. */
  readonly silenceMs: number;
  /** For a connection, whatever comes. */
  readonly sessionMs: number;
};

const MEBIBYTE = 1024 * 1024;
const INBOUND_LIMITS: InboundLimits = {
  ...{ connections: 100, connectionsOfAddress: 20, mailBytes: 40 * MEBIBYTE, keptBytes: PARSED_BYTES },
  ...{ commandBytes: 2_048, recipients: 10, refusedRecipients: 10, silenceMs: MINUTE_MS, sessionMs: 15 * MINUTE_MS },
};
const CLOSE_TIMEOUT_MS = 1_000;

type InboundOptions = {
  readonly host: string;
  readonly port: number;
  /** What it greets with. */
  readonly name: string | undefined;
  readonly logger: Logger;
  /** The delivery of a return path; undefined when this server did not make it. */
  readonly returned: (address: string) => DeliveryId | undefined;
  /** Records what a mail to a return path reports. What rejects is answered with 451: the sender tries again. */
  readonly receive: (delivery: DeliveryId, raw: Uint8Array) => Promise<unknown>;
  readonly limits?: Partial<InboundLimits>;
};

/**
 * Starts the listener. A mail is answered with 250 once what it reports is in the log. It sends nothing, answers no mail,
 * and has neither TLS nor authentication: what counts is a return path that nobody can guess. Rejects when it cannot listen.
 */
export async function startInboundSmtp(options: InboundOptions): Promise<InboundSmtp> {
  const { logger, returned, receive } = options;
  const limits = { ...INBOUND_LIMITS, ...options.limits };
  const refused = new Map<string, number>();
  const byAddress = new Map<string, number>();

  const server = new SMTPServer({
    ...(options.name === undefined ? {} : { name: options.name }),
    banner: "ChatAPI bounces",
    logger: false,
    disabledCommands: ["STARTTLS", "AUTH"],
    authOptional: true,
    disableReverseLookup: true,
    size: limits.mailBytes,
    rejectOversized: true,
    maxClients: limits.connections,
    maxCommandLength: limits.commandBytes,
    maxRecipients: limits.recipients,
    socketTimeout: limits.silenceMs,
    closeTimeout: CLOSE_TIMEOUT_MS,
    onConnect: ({ remoteAddress }, done) => {
      const count = byAddress.get(remoteAddress) ?? 0;
      done(count > limits.connectionsOfAddress ? smtpError(421, "too many connections from your address") : null);
    },
    onRcptTo: ({ address }, { id }, done) => {
      // fence: inbound-recipient
      if (isPostmaster(address) || returned(address) !== undefined) return done(null);
      const count = (refused.get(id) ?? 0) + 1;
      refused.set(id, count);
      if (count > limits.refusedRecipients) return done(smtpError(421, "too many unknown recipients"));
      done(smtpError(550, "no such mailbox here"));
    },
    onData: (stream, { envelope, remoteAddress }, done) => {
      const from = envelope.mailFrom ? envelope.mailFrom.address : "";
      const take = async () => {
        const { raw, bytes } = await beginning(stream, limits.keptBytes);
        for (const { address } of envelope.rcptTo) {
          const delivery = returned(address);
          if (delivery !== undefined) await receive(delivery, raw);
          else logger.info({ from, bytes, remoteAddress, subject: subjectOf(raw) }, "inbound SMTP: mail to postmaster");
        }
      };
      take().then(
        () => done(null, "taken"),
        (error: unknown) => {
          logger.warn({ reason: messageOf(error) }, "inbound SMTP: report not recorded; its sender tries again");
          done(smtpError(451, "cannot be recorded now; try again later"));
        },
      );
    },
    onClose: ({ id }) => void refused.delete(id),
  });
  server.server.on("connection", (socket: Socket) => {
    const address = socket.remoteAddress ?? "";
    byAddress.set(address, (byAddress.get(address) ?? 0) + 1);
    const timer = setTimeout(() => socket.destroy(), limits.sessionMs);
    socket.once("close", () => {
      clearTimeout(timer);
      const left = (byAddress.get(address) ?? 1) - 1;
      if (left > 0) byAddress.set(address, left);
      else byAddress.delete(address);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  server.on("error", (error) => logger.debug({ reason: messageOf(error) }, "inbound SMTP: connection ended"));
  const address = server.server.address();
  if (address === null || typeof address === "string") throw new Error("the SMTP listener has no port");
  logger.info({ host: options.host, port: address.port }, "inbound SMTP listens");
  return {
    host: options.host,
    port: address.port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

/** RFC 5321, 4.5.1: with or without a domain. */
const isPostmaster = (address: string): boolean => /^postmaster(?:@|$)/i.test(address);

/** The beginning of a mail, and how long it is. Reads to the end either way, so that the session goes on. */
async function beginning(stream: SMTPServerDataStream, max: number) {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    const piece = Buffer.from(chunk);
    if (bytes < max) chunks.push(piece.subarray(0, max - bytes));
    bytes += piece.length;
  }
  return { raw: Buffer.concat(chunks), bytes };
}

const MAX_HEADER_BYTES = 8_192;
const MAX_SUBJECT = 200;

/** As it came, without what a log should not hold. */
function subjectOf(raw: Buffer): string | null {
  const head = raw.toString("latin1", 0, MAX_HEADER_BYTES).split(/\r?\n\r?\n/)[0] ?? "";
  const [, subject] = /^subject:([^\r\n]{0,998})/im.exec(head) ?? [];
  return (
    subject
      ?.replace(/[^ -~]/g, " ")
      .trim()
      .slice(0, MAX_SUBJECT) ?? null
  );
}

const smtpError = (responseCode: number, message: string): Error => Object.assign(new Error(message), { responseCode });
