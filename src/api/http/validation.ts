// Checking input against a route's schemas: all faults of body, query and headers at once.
import type { IncomingMessage } from "node:http";
import type { z } from "zod";
import { invalid } from "../../app/errors.ts";
import type { Call } from "../../app/services.ts";
import type { FieldFault } from "../../contract/errors.ts";
import { bodyPath, type PathStyle, queryPath, toFaults } from "../../contract/issues.ts";
import { wrongText } from "./body.ts";
import { Problem } from "./problems.ts";
import { type ApiContext, type ApiMiddleware, NO_BODY, type Route } from "./route.ts";

const REPORT = { reportInput: true } as const;

/** Sets `input`, `ifMatch` and `onlyNew`. Throws Problem: validation_failed with every fault, and only without any not_found. */
export function validate(route: Route): ApiMiddleware {
  return (ctx, next) => {
    const { state } = ctx;
    state.ifMatch = route.conditional === true ? ifMatch(ctx.req, state.faults) : null;
    state.onlyNew = route.method === "PUT" && onlyNew(ctx.req, state.faults);
    state.input = checkInput(route, ctx);
    return next();
  };
}

function checkInput(route: Route, { params, querystring, state }: ApiContext) {
  const { caller, body, at } = state;
  const faults = [...state.faults, ...(route.faultsFor?.(caller, body?.value) ?? [])];
  const checkedParams = checkParams(route, params);
  if (checkedParams !== "unknown") faults.push(...checkedParams.faults);
  const query = state.query ?? parseQuery(querystring);
  const checkedQuery = check(route.query, query, textFaults(query), queryPath, faults);
  const checkedBody =
    route.body === null || body === undefined
      ? undefined
      : check(route.body, body.value, ownFaults(route, body.faults), bodyPath, faults);
  if (faults.length > 0) {
    throw invalid(firstOfEach([...faults, ...(route.furtherFaults?.(caller, body?.value, at) ?? [])]));
  }
  if (checkedParams === "unknown") throw new Problem("not_found");
  return { params: checkedParams.value, query: checkedQuery, body: checkedBody };
}

/** Those that are not of items, which are answered one by one. */
const ownFaults = ({ itemsIn }: Route, faults: readonly FieldFault[]): readonly FieldFault[] =>
  itemsIn === undefined ? faults : faults.filter(({ path }) => !path.startsWith(`${itemsIn}.`));

/** A body that is checked by itself. `known`: what was found in it before. Throws AppError (validation_failed). */
export function checkBody(
  route: Route,
  value: unknown,
  { caller, at }: Pick<Call, "caller" | "at">,
  known: readonly FieldFault[],
): unknown {
  const faults = [...(route.faultsFor?.(caller, value) ?? [])];
  const checked = check(route.body ?? NO_BODY, value, known, bodyPath, faults);
  if (faults.length === 0) return checked;
  throw invalid(firstOfEach([...faults, ...(route.furtherFaults?.(caller, value, at) ?? [])]));
}

/** A query's parameters; one that comes several times has its values joined by commas. */
export function parseQuery(querystring: string): Record<string, string> {
  if (querystring === "") return {};
  const values = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(querystring)) {
    const before = values.get(name);
    values.set(name, before === undefined ? value : `${before},${value}`);
  }
  return Object.fromEntries(values);
}

type CheckedParams = { readonly value: unknown; readonly faults: readonly FieldFault[] } | "unknown";

/** Parameters of a path. What is no id of ours is unknown; the caller's own names, where it makes them, are checked. */
function checkParams(route: Route, params: Readonly<Record<string, string>>): CheckedParams {
  if (Object.values(params).some((value) => wrongText(value) !== undefined)) return "unknown";
  const parsed = route.params.safeParse(params, REPORT);
  if (parsed.success) return { value: parsed.data, faults: [] };
  const faults = toFaults(route.params, parsed.error.issues, bodyPath);
  const makes = route.method === "PUT" || route.method === "POST";
  const own = faults.every(({ path }) => path === "user_id" || !path.endsWith("_id"));
  // An emoji is never made: one that is none is wrong in any request.
  const isValue = faults.every(({ path }) => path === "emoji");
  return (makes && own) || isValue ? { value: undefined, faults } : "unknown";
}

/** Parses, and adds faults: those that are known, then those that the schema finds. Of each path the first one counts. */
function check(
  schema: z.ZodType,
  value: unknown,
  known: readonly FieldFault[],
  style: PathStyle,
  faults: FieldFault[],
): unknown {
  const parsed = schema.safeParse(value, REPORT);
  faults.push(...known);
  if (parsed.success) return parsed.data;
  faults.push(...toFaults(schema, parsed.error.issues, style));
  return undefined;
}

const textFaults = (query: Readonly<Record<string, unknown>>): readonly FieldFault[] =>
  Object.entries(query).flatMap(([name, value]): FieldFault[] => {
    const message = typeof value === "string" ? wrongText(value) : undefined;
    return message === undefined ? [] : [{ path: queryPath([name]), code: "invalid_format", message }];
  });

function firstOfEach(faults: readonly FieldFault[]): readonly FieldFault[] {
  const seen = new Map<string, FieldFault>();
  for (const fault of faults) if (!seen.has(fault.path)) seen.set(fault.path, fault);
  return [...seen.values()];
}

const ENTITY_TAGS = /(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/g;
/** An `ETag` as we give it; weak ones never count for a change. */
const OWN_TAG = /^"(0|[1-9]\d{0,14})"$/;

/** The numbers in `If-Match`, one of which must be the current one; null without it or for `*`. A malformed one is a fault. */
function ifMatch({ headers }: IncomingMessage, faults: FieldFault[]): readonly number[] | null {
  const given = headers["if-match"]?.trim();
  if (given === undefined || given === "*") return null;
  const tags = given.match(ENTITY_TAGS) ?? [];
  if (tags.length === 0 || !/^[\s,]*$/.test(given.replaceAll(ENTITY_TAGS, ""))) {
    const message = 'must be one or more ETags as they were given, such as "17"';
    faults.push({ path: "Header: If-Match", code: "invalid_format", message });
    return null;
  }
  return tags.map((tag) => Number(OWN_TAG.exec(tag)?.[1] ?? Number.NaN));
}

/** Whether `If-None-Match` asks for what is new alone. */
function onlyNew({ headers }: IncomingMessage, faults: FieldFault[]): boolean {
  const given = headers["if-none-match"]?.trim();
  if (given !== undefined && given !== "*") {
    faults.push({ path: "Header: If-None-Match", code: "not_allowed", message: "takes * alone" });
  }
  return given === "*";
}
