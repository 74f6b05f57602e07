// What is served beside the API: each path outside /api/v1 has its few methods, and answers text, JSON or a page.
import type { IncomingMessage } from "node:http";
import { Problem } from "./problems.ts";

/** An answer outside the API. */
export type SiteReply = {
  readonly status: number;
  readonly type?: string;
  readonly body: string | Uint8Array | null;
  readonly headers?: Readonly<Record<string, string>>;
};

export type SiteRequest = {
  readonly request: IncomingMessage;
  /** What the `*` of the path stood for, decoded. */
  readonly rest: string;
  readonly query: Readonly<Record<string, string>>;
};

export type SiteHandler = (request: SiteRequest) => SiteReply | Promise<SiteReply>;
/** A path, or one that ends with `/*` for a single step behind it, with its handlers by method. HEAD goes with GET. */
export type SiteRoute = { readonly path: string; readonly methods: Readonly<Record<string, SiteHandler>> };

export const json = (value: unknown, status = 200): SiteReply => ({
  status,
  type: "application/json; charset=utf-8",
  body: JSON.stringify(value),
});

/** What a page may load: nothing but what stands in it. `styles` are the hashes of its style elements. */
export const page = (html: string, policy: string): SiteReply => ({
  status: 200,
  type: "text/html; charset=utf-8",
  body: html,
  headers: { "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer" },
});

/** Finds the handler of a path. Throws Problem (404, 405). */
export function findHandler(
  routes: ReadonlyMap<string, SiteRoute>,
  method: string,
  path: string,
): { readonly route: SiteRoute; readonly handler: SiteHandler; readonly rest: string } {
  const bare = path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
  let route = routes.get(bare);
  let rest = "";
  if (route === undefined) {
    const cut = bare.lastIndexOf("/");
    rest = decode(bare.slice(cut + 1));
    route = routes.get(`${bare.slice(0, cut)}/*`);
  }
  if (route === undefined) throw new Problem("not_found", { detail: "There is no such path." });
  const handler = route.methods[method === "HEAD" ? "GET" : method];
  if (handler !== undefined) return { route, handler, rest };
  const allow = Object.keys(route.methods).flatMap((one) => (one === "GET" ? ["GET", "HEAD"] : [one]));
  throw new Problem("method_not_allowed", { headers: { Allow: allow.join(", ") } });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
