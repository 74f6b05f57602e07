// Every route by everybody who has no right to what it names: 401, 403, or the very answer that an unknown id gets.
import type { Route } from "../../../src/api/http/route.ts";
import type { Asker, Cast, Ids, Target } from "./tenant-cast.ts";
import { SCENES, type Scene } from "./tenant-scenes.ts";

/** One try: a route, the parameter that names what is another's, and who tries it. */
export type Cell = {
  readonly route: Route;
  readonly scene: Scene;
  readonly by: Asker;
  /** Undefined: the route names nothing. */
  readonly tried: Tried | undefined;
  /** Of a route that also answers with a stream: whether one is asked for. */
  readonly stream?: boolean;
};
type Tried = Target & { readonly parameter: string; readonly others: Ids };

const nameOf = ({ method, path }: Pick<Route, "method" | "path">): string => `${method} ${path}`;
/** Parameters that name nothing of anybody's, and what they are. */
const VALUES: Readonly<Record<string, string>> = { emoji: "👍" };
const parametersOf = ({ path }: Route): readonly string[] =>
  [...path.matchAll(/:([a-z_]+)/g)].map(([, name = ""]) => name).filter((name) => !Object.hasOwn(VALUES, name));

/** Whoever may register needs no credential, and is answered with a client that is new. */
const isOpen = ({ access }: Route) => access.kind === "registration";

/** Routes without a scene, and scenes without a route. */
export function unmatched(routes: readonly Route[]): readonly string[] {
  const named = new Set(routes.filter((one) => !isOpen(one)).map(nameOf));
  const without = [...named].filter((name) => SCENES[name] === undefined);
  return [...without, ...Object.keys(SCENES).filter((name) => !named.has(name))];
}

/** There is a stream alone. */
const hasNoJson = ({ problems }: Route): boolean => problems.includes("not_acceptable");

export function cellsOf(routes: readonly Route[], { strangers, targets }: Pick<Cast, "strangers" | "targets">) {
  return routes.flatMap((route) => {
    const scene = SCENES[nameOf(route)];
    return scene === undefined
      ? []
      : strangers.flatMap((by) =>
          triesOf(route, by, targets).flatMap((tried) =>
            (route.stream === undefined ? [false] : hasNoJson(route) ? [true] : [false, true]).map((stream) => ({
              route,
              scene,
              by,
              tried,
              stream,
            })),
          ),
        );
  });
}

/** Each parameter in turn is another's, beside what is one's own and beside what is that other's too. */
function triesOf(route: Route, by: Asker, targets: Cast["targets"]): readonly (Tried | undefined)[] {
  const parameters = parametersOf(route);
  if (parameters.length === 0) return [undefined];
  const firsts = parameters.map((parameter) => {
    const [target] = targets[parameter] ?? [];
    if (target === undefined) throw new Error(`nothing to try for :${parameter} of ${nameOf(route)}`);
    return { ...target, parameter };
  });
  const theirs = Object.fromEntries(firsts.map(({ parameter, id }) => [parameter, id]));
  // Refused before its path is looked at.
  if (by.refused !== undefined) return firsts.slice(0, 1).map((first) => ({ ...first, others: theirs }));
  const beside =
    parameters.every((one) => by.own[one] === theirs[one]) || parameters.length === 1 ? [by.own] : [by.own, theirs];
  return parameters.flatMap((parameter) =>
    (targets[parameter] ?? []).flatMap((target) => beside.map((others) => ({ ...target, parameter, others }))),
  );
}

/** Of the same shape as an id, and nobody's. */
export function unknown(id: string): string {
  if (!/[0-9a-z]{20}/.test(id)) return id.startsWith("ext:") ? "ext:unknown" : "unknown";
  return `${id.slice(0, -6)}zzzzzz`;
}

type Seen = { readonly status: number; readonly code: string; readonly face: string; readonly text: string };
/** What differs from one answer to the next, and the length, with which an id's goes. */
const PASSING = new Set(["date", "x-request-id", "content-length"]);

