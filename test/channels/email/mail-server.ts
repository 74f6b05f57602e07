// A real SMTP server on loopback for the email channel's tests, and what it received.

import PostalMime, { type Email } from "postal-mime";
import { SMTPServer, type SMTPServerOptions } from "smtp-server";
import getTlsOptions from "smtp-server/lib/tls-options.js";
import { listen, type TestServer } from "../servers.ts";

export type ReceivedMail = {
  readonly from: string;
  readonly to: readonly string[];
  readonly raw: string;
  readonly mail: Email;
  readonly user: unknown;
  readonly secure: boolean;
};

export type MailServer = TestServer & { readonly received: ReceivedMail[] };

/** An error with an SMTP reply code, for the server's handlers. */
export const reply = (responseCode: number, message: string) => Object.assign(new Error(message), { responseCode });

/** Starts the server. By default it takes every mail, offers STARTTLS with a certificate nobody trusts, and no AUTH. */
export async function mailServer(options: SMTPServerOptions = {}): Promise<MailServer> {
  const received: ReceivedMail[] = [];
  // Given by hand, or the server would warn of its own test certificate.
  const { key, cert } = getTlsOptions();
  const smtp = new SMTPServer({
    ...(key === undefined || cert === undefined ? {} : { key, cert }),
    authOptional: true,
    disabledCommands: options.onAuth ? [] : ["AUTH"],
    disableReverseLookup: true,
    closeTimeout: 100,
    onData: async (stream, session, callback) => {
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk);
      const raw = Buffer.concat(chunks).toString();
      const { mailFrom, rcptTo } = session.envelope;
      const from = mailFrom === false ? "" : mailFrom.address;
      const to = rcptTo.map(({ address }) => address);
      received.push({ from, to, raw, mail: await PostalMime.parse(raw), user: session.user, secure: session.secure });
      callback(null, "queued as 1");
    },
    ...options,
  });
  smtp.on("error", () => {});
  const server = await listen(smtp.server, () => smtp.close());
  // Under STARTTLS the plain socket never says that it closed; the session does.
  return { ...server, open: () => smtp.connections.size, received };
}
