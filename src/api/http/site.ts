// What is served beside the API: each path outside /api/v1 has its few methods, and answers text, JSON or a page.
import type { IncomingMessage } from "node:http";
import { Problem } from "./problems.ts";
import type { Whole } from "./respond.ts";
import { decodeStep } from "./target.ts";

/** An answer outside the API. */
export type SiteReply = {
  readonly status: number;
  readonly type?: string;
  readonly body: string | Uint8Array | null;
  readonly headers?: Readonly<Record<string, string>>;
};

export type SiteRequest = {
  readonly request: IncomingMessage;
  /** What each `*` of the path stood for, decoded. */
  readonly steps: readonly string[];
  readonly query: Readonly<Record<string, string>>;
};

type SiteHandler = (request: SiteRequest) => SiteReply | Promise<SiteReply>;
/** A path, in which `*` stands for any one step, with its handlers by method. HEAD goes with GET. */
export type SiteRoute = { readonly path: string; readonly methods: Readonly<Record<string, SiteHandler>> };

export const json = (value: unknown, status = 200): SiteReply => ({
  status,
  type: "application/json; charset=utf-8",
  body: JSON.stringify(value),
});

/** What a page may load: nothing but what stands in it. */
export const page = (html: string, policy: string): SiteReply => ({
  status: 200,
  type: "text/html; charset=utf-8",
  body: html,
  headers: { "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer" },
});

/** The answer that a reply makes. */
export const wholeOf = ({ status, type, body, headers }: SiteReply): Whole => ({
  status,
  headers: { ...headers, ...(type === undefined ? {} : { "Content-Type": type }) },
  body,
});

/** Finds the handler of a path; a trailing slash is ignored. Throws Problem (404, 405). */
export function findHandler(
  routes: readonly SiteRoute[],
  method: string,
  path: string,
): { readonly route: SiteRoute; readonly handler: SiteHandler; readonly steps: readonly string[] } {
  const asked = path.replace(/(.)\/$/, "$1").split("/");
  const route = routes.find(({ path: own }) => fits(own.split("/"), asked));
  if (route === undefined) throw new Problem("not_found", { detail: "There is no such path." });
  const handler = route.methods[method === "HEAD" ? "GET" : method];
  if (handler !== undefined) {
    return {
      route,
      handler,
      steps: asked.filter((_step, index) => route.path.split("/")[index] === "*").map(decodeStep),
    };
  }
  const allow = Object.keys(route.methods).flatMap((one) => (one === "GET" ? ["GET", "HEAD"] : [one]));
  throw new Problem("method_not_allowed", { headers: { Allow: allow.join(", ") } });
}

const fits = (own: readonly string[], asked: readonly string[]): boolean =>
  own.length === asked.length &&
  own.every((step, index) => step === asked[index] || (step === "*" && asked[index] !== ""));
