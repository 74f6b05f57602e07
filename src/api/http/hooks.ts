// Where the email vendors post what became of mails: one secret path a provider. Under no CORS, and no part of the API.
import { receiveHook } from "../../app/mail-hooks.ts";
import type { Services } from "../../app/services.ts";
import type { ApiRouter } from "./api.ts";
import { type Bodies, withBytes } from "./body.ts";
import { sendJson } from "./pages.ts";
import { Problem } from "./problems.ts";

/** Vendors send less than half of this in one request. */
const MAX_BYTES = 1024 * 1024;

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
    const outcome = await withBytes(ctx.req, { ...bodies, owner, maxBytes: MAX_BYTES }, (body) =>
      receiveHook(services, hook, { body, header, now: services.now() }),
    );
    sendJson(ctx, outcome);
  });
}
