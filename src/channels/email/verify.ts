// channels/email/verify.ts: tries a provider's settings and reports the stage that they reach.

import { randomUUID } from "node:crypto";
import MailComposer from "nodemailer/lib/mail-composer";
import SMTPConnection from "nodemailer/lib/smtp-connection";
import { type AttemptErrorCode, storedText } from "../attempt-result.ts";
import type { AddressGuard } from "../guard.ts";
import { ConnectFailure } from "../outgoing-socket.ts";
import { buildMail, recipients } from "./message.ts";
import {
  connectionOptions,
  credentials,
  openSmtpSocket,
  type SmtpProvider,
  type SmtpStage,
  type SmtpTimeouts,
  smtpFailure,
} from "./smtp-connection.ts";

/**
 * The stage that the settings reached: with `ok` the last one (`auth`, or `send` when a test mail was requested), else the
 * one that failed. `message` quotes the server only when it spoke SMTP, at most 200 characters in all.
 */
export type SmtpVerdict = {
  readonly ok: boolean;
  readonly stage: SmtpStage;
  readonly code: AttemptErrorCode | null;
  readonly message: string | null;
};

type VerifyOptions = { readonly guard: AddressGuard; readonly timeouts: SmtpTimeouts; readonly timeoutMs: number };

type Progress = { stage: SmtpStage; connection: SMTPConnection | null; over: boolean };

const MAX_MESSAGE = 200;

/** Connects, logs in, and sends a test mail when an address is given. Never rejects; ends within `timeoutMs`. */
export async function verifySmtp(
  options: VerifyOptions,
  provider: SmtpProvider,
  toEmail: string | null,
): Promise<SmtpVerdict> {
  const progress: Progress = { stage: "resolve", connection: null, over: false };
  const timeUp = Promise.withResolvers<SmtpVerdict>();
  const timer = setTimeout(() => {
    const message = `The server took longer than ${options.timeoutMs / 1_000} s`;
    timeUp.resolve({ ok: false, stage: progress.stage, code: "timeout", message });
  }, options.timeoutMs);
  try {
    return await Promise.race([attempt(options, provider, toEmail, progress), timeUp.promise]);
  } finally {
    clearTimeout(timer);
    progress.over = true;
    progress.connection?.close();
  }
}

async function attempt(
  { guard, timeouts }: VerifyOptions,
  provider: SmtpProvider,
  toEmail: string | null,
  progress: Progress,
): Promise<SmtpVerdict> {
  try {
    const socket = await openSmtpSocket(provider, guard, timeouts);
    // The time is up: a connection that opened late must not be used, least of all to send.
    if (progress.over) {
      socket.connection.destroy();
      throw new ConnectFailure("connect", "timeout", "The server took too long to answer");
    }
    progress.stage = "connect";
    const connection = new SMTPConnection({ ...connectionOptions(provider, timeouts), ...socket });
    progress.connection = connection;
    await step(connection, (done) => connection.connect(done));
    progress.stage = "auth";
    const auth = credentials(provider);
    if (auth) await step(connection, (done) => connection.login({ ...auth, credentials: auth }, done));
    if (toEmail !== null) {
      progress.stage = "send";
      const mail = testMail(toEmail);
      const message = await new MailComposer(buildMail(provider, mail)).compile().build();
      const envelope = { from: provider.fromEmail, to: recipients(mail) };
      await step(connection, (done) => connection.send(envelope, message, done));
    }
    connection.quit();
    return { ok: true, stage: progress.stage, code: null, message: null };
  } catch (error) {
    const { stage, code, message, text } = smtpFailure(error);
    const detail = text === null ? message : `${message}: ${storedText(Buffer.from(text)).replace(/\s+/g, " ")}`;
    return { ok: false, stage, code, message: [...detail].slice(0, MAX_MESSAGE).join("") };
  }
}

/** Runs one step of a session. An error that the connection emits meanwhile fails the step. */
async function step(connection: SMTPConnection, run: (done: (error?: Error | null) => void) => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const closed = () => reject(Object.assign(new Error("The connection ended"), { code: "ECONNECTION" }));
  connection.once("error", reject);
  connection.once("end", closed);
  run((error) => (error ? reject(error) : resolve()));
  try {
    await promise;
  } finally {
    connection.off("error", reject).off("end", closed);
    // An error that the connection emits after its step must not end the process.
    connection.on("error", () => {});
  }
}

function testMail(toEmail: string) {
  const content = "This is a test mail of ChatAPI. The settings of the email provider work.";
  return {
    deliveryId: `test-${randomUUID()}`,
    to: { email: toEmail },
    subject: "ChatAPI test mail",
    content,
    at: Date.now(),
  };
}
