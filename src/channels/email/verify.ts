// channels/email/verify.ts: tries a provider's settings and reports the stage that they reach.

import { randomUUID } from "node:crypto";
import { SECOND_MS } from "../../contract/time.ts";
import { storedText } from "../attempt-result.ts";
import { deadline } from "../outgoing-socket.ts";
import { partsOf } from "./message.ts";
import { composeMail } from "./mime.ts";
import { type EmailVerdict, verdictMessage } from "./provider.ts";
import {
  type SmtpProvider,
  SmtpSession,
  type SmtpSettings,
  type SmtpStage,
  smtpFailure,
  smtpRedactor,
} from "./smtp-connection.ts";

/** Connects, logs in, and sends a test mail when an address is given. Never rejects; ends within `timeoutMs`. */
export async function verifySmtp(
  settings: SmtpSettings,
  timeoutMs: number,
  provider: SmtpProvider,
  toEmail: string | null,
): Promise<EmailVerdict> {
  let stage: SmtpStage = "resolve";
  const { promise: timeUp, resolve } = Promise.withResolvers<EmailVerdict>();
  using time = deadline(timeoutMs);
  const { signal } = time;
  const message = `The server took longer than ${timeoutMs / SECOND_MS} s`;
  signal.addEventListener("abort", () => resolve({ ok: false, stage, code: "timeout", message }));

  const attempt = async (): Promise<EmailVerdict> => {
    try {
      const onStage = (now: SmtpStage) => {
        stage = now;
      };
      const session = await SmtpSession.open(provider, settings, { signal, onStage });
      try {
        if (toEmail !== null) {
          stage = "send";
          const mail = await composeMail(await partsOf(provider, testMail(toEmail)), provider.dkim);
          const { rejectedErrors } = await session.send(mail, signal, () => {});
          if (rejectedErrors.length > 0) throw rejectedErrors[0];
        }
      } finally {
        session.quit();
      }
      return { ok: true, stage, code: null, message: null };
    } catch (error) {
      const { stage, code, message, text } = smtpFailure(error);
      const said = storedText(Buffer.from(smtpRedactor(provider)(text ?? "")));
      return { ok: false, stage, code, message: verdictMessage(message, said) };
    }
  };
  return await Promise.race([attempt(), timeUp]);
}

export function testMail(toEmail: string) {
  const content = "This is a test mail of ChatAPI. The settings of the email provider work.";
  return {
    deliveryId: `test-${randomUUID()}`,
    to: { email: toEmail },
    subject: "ChatAPI test mail",
    content,
    at: Date.now(),
  };
}
