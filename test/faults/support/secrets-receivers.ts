// Those outside who receive from a server: an SMTP server that asks for a password, and a webhook receiver that answers.
import { mailServer, type ReceivedMail, reply } from "../../channels/email/mail-server.ts";
import { bodyOf, httpServer } from "../../channels/servers.ts";
import { type Kept, tag } from "./secrets-kept.ts";

export type SecretReceivers = AsyncDisposable & {
  readonly smtp: { readonly port: number; readonly username: string; readonly password: string };
  readonly mails: readonly ReceivedMail[];
  /** The hooks that were received, as they were sent. */
  readonly hooks: readonly string[];
  /** A hook that is taken, and one that is refused with an answer of the receiver's own words. */
  hook(answer: "taken" | "refused"): string;
  /** Everything that was received. */
  readonly received: () => readonly Buffer[];
};

export async function secretReceivers(kept: Kept): Promise<SecretReceivers> {
  await using open = new AsyncDisposableStack();
  const [username, password] = [kept.plain("SMTP user name"), kept.text("SMTP password")];
  const words = kept.text("receiver's answer");
  const server = open.use(
    await mailServer({
      allowInsecureAuth: true,
      hideSTARTTLS: true,
      onAuth: (auth, _session, callback) => {
        if (auth.username === username && auth.password === password) callback(null, { user: username });
        else callback(reply(535, `5.7.8 no such account, ${words}`));
      },
    }),
  );
  const hooks: string[] = [];
  const receiver = open.use(
    await httpServer(async (request, response) => {
      hooks.push([request.url, ...request.rawHeaders, await bodyOf(request)].join("\n"));
      if (request.url?.startsWith("/taken") === true) response.writeHead(204).end();
      else response.writeHead(500).end(words);
    }),
  );
  const moved = open.move();
  return {
    smtp: { port: server.port, username, password },
    mails: server.received,
    hooks,
    hook: (answer) => `http://127.0.0.1:${receiver.port}/${answer}/${kept.keep("webhook address", tag())}`,
    received: () => [...hooks, ...server.received.map(({ raw }) => raw)].map((text) => Buffer.from(text)),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}
