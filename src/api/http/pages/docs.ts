// The reference page, the page of errors, and the OpenAPI document: all made from the list of routes.
import { STATUS_CODES } from "node:http";
import { z } from "zod";
import type { Config } from "../../../config.ts";
import { PROBLEMS } from "../../../contract/errors.ts";
import { openApiDocument, problemsOf } from "../openapi.ts";
import type { Access } from "../route.ts";
import type { ReadyRoute, RouteTable } from "../route-table.ts";
import { json, page, type SiteRoute } from "../site.ts";
import { document, type Html, html, pagePolicy } from "./html.ts";

/** `/docs`, `/docs/errors`, `/openapi.json`; each is made once, when it is first asked for. */
export function docsRoutes(table: RouteTable, { publicUrl }: Pick<Config, "publicUrl">): readonly SiteRoute[] {
  const reference = once(() => page(document("ChatAPI reference", referencePage(table)), pagePolicy()));
  const errors = once(() => page(document("ChatAPI errors", errorsPage()), pagePolicy()));
  const openApi = once(() => json(openApiDocument(table, publicUrl)));
  return [
    { path: "/", methods: { GET: () => ({ status: 302, body: null, headers: { Location: "/docs" } }) } },
    { path: "/docs", methods: { GET: reference } },
    { path: "/docs/errors", methods: { GET: errors } },
    { path: "/openapi.json", methods: { GET: openApi } },
  ];
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function referencePage(table: RouteTable): Html {
  const tags = [...new Set(table.all.map(({ route }) => route.tag))];
  return html`<h1>ChatAPI</h1>
<p>JSON over HTTP. Send your key as <code>Authorization: Bearer</code>. Errors are problems with a stable
<code>code</code>, listed under <a href="/docs/errors">errors</a>. Send an <code>Idempotency-Key</code> with a POST that
you may have to repeat, and a write's <code>Position</code> as <code>Read-After</code> with a read that has to see it.
What goes on live is on the WebSocket at <code>/ws</code>.</p>
<p>${tags.map((tag) => html`<a href="#${tag}">${tag}</a> `)}</p>
${tags.map((tag) => html`<h2 id="${tag}">${tag}</h2>${table.all.filter(({ route }) => route.tag === tag).map(operation)}`)}`;
}

function operation(ready: ReadyRoute): Html {
  const { route, path } = ready;
  const query = ready.query instanceof z.ZodObject ? Object.keys(ready.query.shape) : [];
  const statuses = Object.keys(route.responses).map((status) => `${status} ${STATUS_CODES[status] ?? ""}`);
  return html`<h3 id="${anchor(ready)}"><span class="method">${route.method}</span> <code>${path}</code></h3>
<p>${route.summary} <span class="soft">${allowed(route.access)}</span></p>
${query.length > 0 ? html`<p>Query: ${query.map((name) => html`<code>${name}</code> `)}</p>` : ""}
${route.body === undefined ? "" : schemaOf("Body", route.body, "input")}
${Object.values(route.responses)
  .slice(0, 1)
  .map((schema) => (schema instanceof z.ZodType ? schemaOf("Answer", schema, "output") : html``))}
<p>${statuses.join(", ")}. Problems: ${problemsOf(ready).map((code) => html`<a href="/docs/errors#${code}">${code}</a> `)}</p>`;
}

const anchor = ({ route }: ReadyRoute): string => `${route.method}${route.path.replaceAll(/[/:]+/g, "-")}`;

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
