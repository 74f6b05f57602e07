// Paths outside the API that mails lead to: the page of a mail's unsubscribe link, where GET asks and changes nothing and POST
// unsubscribes (RFC 8058); and where the email vendors post what became of mails.

import { receiveHook } from "../../app/mail-hooks.ts";
import type { Services } from "../../app/services.ts";
import { type Unsubscription, unsubscribe, unsubscriptionOf } from "../../app/suppressions.ts";
import { clientAddress } from "./address.ts";
import type { ApiRouter } from "./api.ts";
import { type Bodies, withBytes } from "./body.ts";
import { type Html, html, pageOf, sendPage } from "./markup.ts";
import { sendJson } from "./pages.ts";
import { Problem } from "./problems.ts";
import type { ApiContext } from "./route.ts";

/** As a form, or in parts: more than the one field that there is. */
const MAX_FORM_BYTES = 4_096;

/** `/u/{token}`. No CORS, no cookies: whoever has the link may unsubscribe. */
export function addUnsubscribing(router: ApiRouter, services: Services, bodies: Bodies): void {
  const { group } = clientAddress(services.config);
  const about = async ({ params: { token = "" } }: ApiContext): Promise<Unsubscription> => {
    const found = await unsubscriptionOf(services, token);
    if (found === undefined) throw new Problem("not_found", { detail: "There is no such link." });
    return found;
  };
  router.get("/u/:token", async (ctx) => {
    const { category, clientName } = await about(ctx);
    show(ctx, "Unsubscribe?", question(category, clientName));
  });
  router.post("/u/:token", async (ctx) => {
    const owner = { client: "unsubscribe", principal: group(ctx.req), isKey: false };
    const found = await about(ctx);
    const body = await withBytes(ctx.req, { ...bodies, owner, maxBytes: MAX_FORM_BYTES }, async (bytes) =>
      bytes.toString("latin1"),
    );
    if (!isOneClick(body)) {
      throw new Problem("malformed_request", { detail: "The body is List-Unsubscribe=One-Click." });
    }
    await unsubscribe(services, found);
    show(ctx, "Unsubscribed", done(found.category, found.clientName));
  });
}

/** The one field, URL-encoded or as a part of a form. */
const isOneClick = (body: string): boolean =>
  new URLSearchParams(body).get("List-Unsubscribe") === "One-Click" ||
  (body.includes('name="List-Unsubscribe"') && body.includes("One-Click"));

function show(ctx: ApiContext, title: string, body: Html): void {
  ctx.set({ "Cache-Control": "no-store", "X-Robots-Tag": "noindex" });
  sendPage(ctx, pageOf("", title, body, { isForm: true }));
}

const question = (category: string, client: string): Html => html`<h1>Unsubscribe?</h1>
<p>You will get no more mails of the kind <strong>${category}</strong> from <strong>${client}</strong>.</p>
<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click"><button>Unsubscribe</button></form>`;

const done = (category: string, client: string): Html => html`<h1>Unsubscribed</h1>
<p>You will get no more mails of the kind <strong>${category}</strong> from <strong>${client}</strong>.</p>`;

// Where the email vendors post what became of mails: one secret path a provider. Under no CORS, and no part of the API.

/** Vendors send less than half of this in one request. */
const MAX_EVENTS_BYTES = 1024 * 1024;

/** `/hooks/email/{token}`. */
export function addHooks(router: ApiRouter, services: Services, bodies: Bodies): void {
  router.post("/hooks/email/:token", async (ctx) => {
    const { token = "" } = ctx.params;
    const hook = services.links.hookOf(token);
    if (hook === undefined) throw new Problem("not_found", { detail: "There is no such path." });
    const owner = { client: hook.client, principal: token, isKey: false };
    const header = (name: string) => {
      const value = ctx.req.headers[name];
      return Array.isArray(value) ? value.join(", ") : value;
    };
    const outcome = await withBytes(ctx.req, { ...bodies, owner, maxBytes: MAX_EVENTS_BYTES }, (body) =>
      receiveHook(services, hook, { body, header, now: services.now() }),
    );
    sendJson(ctx, outcome);
  });
}
