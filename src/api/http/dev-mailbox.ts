// `/dev/mailbox`: the development mailbox over HTTP, as JSON and as a page. Only in development mode.
import type { IncomingMessage } from "node:http";
import { pagePolicy } from "./pages/html.ts";
import { type DevMail, mailboxPage } from "./pages/mailbox.ts";
import { Problem } from "./problems.ts";
import type { OwnOrigin } from "./serve.ts";
import { json, page, type SiteReply, type SiteRequest, type SiteRoute } from "./site.ts";

/** What the routes need of the mailbox. */
export type DevMailbox = {
  list(filter?: { readonly to?: string | undefined }): readonly DevMail[];
  get(id: string): DevMail | undefined;
  raw(id: string): Uint8Array | undefined;
  clear(): void;
};

/** A mail's own markup may style itself and show pictures that it brings, and do nothing else, wherever it is opened. */
const MAIL_POLICY =
  "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

const prefersPage = (request: IncomingMessage): boolean => (request.headers.accept ?? "").includes("text/html");

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new Problem("not_found");
  return value;
}

export function mailboxRoutes(mailbox: DevMailbox, isOwnOrigin: OwnOrigin): readonly SiteRoute[] {
  const list = ({ request, query }: SiteRequest): SiteReply => {
    const mails = mailbox.list(query.to === undefined ? {} : { to: query.to });
    return prefersPage(request) ? page(mailboxPage(mails), pagePolicy(true)) : json({ data: mails });
  };
  const clear = ({ request }: SiteRequest): SiteReply => {
    const { origin, host } = request.headers;
    if (origin !== undefined && !isOwnOrigin(origin, host)) {
      throw new Problem("forbidden", { detail: "A page of another origin cannot empty the mailbox." });
    }
    mailbox.clear();
    return { status: 204, body: null };
  };
  const mail = (id: string) => found(mailbox.get(id));
  return [
    { path: "/dev/mailbox", methods: { GET: list, DELETE: clear } },
    { path: "/dev/mailbox/*", methods: { GET: ({ steps: [id = ""] }) => json(mail(id)) } },
    {
      path: "/dev/mailbox/*/raw",
      methods: {
        GET: ({ steps: [id = ""] }) => ({
          status: 200,
          // As text, so that a browser shows it and runs nothing.
          type: "text/plain; charset=utf-8",
          body: found(mailbox.raw(id)),
        }),
      },
    },
    {
      path: "/dev/mailbox/*/html",
      methods: {
        GET: ({ steps: [id = ""] }) => ({ ...page(found(mail(id).html ?? undefined), MAIL_POLICY) }),
      },
    },
  ];
}
