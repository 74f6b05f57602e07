// The list of routes, ready for requests: paths compiled, schemas made, found by method and path.
import Router, { type Layer } from "koa-router";
import { z } from "zod";
import type { Route } from "./route.ts";

/** Where all routes of the list are. */
export const API_PREFIX = "/api/v1";

/** A route with what a request of it needs. */
export type ReadyRoute = {
  readonly route: Route;
  /** With the prefix, as metrics and OpenAPI name it. */
  readonly path: string;
  /** Of the path's parameters, in order. */
  readonly names: readonly string[];
  readonly params: z.ZodType;
  readonly query: z.ZodType;
  /** Null when a body is not looked at. */
  readonly body: z.ZodType | null;
  /** Whether it is a list with cursors. */
  readonly paged: boolean;
};

type Match =
  | { readonly kind: "route"; readonly ready: ReadyRoute; readonly params: Readonly<Record<string, string>> }
  | { readonly kind: "method"; readonly allow: string }
  | { readonly kind: "none" };

const NOTHING = z.strictObject({});
const ANY_PARAMS = z.record(z.string(), z.string());
const WITH_BODY: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH"]);
const NONE: Match = { kind: "none" };

/** Finds routes. A trailing slash is ignored, HEAD goes with GET. */
export type RouteTable = { readonly all: readonly ReadyRoute[]; find(method: string, path: string): Match };

export function routeTable(routes: readonly Route[]): RouteTable {
  const router = new Router({ prefix: API_PREFIX });
  const ready = new Map<unknown, ReadyRoute>();
  for (const route of routes) {
    const one = prepare(route);
    const layer = router.register(route.path, [route.method], () => {}, { sensitive: true });
    ready.set(layer, one);
  }
  return {
    all: [...ready.values()],
    find(method, path) {
      const found = router.match(path, method);
      const layer = found.pathAndMethod[0];
      const one = ready.get(layer);
      if (layer !== undefined && one !== undefined) {
        const values = layer.captures(path);
        const params = Object.fromEntries(one.names.map((name, index) => [name, decode(values[index] ?? "")]));
        return { kind: "route", ready: one, params };
      }
      return found.path.length === 0 ? NONE : { kind: "method", allow: methodsOf(found.path) };
    },
  };
}

/** What a step of a path stands for; a plus is a plus there. One that cannot be decoded stays as it is. */
function decode(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

const methodsOf = (layers: readonly Layer[]): string =>
  [...new Set(layers.flatMap((layer) => layer.methods))].join(", ");

function prepare(route: Route): ReadyRoute {
  const query = route.query ?? NOTHING;
  return {
    route,
    path: API_PREFIX + route.path,
    names: [...route.path.matchAll(/:([a-z_]+)/g)].map(([, name = ""]) => name),
    params: route.params ?? ANY_PARAMS,
    query,
    body: route.body ?? (WITH_BODY.has(route.method) ? NOTHING : null),
    paged: query instanceof z.ZodObject && "cursor" in query.shape,
  };
}
