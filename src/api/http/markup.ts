// What all pages share: escaped markup, one style for light and dark, and the policy of what a page may load.
import { createHash } from "node:crypto";
import type { ApiContext } from "./route.ts";

/** Text that is markup already. */
export type Html = { readonly html: string };
type HtmlValue = Html | readonly Html[] | string | number;

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
export const escapeHtml = (text: string): string => text.replaceAll(/[&<>"']/g, (char) => ESCAPES[char] ?? "");

/** Markup with values in it, each escaped unless it is markup itself. */
export function html(strings: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  const shown = values.map((value) => {
    if (typeof value === "string" || typeof value === "number") return escapeHtml(String(value));
    return "html" in value ? value.html : value.map((one) => one.html).join("");
  });
  return { html: strings.map((text, index) => text + (shown[index] ?? "")).join("") };
}

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1c2530, #e3e8ee); --soft: light-dark(#566170, #9aa6b4); --line: light-dark(#dfe4ea, #2e3844);
  --back: light-dark(#ffffff, #12171d); --panel: light-dark(#f5f7f9, #1a2129); --link: light-dark(#0b63b5, #7ab8f5); --bad: light-dark(#b3261e, #f2b8b5); }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); background: var(--back); }
a { color: var(--link); text-underline-offset: .15em; }
header.top { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; align-items: baseline; padding: .6rem 1.25rem; border-bottom: 1px solid var(--line); background: var(--panel); }
header.top strong { margin-right: .4rem; } header.top a { text-decoration: none; padding: .15rem 0; margin-right: 1rem; }
header.top a[aria-current] { color: var(--ink); border-bottom: 2px solid currentColor; }
main { max-width: 54rem; margin: 0 auto; padding: 1.25rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .8rem 0; } h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; } h3 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .88em; }
code { background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: .05em .3em; overflow-wrap: break-word; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; }
pre code { background: none; border: 0; padding: 0; overflow-wrap: normal; } pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line); } td code { white-space: nowrap; }
tr:target, dt:target { background: light-dark(#fff3c4, #332b0f); }
dl.codes { margin: 0; } dl.codes dt { margin-top: 1.2rem; } dl.codes dd { margin: .15rem 0 0; }
.soft { color: var(--soft); } .bar { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin: .8rem 0; } .grow { flex: 1 1 12rem; }
input[type=search] { font: inherit; color: inherit; background: var(--back); border: 1px solid light-dark(#87909c, #6c7885); border-radius: 6px; padding: .35rem .6rem; width: 100%; }
button { font: inherit; color: var(--ink); background: var(--panel); border: 1px solid light-dark(#87909c, #6c7885); border-radius: 6px; padding: .35rem .8rem; cursor: pointer; }
button.bad { color: var(--bad); } :focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
ul.mails { list-style: none; margin: 0; padding: 0; border-top: 1px solid var(--line); }
ul.mails a { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 1rem; padding: .6rem .3rem; border-bottom: 1px solid var(--line); color: inherit; text-decoration: none; }
ul.mails a:hover { background: var(--panel); } ul.mails .cut { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } ul.mails .wide { grid-column: 1 / -1; }
th[scope=row] { width: 1%; white-space: nowrap; padding-right: 1.2rem; font-weight: 600; color: var(--soft); } td { overflow-wrap: anywhere; }
iframe { width: 100%; height: 26rem; border: 1px solid var(--line); border-radius: 6px; background: #fff; }
summary { cursor: pointer; padding: .3rem 0; } [hidden] { display: none !important; }
`;

const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const STYLE_HASH = hashOf(STYLE);

/** What a page may load: its own style and picture, and the one script that it is given. */
type Loads = {
  readonly script?: string;
  readonly frames?: boolean;
  /** It is for people who know nothing of this server: without its bar, and with a form. */
  readonly isForm?: boolean;
};

const policyOf = ({ script, frames = false, isForm = false }: Loads): string =>
  [
    "default-src 'none'",
    `style-src ${STYLE_HASH}`,
    "img-src 'self'",
    ...(script === undefined ? [] : [`script-src ${hashOf(script)}`, "connect-src 'self'"]),
    ...(frames ? ["frame-src 'self'"] : []),
    ...["base-uri 'none'", `form-action ${isForm ? "'self'" : "'none'"}`, "frame-ancestors 'none'"],
  ].join("; ");

/** Sends markup under a policy of what it may load. */
export function sendHtml(ctx: ApiContext, markup: string, policy: string): void {
  ctx.set({
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": policy,
    "Referrer-Policy": "no-referrer",
  });
  ctx.body = markup;
}

const LINKS = [
  ["/docs", "Reference"],
  ["/docs/guides", "Guides"],
  ["/docs/errors", "Errors"],
  ["/openapi.json", "OpenAPI"],
  ["/asyncapi.json", "AsyncAPI"],
] as const;

/** The bar at the top of each page. `path`: of the page. */
export const topBar = (path: string): Html =>
  html`<header class="top"><strong>ChatAPI</strong><nav aria-label="Pages">${LINKS.map(
    ([to, name]) => html`<a href="${to}"${path === to ? { html: ' aria-current="page"' } : ""}>${name}</a> `,
  )}</nav></header>`;

export const HEAD = html`<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="/favicon.svg" type="image/svg+xml">`;

/** A whole page with our style, and the policy it is sent under. */
export type Page = { readonly markup: string; readonly policy: string };

export function pageOf(path: string, title: string, body: Html, loads: Loads = {}): Page {
  const script = loads.script === undefined ? html`` : { html: `<script>${loads.script}</script>` };
  const { html: markup } = html`<!doctype html>
<html lang="en">
<head>${HEAD}<title>${title}${loads.isForm === true ? "" : " · ChatAPI"}</title><style>${{ html: STYLE }}</style></head>
<body>
${loads.isForm === true ? html`` : topBar(path)}
<main>
${body}
</main>
${script}
</body>
</html>
`;
  return { markup, policy: policyOf(loads) };
}

export const sendPage = (ctx: ApiContext, page: Page): void => sendHtml(ctx, page.markup, page.policy);

/** Whether who sends a request is a browser that opens a page. */
export const prefersPage = ({ req: { headers, method } }: Pick<ApiContext, "req">): boolean =>
  (method === "GET" || method === "HEAD") && (headers.accept ?? "").includes("text/html");
