// What the fake vendors share: a server that answers by the vendor's own rules, or as a test tells it.
import type { IncomingMessage, ServerResponse } from "node:http";
import PostalMime from "postal-mime";
import { httpServer, type TestServer } from "../../servers.ts";

export type FakeRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
};
export type FakeAnswer = {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
};
/** A mail's parts as a vendor took them, in one shape for all. */
export type TakenMail = {
  readonly from: unknown;
  readonly to: readonly unknown[];
  readonly cc: readonly unknown[];
  readonly bcc: readonly string[];
  readonly replyTo: string | null;
  readonly subject: string;
  readonly html: string;
  readonly text: string;
  readonly messageId: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly tag: string;
  readonly argument: string;
  readonly attachments: readonly unknown[];
};

export type FakeApi = TestServer & { readonly origin: string; readonly taken: TakenMail[]; answer: Told | null };
/** Instead of the vendor's rules. `hang`: it says nothing. `cut`: it closes the connection once it has the request. */
type Told = FakeAnswer | "hang" | "cut";

/** What a vendor says to a request. */
export type Rules = (request: FakeRequest, take: (mail: TakenMail) => void) => Promise<FakeAnswer> | FakeAnswer;

export async function fakeApi(rules: Rules): Promise<FakeApi> {
  const taken: TakenMail[] = [];
  const told: { answer: Told | null } = { answer: null };
  const server = await httpServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(Buffer.from(chunk));
      const { method = "", url: path = "", headers } = request;
      const { answer } = told;
      if (answer === "hang") return;
      if (answer === "cut") return void request.socket.destroy();
      const body = Buffer.concat(chunks);
      say(response, answer ?? (await rules({ method, path, headers, body }, (mail) => taken.push(mail))));
    })().catch((error: unknown) => say(response, { status: 500, body: { fake: String(error) } }));
  });
  return Object.assign(told, { ...server, origin: `http://127.0.0.1:${server.port}`, taken });
}

function say(response: ServerResponse, { status, headers = {}, body }: FakeAnswer): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

/** The headers that all mails have of ours, and of the test. */
const COMPARED = [
  "auto-submitted",
  "x-chatapi-delivery",
  "x-chatapi-tag",
  "x-order",
  "list-unsubscribe",
  "list-unsubscribe-post",
];

export const comparedHeaders = (all: Iterable<readonly [string, string]>): Record<string, string> => {
  const known = new Map([...all].map(([name, value]) => [name.toLowerCase(), value]));
  return Object.fromEntries(COMPARED.map((name) => [name, known.get(name) ?? ""]));
};

/** The parts of a MIME message; `envelope`: everybody who gets it. */
export async function fromMime(
  raw: Buffer | string,
  envelope: readonly string[],
  about: Pick<TakenMail, "tag" | "argument">,
): Promise<TakenMail> {
  const mail = await PostalMime.parse(raw, { attachmentEncoding: "base64" });
  const person = (one: { name?: string; address?: string | undefined }) => ({
    name: one.name ?? "",
    address: one.address,
  });
  const named = [...(mail.to ?? []), ...(mail.cc ?? [])].map(({ address }) => address);
  return {
    from: person(mail.from ?? {}),
    to: (mail.to ?? []).map(person),
    cc: (mail.cc ?? []).map(person),
    bcc: envelope.filter((address) => !named.includes(address)),
    replyTo: mail.replyTo?.[0]?.address ?? null,
    subject: mail.subject ?? "",
    html: (mail.html ?? "").trim(),
    text: (mail.text ?? "").trim(),
    messageId: mail.messageId ?? "",
    headers: comparedHeaders(mail.headers.map(({ key, value }) => [key, value] as const)),
    ...about,
    attachments: mail.attachments
      .map(({ filename, mimeType, content, contentId }) => ({
        ...{ filename, type: mimeType, content: String(content).replace(/\s/g, "") },
        contentId: contentId?.replace(/^<|>$/g, "") ?? null,
      }))
      .toSorted((a, b) => String(a.filename).localeCompare(String(b.filename))),
  };
}
