// The development mailbox at /dev/mailbox: as JSON for programs, as pages for people. Only in development mode.
import { DELIVERY_HEADER } from "../../contract/providers.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { InvalidInput } from "../../domain/decider.ts";
import type { ApiRouter } from "./api.ts";
import { type Html, html, type Page, pageOf, prefersPage, sendHtml, sendPage } from "./markup.ts";
import type { OwnOriginCheck } from "./origin.ts";
import { sendJson } from "./pages.ts";
import { Problem } from "./problems.ts";
import type { ApiContext } from "./route.ts";
import { parseQuery } from "./validation.ts";

type Person = { readonly address: string; readonly name: string | null };

/** What is shown of a mail. */
type DevMail = {
  readonly id: string;
  readonly from: Person | null;
  readonly to: readonly Person[];
  readonly cc: readonly Person[];
  readonly bcc: readonly Person[];
  readonly subject: string | null;
  readonly html: string | null;
  readonly text: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly attachments: readonly {
    readonly filename: string | null;
    readonly content_type: string;
    readonly size: number;
  }[];
  readonly received_at: string;
};

type MailFilter = { readonly to?: string | undefined; readonly after?: string | undefined };

/** The mailbox, as the pages need it. */
export type DevMailbox = {
  refresh(): Promise<void>;
  list(filter?: MailFilter): readonly DevMail[];
  wait(filter: MailFilter, timeoutMs: number, signal: AbortSignal): Promise<readonly DevMail[]>;
  get(id: string): DevMail | undefined;
  raw(id: string): Uint8Array | undefined;
  delete(id: string): Promise<boolean>;
  clear(): Promise<void>;
};

/** Tells which notification a delivery is of; null when there is none. */
type NotificationLookUp = (deliveryId: string) => Promise<string | null>;

/** A mail's own markup may style itself and show pictures that it brings, and do nothing else, wherever it is opened. */
const MAIL_POLICY =
  "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

const MAX_WAIT_SECONDS = 30;

/** Throws InvalidInput. */
function waitSeconds(text: string | undefined): number {
  if (text === undefined) return 0;
  const path = "?wait_seconds";
  if (!/^\d{1,9}$/.test(text))
    throw new InvalidInput([{ path, code: "wrong_type", message: "must be a whole number" }]);
  const seconds = Number(text);
  if (seconds <= MAX_WAIT_SECONDS) return seconds;
  throw new InvalidInput([{ path, code: "too_large", message: `must be at most ${MAX_WAIT_SECONDS}` }]);
}

function found<T>(value: T | undefined): T {
  if (value === undefined)
    throw new Problem("not_found", { detail: "There is no such mail; it may have been deleted." });
  return value;
}

export function addMailbox(
  router: ApiRouter,
  mailbox: DevMailbox,
  isOwnOrigin: OwnOriginCheck,
  notificationOf: NotificationLookUp,
): void {
  const requireOwnOrigin = ({ req: { headers } }: ApiContext) => {
    const { origin, host } = headers;
    if (origin !== undefined && !isOwnOrigin(origin, host)) {
      throw new Problem("forbidden", { detail: "A page of another origin cannot change the mailbox." });
    }
  };
  /** The mailbox with what other processes of the node received. */
  const refreshed = async () => {
    await mailbox.refresh();
    return mailbox;
  };
  const requested = async ({ params: { id = "" } }: ApiContext) => found((await refreshed()).get(id));

  router.get("/dev/mailbox", async (ctx) => {
    const { to, after, wait_seconds } = parseQuery(ctx.querystring);
    const filter = { to, after };
    const seconds = waitSeconds(wait_seconds);
    const gone = new AbortController();
    ctx.res.once("close", () => gone.abort());
    const { list, wait } = await refreshed();
    const mails = seconds === 0 ? list(filter) : await wait(filter, seconds * SECOND_MS, gone.signal);
    ctx.set("Vary", "Accept");
    if (prefersPage(ctx)) sendPage(ctx, listPage(mails, to));
    else sendJson(ctx, { data: mails });
  });
  router.delete("/dev/mailbox", async (ctx) => {
    requireOwnOrigin(ctx);
    await (await refreshed()).clear();
    ctx.status = 204;
  });
  router.get("/dev/mailbox/:id", async (ctx) => {
    const mail = await requested(ctx);
    ctx.set("Vary", "Accept");
    if (!prefersPage(ctx)) return sendJson(ctx, mail);
    const delivery = mail.headers[DELIVERY_HEADER.toLowerCase()];
    sendPage(ctx, mailPage(mail, delivery === undefined ? null : await notificationOf(delivery)));
  });
  router.delete("/dev/mailbox/:id", async (ctx) => {
    requireOwnOrigin(ctx);
    if (!(await (await refreshed()).delete(ctx.params.id ?? ""))) throw new Problem("not_found");
    ctx.status = 204;
  });
  router.get("/dev/mailbox/:id/raw", async (ctx) => {
    const bytes = found((await refreshed()).raw(ctx.params.id ?? ""));
    // As text: a browser shows it and runs nothing.
    ctx.set("Content-Type", "text/plain; charset=utf-8");
    ctx.body = Buffer.from(bytes);
  });
  router.get("/dev/mailbox/:id/html", async (ctx) =>
    sendHtml(ctx, found((await requested(ctx)).html ?? undefined), MAIL_POLICY),
  );
}

// Pages

const person = ({ address, name }: Person): string => (name === null ? address : `${name} <${address}>`);
const people = (list: readonly Person[]): string => list.map(person).join(", ");