async function ask(url: string, cell: Cell, id: string | undefined): Promise<Seen> {
  const { route, scene, by, tried, stream } = cell;
  const used = id === undefined || tried === undefined ? VALUES : { ...VALUES, ...tried.others, [tried.parameter]: id };
  const path = route.path.replaceAll(/:([a-z_]+)/g, (_step, name: string) => encodeURIComponent(used[name] ?? ""));
  const { body: more = {}, query = scene.query ?? "" } = by.kind === "key" ? (scene.byKey ?? {}) : {};
  const body = scene.body === undefined ? {} : { body: JSON.stringify({ ...scene.body, ...more }) };
  const headers = {
    "content-type": "application/json",
    ...(stream === true ? { accept: "text/event-stream" } : {}),
    ...(by.bearer === undefined ? {} : { authorization: `Bearer ${by.bearer}` }),
  };
  const response = await fetch(`${url}/api/v1${path}${query}`, { method: route.method, headers, ...body });
  const isStream = response.headers.get("content-type") === "text/event-stream";
  // What a stream sends, and to whom, its own tests say.
  const text = isStream ? "" : await response.text();
  if (isStream) await response.body?.cancel();
  const { status } = response;
  const kept = [...response.headers].filter(([name]) => !PASSING.has(name));
  const whole = JSON.stringify([status, kept, text.replace(/"request_id":"[^"]+"/, "")]);
  const face = id === undefined ? whole : whole.replaceAll(id, "…").replaceAll(encodeURIComponent(id), "…");
  return { status, code: /"code":"([a-z_]+)"/.exec(text)?.[1] ?? "", face, text };
}

/** Whether nothing can come of it but an answer. */
export const isRead = ({ route }: Cell): boolean => route.method === "GET";

/** Whether its stranger is let in, by right. */
export function isAllowed({ route, scene, by, tried }: Cell): boolean {
  if (by.refused !== undefined || (by.kind !== "key" && route.access.kind === "key")) return false;
  if (tried === undefined) return true;
  const besideOwn = parametersOf(route).every((one) => one === tried.parameter || tried.others[one] === by.own[one]);
  return besideOwn && scene.may?.includes(`${by.name}: ${tried.what}`) === true;
}

const REFUSED = [401, 403, 404];

/** What is wrong with the answers to a cell; undefined when nothing is. */
async function fault(url: string, cell: Cell): Promise<string | undefined> {
  const { by, route, tried } = cell;
  const seen = await ask(url, cell, tried?.id);
  const told = by.hidden.filter((mark) => mark !== tried?.id && seen.text.includes(mark));
  const name = `${cell.stream === true ? "stream " : ""}${nameOf(route)} by ${by.name}${tried === undefined ? "" : `, ${tried.what} ${tried.id}`}`;
  const say = (what: string) => `${name}: ${what}: ${seen.status} ${seen.text.slice(0, 200)}`;
  if (told.length > 0) return say(`told of ${told}`);
  if (by.refused !== undefined)
    return seen.status === 401 && seen.code === by.refused ? undefined : say(`not ${by.refused}`);
  if (isAllowed(cell)) return seen.status < 300 || seen.status === 409 ? undefined : say("not let in");
  if (!REFUSED.includes(seen.status)) return say("let in");
  if (tried === undefined || (seen.status === 403 && !by.foreign)) return undefined;
  const other = await ask(url, cell, unknown(tried.id));
  return seen.face === other.face ? undefined : say(`not as unknown (${other.status} ${other.text.slice(0, 200)})`);
}

const AT_ONCE = 8;

/** The faults of all cells. */
export async function faultsOf(url: string, cells: readonly Cell[]): Promise<readonly string[]> {
  const found: string[] = [];
  const waiting = cells.values();
  const worker = async () => {
    for (const cell of waiting) {
      const wrong = await fault(url, cell);
      if (wrong !== undefined) found.push(wrong);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return found;
}

/** What one does to a message that grows, in this order. */
const GROWTH = [":message_id/append", ":message_id/complete", ":message_id/cancel"];
const growthOf = ({ path }: Route): number => GROWTH.findIndex((end) => path.endsWith(end));

/** What the owner may not do of all that was tried: then it was not for whose it is that others were refused. */
export async function ownersFaults(url: string, routes: readonly Route[], { acme, erin, targets }: Cast) {
  const METHODS = ["GET", "PATCH", "PUT", "POST", "DELETE"];
  // Before its writer is muted.
  const order = (one: Route) =>
    growthOf(one) < 0 ? METHODS.indexOf(one.method) * 100 - one.path.length : growthOf(one) - 1_000;
  const found: string[] = [];
  for (const route of routes
    .filter((one) => one.path.includes(":"))
    .toSorted((one, other) => order(one) - order(other))) {
    const by = route.path.endsWith("/ack") ? erin : acme;
    const tries = triesOf(route, by, targets);
    // An item of an inbox is its user's alone, and to a message that grows alone one appends.
    const grows = growthOf(route) >= 0;
    const tried =
      tries.find(
        (one) => one?.parameter === "notification_id" || (grows && one?.what.startsWith("growing") === true),
      ) ?? tries[0];
    const scene = SCENES[nameOf(route)] ?? {};
    const stream = hasNoJson(route);
    const { status, text } = await ask(url, { route, scene, by, tried, stream }, tried?.id);
    if (status >= 300 && status !== 409) found.push(`${nameOf(route)} by ${by.name}: ${status} ${text}`);
  }
  return found;
}
