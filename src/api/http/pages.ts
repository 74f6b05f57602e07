// Pages without scripts: the reference, the errors, the OpenAPI document, and the development mailbox.
import { createHash } from "node:crypto";
import { STATUS_CODES } from "node:http";
import { z } from "zod";
import type { Config } from "../../config.ts";
import { PROBLEMS } from "../../contract/errors.ts";
import type { ApiRouter } from "./api.ts";
import { openApiDocument, problemsOf } from "./openapi.ts";
import type { OwnOriginCheck } from "./origin.ts";
import { Problem } from "./problems.ts";
import { type Access, API_PREFIX, type ApiContext, type NamedRoute, NO_BODY } from "./route.ts";
import { parseQuery } from "./validation.ts";

export function sendJson(ctx: ApiContext, value: unknown, status = 200): void {
  ctx.status = status;
  ctx.set("Content-Type", "application/json; charset=utf-8");
  ctx.body = JSON.stringify(value);
}

/** `policy`: what the page may load. */
function sendPage(ctx: ApiContext, html: string, policy = pagePolicy()): void {
  ctx.set({
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": policy,
    "Referrer-Policy": "no-referrer",
  });
  ctx.body = html;
}

/** `/docs`, `/docs/errors`, `/openapi.json`; each is made once, when it is first requested. */
export function addDocs(
  router: ApiRouter,
  routes: readonly NamedRoute[],
  { publicUrl }: Pick<Config, "publicUrl">,
): void {
  let reference: string | undefined;
  let errors: string | undefined;
  let openApi: Record<string, unknown> | undefined;
  router.get("/", (ctx) => {
    ctx.body = null;
    ctx.status = 302;
    ctx.set("Location", "/docs");
  });
  router.get("/docs", (ctx) => {
    reference ??= documentOf("ChatAPI reference", referencePage(routes));
    sendPage(ctx, reference);
  });
  router.get("/docs/errors", (ctx) => {
    errors ??= documentOf("ChatAPI errors", errorsPage());
    sendPage(ctx, errors);
  });
  router.get("/openapi.json", (ctx) => {
    openApi ??= openApiDocument(routes, publicUrl);
    sendJson(ctx, openApi);
  });
}

// Markup

