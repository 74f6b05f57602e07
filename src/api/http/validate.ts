// Checking input against a route's schemas: all faults of body, query and headers at once.
import type { z } from "zod";
import { invalid } from "../../app/errors.ts";
import type { FieldFault } from "../../contract/errors.ts";
import { bodyPath, type PathStyle, queryPath, toFaults } from "../../contract/issues.ts";
import { type ParsedBody, wrongText } from "./body.ts";
import { Problem } from "./problems.ts";
import type { ReadyRoute } from "./route-table.ts";

const REPORT = { reportInput: true } as const;

/** A query's parameters; one that comes several times has its values joined by commas. */
export function readQuery(search: string): Record<string, string> {
  if (search.length < 2) return {};
  const values = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(search)) {
    const before = values.get(name);
    values.set(name, before === undefined ? value : `${before},${value}`);
  }
  return Object.fromEntries(values);
}

type Params = { readonly value: unknown; readonly faults: readonly FieldFault[] } | "unknown";

/** Parameters of a path. What is no id of ours is unknown; the caller's own names, where it makes them, are checked. */
function checkParams(ready: ReadyRoute, params: Readonly<Record<string, string>>): Params {
  if (Object.values(params).some((value) => wrongText(value) !== undefined)) return "unknown";
  const parsed = ready.params.safeParse(params, REPORT);
  if (parsed.success) return { value: parsed.data, faults: [] };
  const faults = toFaults(ready.params, parsed.error.issues, bodyPath);
  const makes = ready.route.method === "PUT" || ready.route.method === "POST";
  const own = faults.every(({ path }) => path === "user_id" || !path.endsWith("_id"));
  return makes && own ? { value: undefined, faults } : "unknown";
}

/** What came, not checked yet. `faults` are those that others found. */
type Given = {
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, unknown>>;
  readonly body: ParsedBody | undefined;
  readonly faults: readonly FieldFault[];
  /** Asked when there are faults. */
  readonly further: () => readonly FieldFault[];
};
type Input = { readonly params: unknown; readonly query: unknown; readonly body: unknown };

/** Checks all of it. Throws Problem: validation_failed with every fault; only without any, not_found. */
export function checkInput(ready: ReadyRoute, { params, query, body, faults, further }: Given): Input {
  const checked = checkParams(ready, params);
  const all = [...faults, ...(checked === "unknown" ? [] : checked.faults)];
  const checkedQuery = check(ready.query, query, queryTextFaults(query), queryPath, all);
  const checkedBody =
    ready.body === null || body === undefined ? undefined : check(ready.body, body.value, body.faults, bodyPath, all);
  if (all.length > 0) throw invalid(firstOfEach([...all, ...further()]));
  if (checked === "unknown") throw new Problem("not_found");
  return { params: checked.value, query: checkedQuery, body: checkedBody };
}

function firstOfEach(faults: readonly FieldFault[]): readonly FieldFault[] {
  const seen = new Map<string, FieldFault>();
  for (const fault of faults) if (!seen.has(fault.path)) seen.set(fault.path, fault);
  return [...seen.values()];
}

function check(
  schema: z.ZodType,
  value: unknown,
  known: readonly FieldFault[],
  style: PathStyle,
  all: FieldFault[],
): unknown {
  const parsed = schema.safeParse(value, REPORT);
  all.push(...known);
  if (parsed.success) return parsed.data;
  const paths = new Set(known.map(({ path }) => path));
  all.push(...toFaults(schema, parsed.error.issues, style).filter(({ path }) => !paths.has(path)));
  return undefined;
}

const queryTextFaults = (query: Readonly<Record<string, unknown>>): readonly FieldFault[] =>
  Object.entries(query).flatMap(([name, value]): FieldFault[] => {
    const message = typeof value === "string" ? wrongText(value) : undefined;
    return message === undefined ? [] : [{ path: queryPath([name]), code: "invalid_format", message }];
  });
