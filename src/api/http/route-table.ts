// The list of routes, ready for requests: schemas made, found by method and path.
import { z } from "zod";
import type { Route } from "./route.ts";
import { decodeStep } from "./target.ts";

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

/** What may follow the steps of a path so far: one of some steps or else any one, and the routes that end here by method. */
type Place = {
  readonly fixed: Map<string, Place>;
  any: Place | undefined;
  readonly routes: Map<string, ReadyRoute>;
};
const newPlace = (): Place => ({ fixed: new Map(), any: undefined, routes: new Map() });

/** Throws when two routes could be meant by one path. */
export function routeTable(routes: readonly Route[]): RouteTable {
  const all = routes.map(prepare);
  const root = newPlace();
  for (const ready of all) {
    const place = placeOf(root, ready.path);
    const { method } = ready.route;
    if (place.routes.has(method)) throw new Error(`two routes ${method} ${ready.path}`);
    place.routes.set(method, ready);
  }
  return {
    all,
    find(method, path) {
      const steps = path.split("/");
      if (steps.at(-1) === "") steps.pop();
      const values: string[] = [];
      let place: Place | undefined = root;
      for (const step of steps) {
        const fixed: Place | undefined = place.fixed.get(step);
        if (fixed === undefined) values.push(step);
        place = fixed ?? (step === "" ? undefined : place.any);
        if (place === undefined) return NONE;
      }
      if (place.routes.size === 0) return NONE;
      const ready = place.routes.get(method === "HEAD" ? "GET" : method);
      if (ready === undefined) return { kind: "method", allow: methodsOf(place) };
      const params = Object.fromEntries(ready.names.map((name, index) => [name, decodeStep(values[index] ?? "")]));
      return { kind: "route", ready, params };
    },
  };
}

/** Where a route's path ends; made when it is not there. */
function placeOf(root: Place, path: string): Place {
  let place = root;
  for (const step of path.split("/")) {
    const isAny = step.startsWith(":");
    if (isAny ? place.fixed.size > 0 : place.any !== undefined) throw new Error(`${path} could be another route's`);
    const next: Place = (isAny ? place.any : place.fixed.get(step)) ?? newPlace();
    if (isAny) place.any = next;
    else place.fixed.set(step, next);
    place = next;
  }
  return place;
}

const methodsOf = ({ routes }: Place): string =>
  [...routes.keys()].flatMap((method) => (method === "GET" ? ["HEAD", "GET"] : [method])).join(", ");

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
