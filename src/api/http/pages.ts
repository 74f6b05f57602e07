// What the server says about itself: the reference, the guides, the errors, the OpenAPI and AsyncAPI documents; and problems as pages.
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import manifest from "../../../package.json" with { type: "json" };
import type { Config } from "../../config.ts";
import {
  CLOSE_REASONS,
  CLOSE_REMEDIES,
  type CloseCode,
  FAULT_CODES,
  type FaultCode,
  PROBLEMS,
  type ProblemCode,
  SOCKET_ERRORS,
} from "../../contract/errors.ts";
import type { ApiRouter } from "./api.ts";
import { asyncApiDocument } from "./asyncapi.ts";
import { markdown } from "./markdown.ts";
import { HEAD, type Html, html, type Page, pageOf, sendHtml, sendPage, topBar } from "./markup.ts";
import { openApiDocument } from "./openapi.ts";
import { Problem } from "./problems.ts";
import type { ApiContext, NamedRoute } from "./route.ts";

export function sendJson(ctx: ApiContext, value: unknown, status = 200): void {
  ctx.status = status;
  ctx.set("Content-Type", "application/json; charset=utf-8");
  ctx.body = JSON.stringify(value);
}

/** `/docs` and below, `/openapi.json`, `/asyncapi.json`, the icon. What is made of markup is made once, when it is first requested. */
export function addDocs(
  router: ApiRouter,
  routes: readonly NamedRoute[],
  { publicUrl }: Pick<Config, "publicUrl">,
): void {
  const pages = new Map<string, Promise<Page>>();
  const page = (path: string, make: () => Page | Promise<Page>) => async (ctx: ApiContext) => {
    const made = pages.get(path) ?? Promise.resolve(make());
    pages.set(path, made);
    sendPage(ctx, await made);
  };
  const document = (make: () => Record<string, unknown>) => {
    let made: Record<string, unknown> | undefined;
    return (ctx: ApiContext) => {
      made ??= make();
      sendJson(ctx, made);
    };
  };
  router.get("/", (ctx) => {
    ctx.body = null;
    ctx.status = 302;
    ctx.set("Location", "/docs");
  });
  router.get("/docs", (ctx) => sendHtml(ctx, REFERENCE_PAGE, REFERENCE_POLICY));
  router.get("/docs/reference.js", sendReferenceScript);
  router.get("/docs/start.js", (ctx) => {
    ctx.set("Content-Type", "text/javascript; charset=utf-8");
    ctx.body = START_SCRIPT;
  });
  router.get(
    "/docs/errors",
    page("/docs/errors", () => pageOf("/docs/errors", "Errors", errorsBody())),
  );
  router.get(
    "/docs/guides",
    page("/docs/guides", () => pageOf("/docs/guides", "Guides", guidesBody())),
  );
  for (const [name, [title]] of Object.entries(GUIDES)) {
    const path = `/docs/guides/${name}`;
    router.get(
      path,
      page(path, async () => pageOf(path, title, await guideBody(name))),
    );
  }
  router.get(
    "/asyncapi.json",
    document(() => asyncApiDocument(publicUrl)),
  );
  router.get(
    "/openapi.json",
    document(() => openApiDocument(routes, publicUrl)),
  );
  for (const path of ["/favicon.svg", "/favicon.ico"]) {
    router.get(path, (ctx) => {
      ctx.set({ "Content-Type": "image/svg+xml", "Cache-Control": "public, max-age=86400" });
      ctx.body = ICON;
    });
  }
}

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#0b63b5" d="M6 3h20a4 4 0 0 1 4 4v13a4 4 0 0 1-4 4H14l-7 6v-6H6a4 4 0 0 1-4-4V7a4 4 0 0 1 4-4z"/><path stroke="#fff" stroke-width="3" stroke-linecap="round" d="M9 10h14M9 16h9"/></svg>`;

// The reference: a program of its own, from its package, which reads /openapi.json

/** It makes styles as it runs; it may load nothing from elsewhere and send nothing anywhere but here. */
const REFERENCE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "font-src 'self' data:",
  "connect-src 'self'",
  ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
].join("; ");

const REFERENCE_SCRIPT = fileURLToPath(new URL("browser/standalone.js", import.meta.resolve("@scalar/api-reference")));