/** `2026-11-30 14:05:09 UTC`; a browser shows its own time instead. */
const time = (at: string): Html => html`<time datetime="${at}">${at.slice(0, 19).replace("T", " ")} UTC</time>`;

const SCRIPT_OF_TIMES = `
const showTimes = (root) => { for (const one of root.querySelectorAll("time[datetime]")) one.textContent = new Date(one.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }); };
showTimes(document);
`;

/** Fetches the page again when there is a newer mail, and takes its new rows over. */
const LIST_SCRIPT = `${SCRIPT_OF_TIMES}
const list = document.querySelector("ul.mails"), none = document.getElementById("none"), search = document.querySelector("input[type=search]");
const rows = () => [...list.children];
const show = () => {
  const wanted = search.value.trim().toLowerCase();
  for (const row of rows()) row.hidden = !row.textContent.toLowerCase().includes(wanted) && !row.dataset.text.toLowerCase().includes(wanted);
  const shown = rows().filter((row) => !row.hidden).length;
  none.hidden = shown > 0;
  none.textContent = rows().length === 0 ? "No mail yet. New mail appears here by itself." : "No mail matches.";
};
search.addEventListener("input", show);
document.getElementById("clear").addEventListener("click", async () => {
  if (!confirm("Delete every mail?")) return;
  if ((await fetch("/dev/mailbox", { method: "DELETE" })).ok) { list.replaceChildren(); show(); }
});
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
(async () => {
  for (;;) {
    try {
      const query = new URLSearchParams(location.search);
      query.set("wait_seconds", "25");
      const newest = rows()[0]?.id;
      if (newest !== undefined) query.set("after", newest);
      const answer = await fetch("/dev/mailbox?" + query, { headers: { accept: "application/json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      if ((await answer.json()).data.length === 0) continue;
      const page = await fetch(location.href, { headers: { accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await page.text(), "text/html").querySelector("ul.mails");
      showTimes(fresh);
      list.replaceChildren(...fresh.children);
      show();
    } catch { await pause(3000); }
  }
})();
show();
`;

function listPage(mails: readonly DevMail[], to: string | undefined): Page {
  const about = to === undefined ? "" : ` for ${to}`;
  return pageOf(
    "/dev/mailbox",
    "Development mailbox",
    html`<h1>Development mailbox</h1>
<p class="soft">Mail${about} that this server sent while no provider was set. It went nowhere else; the last 500 are kept.</p>
<div class="bar"><label class="grow"><input type="search" placeholder="Search subject, people and text" aria-label="Search mail"></label><button class="bad" id="clear" type="button">Delete all</button></div>
<ul class="mails">${mails.map(row)}</ul>
<p id="none" class="soft" aria-live="polite">${mails.length === 0 ? "No mail yet. New mail appears here by itself." : ""}</p>`,
    { script: LIST_SCRIPT },
  );
}

const SEARCHED_CHARS = 2_000;

const row = (mail: DevMail): Html =>
  html`<li id="${mail.id}" data-text="${(mail.text ?? "").slice(0, SEARCHED_CHARS)}"><a href="/dev/mailbox/${encodeURIComponent(mail.id)}"><strong class="cut">${mail.subject ?? "(no subject)"}</strong><span class="soft">${time(mail.received_at)}</span><span class="soft cut wide">${mail.from === null ? "" : `${person(mail.from)} → `}${people([...mail.to, ...mail.cc])}${mail.bcc.length === 0 ? "" : ` bcc ${people(mail.bcc)}`}</span></a></li>`;

const MAIL_SCRIPT = `${SCRIPT_OF_TIMES}
document.getElementById("delete").addEventListener("click", async () => {
  const answer = await fetch(location.pathname, { method: "DELETE" });
  if (answer.ok || answer.status === 404) location.assign("/dev/mailbox");
});
`;

function mailPage(mail: DevMail, notification: string | null): Page {
  const at = `/dev/mailbox/${encodeURIComponent(mail.id)}`;
  const line = (name: string, value: string | Html) =>
    value === "" ? html`` : html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`;
  const files = mail.attachments.map(
    ({ filename, content_type, size }) => `${filename ?? "unnamed"} (${content_type}, ${size} bytes)`,
  );
  const link =
    notification === null
      ? ""
      : html`<a href="/api/v1/notifications/${notification}/timeline">${notification}</a> <span class="soft">its timeline; needs the client's key</span>`;
  return pageOf(
    at,
    mail.subject ?? "(no subject)",
    html`<p><a href="/dev/mailbox">← All mail</a></p>
<h1>${mail.subject ?? "(no subject)"}</h1>
<table><tbody>
${line("From", mail.from === null ? "" : person(mail.from))}${line("To", people(mail.to))}${line("Cc", people(mail.cc))}
${line("Bcc", people(mail.bcc))}${line("Reply-To", mail.headers["reply-to"] ?? "")}${line("Received", time(mail.received_at))}
${line("Attachments", files.join(", "))}${line("Notification", link)}
</tbody></table>
<div class="bar"><a href="${at}/raw">Raw</a><button class="bad" id="delete" type="button">Delete</button></div>
${mail.html === null ? html`` : html`<iframe sandbox title="The mail's HTML" src="${at}/html"></iframe>`}
<details${mail.html === null ? { html: " open" } : ""}><summary>Text</summary><pre class="wrap" tabindex="0">${mail.text ?? "(none)"}</pre></details>
<details><summary>Headers</summary><table><tbody>${Object.entries(mail.headers).map(
      ([name, value]) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`,
    )}</tbody></table></details>`,
    { script: MAIL_SCRIPT, frames: true },
  );
}
