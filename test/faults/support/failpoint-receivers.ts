// Those who receive mails and webhooks: outside of the server, so that they remember what a crashed one sent.
import { type Mailbox, startMailbox } from "../../../src/embedded/mailbox.ts";
import { bodyOf, httpServer } from "../../channels/servers.ts";

export type Receivers = AsyncDisposable & {
  readonly mailbox: Mailbox;
  /** A path decides what is answered: `/ok`, `/first-fails`, `/fails`, `/slow`; `/events` is an endpoint's. */
  hook(path: string): string;
  /** By the notification's content, which is its own: the webhook ids that it came under, a time each. */
  readonly webhooks: ReadonlyMap<string, readonly string[]>;
  /** By message: the ids of the webhooks in which an endpoint was told of it, a time each. */
  readonly told: ReadonlyMap<string, readonly string[]>;
  /** By recipient: the Message-IDs that came, a time each. */
  mails(to: string): readonly string[];
};

const SLOW_MS = 2_500;
/** All of a long run. */
const MAILBOX = { mails: 50_000, mailBytes: 1_000_000, totalBytes: 500_000_000 };

export async function openReceivers(): Promise<Receivers> {
  await using open = new AsyncDisposableStack();
  const mailbox = open.use(await startMailbox({ log: () => {}, limits: MAILBOX }));
  const webhooks = new Map<string, string[]>();
  const told = new Map<string, string[]>();
  const server = open.use(
    await httpServer(async (request, response) => {
      const { data } = JSON.parse(String(await bodyOf(request)));
      const [known, of] = request.url === "/events" ? [told, data.id] : [webhooks, data.content];
      const ids = known.get(of) ?? [];
      known.set(of, [...ids, String(request.headers["webhook-id"])]);
      const fails = request.url === "/fails" || (request.url === "/first-fails" && ids.length === 0);
      const answer = () => response.writeHead(fails ? 500 : 200).end();
      if (request.url === "/slow") setTimeout(answer, SLOW_MS);
      else answer();
    }),
  );
  const moved = open.move();
  return {
    mailbox,
    webhooks,
    told,
    hook: (path) => `http://127.0.0.1:${server.port}${path}`,
    mails: (to) => mailbox.list({ to }).map((mail) => mail.headers["message-id"] ?? "none"),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}