/** Its own greys and methods have too little contrast to be read by everybody. */
const REFERENCE_COLOURS = `
.light-mode { --scalar-color-2: #4b5563; --scalar-color-3: #5a6472; --scalar-color-green: #0a6b3d; --scalar-color-red: #b3261e; --scalar-color-orange: #8a4b00; --scalar-color-blue: #0b5cad; --scalar-color-yellow: #6b5600; --scalar-color-purple: #6a3fa0; }
.dark-mode { --scalar-color-2: #b6bfca; --scalar-color-3: #a3adb9; --scalar-color-green: #6fd39b; --scalar-color-red: #ff9a92; --scalar-color-orange: #ffb86b; --scalar-color-blue: #8ec2ff; --scalar-color-yellow: #f0d264; --scalar-color-purple: #cbb0f5; }
`;

/** Without telemetry, fonts, proxies and helpers of its maker's: all of them are elsewhere. */
const REFERENCE_OPTIONS = {
  url: "/openapi.json",
  withDefaultFonts: false,
  telemetry: false,
  proxyUrl: "",
  agent: { disabled: true },
  mcp: { disabled: true },
  showDeveloperTools: "never",
  hideClientButton: true,
  persistAuth: false,
  documentDownloadType: "json",
  theme: "default",
  layout: "modern",
  defaultOpenFirstTag: true,
  operationTitleSource: "summary",
  customCss: REFERENCE_COLOURS,
} as const;

const START_SCRIPT = `Scalar.createApiReference("#reference", ${JSON.stringify(REFERENCE_OPTIONS)});\n`;

const REFERENCE_STYLE = `
:root { color-scheme: light dark; --scalar-custom-header-height: 46px; --scalar-font: system-ui, sans-serif; --scalar-font-code: ui-monospace, monospace; }
body { margin: 0; }
header.top { position: sticky; top: 0; z-index: 1000; height: 46px; display: flex; gap: 0 1rem; align-items: center; padding: 0 1rem; overflow-x: auto; white-space: nowrap;
  font: 15px/1 system-ui, sans-serif; color: light-dark(#1c2530, #e3e8ee); background: light-dark(#f5f7f9, #1a2129); border-bottom: 1px solid light-dark(#dfe4ea, #2e3844); box-sizing: border-box; }
header.top nav { display: flex; gap: 1rem; } header.top a { color: light-dark(#0b63b5, #7ab8f5); text-decoration: none; } header.top a[aria-current] { color: inherit; }
@media (max-width: 480px) { header.top strong { display: none; } }
`;

const VERSION = manifest.dependencies["@scalar/api-reference"];

const REFERENCE_PAGE = html`<!doctype html>
<html lang="en">
<head>${HEAD}<title>Reference · ChatAPI</title><style>${{ html: REFERENCE_STYLE }}</style></head>
<body>
${topBar("/docs")}
<div id="reference"></div>
<noscript><p>The reference needs JavaScript. The same is in <a href="/openapi.json">/openapi.json</a>, and in words in the <a href="/docs/guides">guides</a>.</p></noscript>
<script src="/docs/reference.js?${VERSION}"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`.html;

let compressed: Promise<Buffer> | undefined;

/** Its address changes with the version, so it is loaded once. */
async function sendReferenceScript(ctx: ApiContext): Promise<void> {
  ctx.set({
    "Content-Type": "text/javascript; charset=utf-8",
    "Cache-Control": "public, max-age=31536000, immutable",
    Vary: "Accept-Encoding",
  });
  if (ctx.acceptsEncodings("gzip", "identity") !== "gzip") {
    ctx.body = createReadStream(REFERENCE_SCRIPT);
    return;
  }
  compressed ??= readFile(REFERENCE_SCRIPT).then((bytes) => promisify(gzip)(bytes));
  ctx.set("Content-Encoding", "gzip");
  ctx.body = await compressed;
}

// The guides

/** Those in docs/, in the order in which they are read. */
const GUIDES: Readonly<Record<string, readonly [title: string, about: string]>> = {
  concepts: ["Concepts", "Client, log, seq, position, delivery: what everything else rests on."],
  http: ["HTTP guide", "From a fresh server to rooms, messages, notifications, webhooks and the audit."],
  websocket: ["WebSocket guide", "One socket a user: rooms from where it left off, notifications, every frame."],
  "building-a-chat": [
    "Building a chat",
    "From a token to rooms, posting, typing, presence, threads, unread, search; over connections that break.",
  ],
  assistants: ["Assistants", "Messages that grow while they are written: begin, append, complete, give up."],
  streams: ["Streams of events", "Pull and server-sent events, of a room and of a client; tickets for browsers."],
  deliveries: [
    "Deliveries",
    "Email, webhooks and retries: what is sent, what each answer means, when it is tried again.",
  ],
  webhooks: ["Webhook endpoints", "What happens, as signed requests: filters, order, verifying, repeating."],
  email: ["Email providers", "Choosing and setting up each provider; SPF, DKIM and DMARC."],
  bounces: [
    "Bounces",
    "Bounces, complaints, unsubscribing: what comes back, and which addresses mails no longer go to.",
  ],
  preferences: ["Preferences", "What users want to receive and when; deduplicating, throttling, replacing."],
  inbox: ["The inbox", "What a user has not read, marks and counts."],
  keys: ["API keys", "Scopes, expiry, rotation, how a key ends."],
  "rate-limits": ["Rate limits", "Of clients and users, their headers, several nodes."],
  events: ["Events", "Every stored event type, as audit and timeline show it."],
  running: ["Running it", "Configuration, data, secrets, the command line."],
  operations: ["Operating it", "Parts, backups, upgrades, what happens when one is lost."],
  scaling: ["Growing", "From one process to many nodes."],
  glossary: ["Glossary", "The terms that code and guides use."],
};