/** Text that is markup already. */
type Html = { readonly html: string };
type HtmlValue = Html | readonly Html[] | string | number;

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escapeHtml = (text: string): string => text.replaceAll(/[&<>"']/g, (char) => ESCAPES[char] ?? "");

/** Markup with values in it, each escaped unless it is markup itself. */
function html(strings: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  const shown = values.map((value) => {
    if (typeof value === "string" || typeof value === "number") return escapeHtml(String(value));
    return "html" in value ? value.html : value.map((one) => one.html).join("");
  });
  return { html: strings.map((text, index) => text + (shown[index] ?? "")).join("") };
}

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); } h3 { margin-bottom: .3rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
code { background: var(--soft); padding: .1em .3em; border-radius: 3px; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .8rem; overflow: auto; } pre code { background: none; padding: 0; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
nav a { margin-right: 1rem; } .method { font-weight: 700; } .soft { opacity: .75; }
iframe { width: 100%; height: 24rem; border: 1px solid var(--line); background: #fff; }
details { margin: .5rem 0; } summary { cursor: pointer; }
`;

const STYLE_HASH = `'sha256-${createHash("sha256").update(STYLE).digest("base64")}'`;

/** What our pages may load: their own style. `frames`: also frames of this server. */
const pagePolicy = (frames = false): string =>
  [
    "default-src 'none'",
    `style-src ${STYLE_HASH}`,
    ...(frames ? ["frame-src 'self'"] : []),
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");

const documentOf = (title: string, body: Html): string =>
  html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><style>${{ html: STYLE }}</style></head>
<body>
<nav><a href="/docs">Reference</a><a href="/docs/errors">Errors</a><a href="/openapi.json">OpenAPI</a></nav>
${body}
</body>
</html>
`.html;

// The reference and the errors

function referencePage(routes: readonly NamedRoute[]): Html {
  const tags = [...new Set(routes.map((route) => route.tag))];
  return html`<h1>ChatAPI</h1>
<p>JSON over HTTP. Send your key as <code>Authorization: Bearer</code>. Errors are problems with a stable
<code>code</code>, listed under <a href="/docs/errors">errors</a>. Send an <code>Idempotency-Key</code> with a POST that
you may have to repeat, and a write's <code>Position</code> as <code>Read-After</code> with a read that has to see it.
What goes on live is on the WebSocket at <code>/ws</code>.</p>
<p>${tags.map((tag) => html`<a href="#${tag}">${tag}</a> `)}</p>
${tags.map((tag) => html`<h2 id="${tag}">${tag}</h2>${routes.filter((route) => route.tag === tag).map(operation)}`)}`;
}

function operation(route: NamedRoute): Html {
  const query = route.query instanceof z.ZodObject ? Object.keys(route.query.shape) : [];
  const statuses = Object.keys(route.responses).map((status) => `${status} ${STATUS_CODES[status] ?? ""}`);
  return html`<h3 id="${anchor(route)}"><span class="method">${route.method}</span> <code>${API_PREFIX + route.path}</code></h3>
<p>${route.summary} <span class="soft">${allowed(route.access)}</span></p>
${query.length > 0 ? html`<p>Query: ${query.map((name) => html`<code>${name}</code> `)}</p>` : ""}
${route.body === null || route.body === NO_BODY ? "" : schemaOf("Body", route.body, "input")}
${Object.values(route.responses)
  .slice(0, 1)
  .map((schema) => (schema instanceof z.ZodType ? schemaOf("Answer", schema, "output") : html``))}
<p>${statuses.join(", ")}. Problems: ${problemsOf(route).map((code) => html`<a href="/docs/errors#${code}">${code}</a> `)}</p>`;
}

const anchor = ({ method, path }: NamedRoute): string => `${method}${path.replaceAll(/[/:]+/g, "-")}`;

function allowed(access: Access): string {
  if (access.kind === "registration") return "Open in development mode, else for the ADMIN_KEY.";
  const scope = access.scope === null ? "A client key" : `A client key with ${access.scope}`;
  return access.kind === "key" ? `${scope}.` : `${scope}, or a user's token.`;
}

function schemaOf(title: string, schema: z.ZodType, io: "input" | "output"): Html {
  const { $schema: _dialect, ...shown } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return html`<details><summary>${title}</summary><pre><code>${JSON.stringify(shown, null, 2)}</code></pre></details>`;
}

function errorsPage(): Html {
  const kinds = Object.entries(PROBLEMS).toSorted(([, a], [, b]) => a.status - b.status);
  return html`<h1>Errors</h1>
<p>Errors are <code>application/problem+json</code> (RFC 9457) with <code>type</code>, <code>title</code>,
<code>status</code>, <code>detail</code>, <code>code</code> and <code>request_id</code>. With
<code>validation_failed</code>, <code>errors</code> lists every fault as <code>{path, code, message}</code>.</p>
<table><thead><tr><th>Status</th><th>Code</th><th>Meaning</th></tr></thead><tbody>
${kinds.map(([code, { status, title, meaning }]) => html`<tr id="${code}"><td>${status}</td><td><code>${code}</code></td><td><strong>${title}.</strong> ${meaning}</td></tr>`)}
</tbody></table>`;
}

// The development mailbox

type Person = { readonly address: string; readonly name: string | null };

/** What is shown of a mail beside what it has anyway. */
type DevMail = {
  readonly id: string;
  readonly from: Person | null;
  readonly to: readonly Person[];
  readonly cc: readonly Person[];
  readonly bcc: readonly Person[];
  readonly subject: string | null;
  readonly html: string | null;
  readonly text: string | null;
  readonly attachments: readonly { readonly filename: string | null }[];
  readonly received_at: string;
};

const person = ({ address, name }: Person): string => (name === null ? address : `${name} <${address}>`);
const people = (list: readonly Person[]): string => list.map(person).join(", ");

/** All mails given, newest first. */
const mailboxPage = (mails: readonly DevMail[]): string =>
  documentOf(
    "Development mailbox",
    html`<h1>Development mailbox</h1>
<p class="soft">Mail that this server sent while no provider was set. It went nowhere else. Reload to see what came since.</p>
${mails.length === 0 ? html`<p>No mail yet.</p>` : mails.map(mailOf)}`,
  );

function mailOf(one: DevMail): Html {
  const at = `/dev/mailbox/${encodeURIComponent(one.id)}`;
  const row = (name: string, value: string) =>
    value === "" ? html`` : html`<tr><th>${name}</th><td>${value}</td></tr>`;
  const files = one.attachments.map(({ filename }) => filename ?? "unnamed").join(", ");
  return html`<details><summary>${one.subject ?? "(no subject)"} <span class="soft">to ${people([...one.to, ...one.cc, ...one.bcc])}, ${one.received_at}</span></summary>
<table><tbody>
${row("From", one.from === null ? "" : person(one.from))}${row("To", people(one.to))}${row("Cc", people(one.cc))}
${row("Bcc", people(one.bcc))}${row("Subject", one.subject ?? "")}${row("Attachments", files)}
</tbody></table>
${one.html === null ? html`` : html`<iframe sandbox loading="lazy" title="HTML of the mail" src="${at}/html"></iframe>`}
<details><summary>Text</summary><pre>${one.text ?? ""}</pre></details>
<p><a href="${at}">JSON</a> <a href="${at}/raw">Raw</a></p></details>`;
}

/** The mailbox, as the pages need it. */
export type DevMailbox = {
  list(filter?: { readonly to?: string | undefined }): readonly DevMail[];
  get(id: string): DevMail | undefined;
  raw(id: string): Uint8Array | undefined;
  clear(): void;
};

/** A mail's own markup may style itself and show pictures that it brings, and do nothing else, wherever it is opened. */
const MAIL_POLICY =
  "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new Problem("not_found");
  return value;
}

/** `/dev/mailbox`: as JSON and as a page. Only in development mode. */
export function addMailbox(router: ApiRouter, mailbox: DevMailbox, isOwnOrigin: OwnOriginCheck): void {
  const mailOf = ({ params: { id = "" } }: ApiContext) => found(mailbox.get(id));
  router.get("/dev/mailbox", (ctx) => {
    const { to } = parseQuery(ctx.querystring);
    const mails = mailbox.list(to === undefined ? {} : { to });
    const prefersPage = (ctx.req.headers.accept ?? "").includes("text/html");
    if (prefersPage) sendPage(ctx, mailboxPage(mails), pagePolicy(true));
    else sendJson(ctx, { data: mails });
  });
  router.delete("/dev/mailbox", (ctx) => {
    const { origin, host } = ctx.req.headers;
    if (origin !== undefined && !isOwnOrigin(origin, host)) {
      throw new Problem("forbidden", { detail: "A page of another origin cannot empty the mailbox." });
    }
    mailbox.clear();
    ctx.status = 204;
  });
  router.get("/dev/mailbox/:id", (ctx) => sendJson(ctx, mailOf(ctx)));
  router.get("/dev/mailbox/:id/raw", (ctx) => {
    const bytes = found(mailbox.raw(ctx.params.id ?? ""));
    // As text: a browser shows it and runs nothing.
    ctx.set("Content-Type", "text/plain; charset=utf-8");
    ctx.body = Buffer.from(bytes);
  });
  router.get("/dev/mailbox/:id/html", (ctx) => sendPage(ctx, found(mailOf(ctx).html ?? undefined), MAIL_POLICY));
}