const DOCS = new URL("../../../docs/", import.meta.url);

const guidesBody = (): Html => html`<h1>Guides</h1>
<dl class="codes">${Object.entries(GUIDES).map(
  ([name, [title, about]]) => html`<dt><a href="/docs/guides/${name}">${title}</a></dt><dd>${about}</dd>`,
)}</dl>
<p>Every request and answer is in the <a href="/docs">reference</a>, every code in <a href="/docs/errors">errors</a>.</p>`;

async function guideBody(name: string): Promise<Html> {
  const text = await readFile(new URL(`${name}.md`, DOCS), "utf8").catch(() => undefined);
  if (text === undefined) throw new Problem("not_found", { detail: "This installation has no guides." });
  return markdown(text, guideLink);
}

/** A guide's links to other guides lead to their pages; what is only in the repository is named by its path there. */
function guideLink(href: string): string {
  const [, name = "", anchor = ""] = /^([a-z-]+)\.md(#.*)?$/.exec(href) ?? [];
  if (name in GUIDES) return `/docs/guides/${name}${anchor}`;
  return /^(https?:|#|\/)/.test(href) ? href : "/docs/guides";
}

// The errors

const FAULTS: Readonly<Record<FaultCode, string>> = {
  required: "Send the field.",
  unknown_field: "Leave the field out, or write it as the message says.",
  wrong_type: "Send the JSON type that the message names.",
  too_short: "Send more characters or items.",
  too_long: "Send fewer characters or items; characters are Unicode code points.",
  too_small: "Send a greater number.",
  too_large: "Send a smaller number.",
  invalid_format: "Write the value as the message says.",
  not_allowed: "Send another value, or leave the field to your backend: the message says which.",
};

/** What to do about a problem, where its meaning does not say. */
const REMEDIES: { readonly [code in ProblemCode]?: string } = {
  malformed_request: "Use an HTTP library; check what a proxy between makes of the request.",
  malformed_json: "Serialise the body with a JSON library, in UTF-8.",
  invalid_position: "Send the `Position` of an answer as it came, or leave the header out.",
  unauthenticated: "Send `Authorization: Bearer <key or token>` with a key or token that is in force.",
  token_expired: "Mint a token in your backend: `POST /users/{user_id}/tokens`.",
  forbidden: "Call it from your backend, with the client key.",
  insufficient_scope: "Use a key with the scope.",
  role_required: "Have an admin or owner do it, or give the user the role.",
  not_a_member: "Add the user to the room, or let it join when the room is public.",
  read_only: "Give the user the role `member`.",
  sender_mismatch: "Leave `sender_id` out, or post with the client key.",
  not_found: "Check the id, and that key or token belong to the same client.",
  last_owner: "Make somebody else owner first, or delete the room.",
  external_id_taken: "Use the room that `existing_id` names, or another `external_id`.",
  room_full: "Remove somebody first, or raise the room's `max_members`.",
  not_cancellable: "Nothing: all of it has been delivered or has ended.",
  nothing_to_retry: "Nothing: see `deliveries` for what each is waiting for.",
  last_key: "Rotate the key in place of deleting it.",
  provider_limit: "Delete a provider that is not used any more.",
  email_provider_not_configured: "`PUT /email-providers/{name}`.",
  precondition_failed: "Read it again, decide again, and send the new `ETag`.",
  body_too_large: "Send less: split a batch, keep large content elsewhere and send its address.",
  unsupported_media_type: "Send `Content-Type: application/json`.",
  unknown_host: "Add the name to `ALLOWED_HOSTS`, or set `PUBLIC_URL`.",
  ambiguous_recipients: "Leave all but one of them out.",
  no_recipients: "Name users, or add members to the room.",
  idempotency_key_reused: "Use a new key for a new request.",
  headers_too_large: "Send fewer or shorter headers; move long values into the body.",
  internal: "Send it again under the same `Idempotency-Key`. If it stays, look for the `request_id` in the log.",
};

/** By status, for what has no remedy of its own: there is always something to do. */
const REMEDY_OF_STATUS: Readonly<Record<number, string>> = {
  400: "Mend the request.",
  401: "Authenticate anew.",
  403: "Ask your backend to do it, or to allow it.",
  404: "Check the path and the id.",
  405: "Use one of the methods in `Allow`.",
  408: "Send it again, faster.",
  409: "Read the resource again and decide anew.",
  422: "Mend the fields that `errors` names.",
  426: "Open a WebSocket. A proxy may have dropped `Upgrade`: let it pass the header on.",
  429: "Wait for `Retry-After` seconds, then send less.",
  503: "Wait for `Retry-After` seconds and send it again.",
};

/** Text whose backticks are code. */
const withCode = (text: string): Html => ({
  html: text
    .split(/`([^`]*)`/)
    .map((part, at) => (at % 2 === 1 ? html`<code>${part}</code>`.html : html`${part}`.html))
    .join(""),
});

type Coded = readonly [code: string, head: Html, remedy: string];

const listOf = (codes: readonly Coded[]): Html =>
  html`<dl class="codes">${codes.map(
    ([code, head, remedy]) =>
      html`<dt id="${code}"><code>${code}</code> ${head}</dt><dd><span class="soft">What to do:</span> ${withCode(remedy)}</dd>`,
  )}</dl>`;

function errorsBody(): Html {
  const problems = Object.entries(PROBLEMS).toSorted(([, a], [, b]) => a.status - b.status);
  const remedyOf = (code: string, status: number) =>
    REMEDIES[code as ProblemCode] ?? REMEDY_OF_STATUS[status] ?? "See `detail`.";
  return html`<h1>Errors</h1>
<p>Errors are <code>application/problem+json</code> (RFC 9457) with <code>type</code> (the code's anchor on this page), <code>title</code>,
<code>status</code>, <code>detail</code>, <code>code</code> and <code>request_id</code>. One code has one status and one title.
<a href="#fields">Faults of fields</a>, <a href="#socket">errors on sockets</a> and <a href="#close">close codes</a> are below.</p>
${listOf(
  problems.map(([code, { status, title, meaning }]) => [
    code,
    html`<span class="soft">${status}</span> <strong>${title}.</strong> ${withCode(meaning)}`,
    remedyOf(code, status),
  ]),
)}
<h2 id="fields">Faults of fields</h2>
<p>With <a href="#validation_failed"><code>validation_failed</code></a>, <code>errors</code> lists every fault as <code>path</code>, <code>code</code> and <code>message</code>.
A path is dotted (<code>to.0.email</code>), <code>?limit</code> for a query, <code>Header: If-Match</code> for a header, empty for the body.</p>
${listOf(FAULT_CODES.map((code) => [code, html``, FAULTS[code]]))}
<h2 id="socket">Errors on sockets</h2>
<p>An <code>error</code> frame carries one of the codes above, or one of these; the socket stays open.</p>
${listOf(Object.entries(SOCKET_ERRORS).map(([code, remedy]) => [code, html``, remedy]))}
<h2 id="close">Close codes</h2>
<p>After 4000 to 4499 reconnect and resume; after 4500 to 4999 do not. Faults of the protocol itself close as RFC 6455 says (1002, 1007, 1008, 1009).</p>
${listOf(
  Object.entries(CLOSE_REASONS).map(([code, reason]) => [
    code,
    html`<strong>${reason}.</strong>`,
    CLOSE_REMEDIES[Number(code) as CloseCode],
  ]),
)}`;
}

// A problem, for who opens its address in a browser

/** A small page in place of the JSON. `command` shows how a program would send the request. */
export function sendProblemPage(ctx: ApiContext, problem: Problem, base: string): void {
  const { status, title, meaning } = PROBLEMS[problem.code];
  const command = `curl -H 'Authorization: Bearer $KEY' '${base}${ctx.path}'`;
  const page = pageOf(
    ctx.path,
    title,
    html`<p class="soft">${status}</p>
<h1>${title}</h1>
<p>${withCode(problem.detail ?? meaning)}</p>
${status === 401 ? html`<p>The API takes a key or a token, which a browser does not send by itself. In a terminal:</p><pre tabindex="0" class="wrap"><code>${command}</code></pre>` : html``}
<p><a href="/docs/errors#${problem.code}">What <code>${problem.code}</code> means</a></p>
<p class="soft">Request <code>${ctx.state.id}</code></p>`,
  );
  sendPage(ctx, page);
}
