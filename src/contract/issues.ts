// From what zod finds to the faults of the interface: path, code, and a message that helps.
import type { z } from "zod";
import { FAULT_CODES, type FaultCode, type FieldFault } from "./errors.ts";

type Issue = z.core.$ZodIssue;

/** Faults that one answer lists, and unknown fields of one object that are compared with the known ones. */
export const MAX_FAULTS = 1_000;
const MAX_HINTS = 20;

/** How a path is written: dotted for a body, `?name` for a query. */
export type PathStyle = (path: readonly PropertyKey[]) => string;

export const bodyPath: PathStyle = (path) => path.map(String).join(".");
/** A parameter is one text, however many values stand in it. */
export const queryPath: PathStyle = ([name = ""]) => `?${String(name)}`;

/** All faults that zod found. Parse with `reportInput: true`: what is missing is told apart by it. */
export function toFaults(schema: z.ZodType, issues: readonly Issue[], style: PathStyle): readonly FieldFault[] {
  const faults = new Map<string, FieldFault>();
  for (const fault of issues.slice(0, MAX_FAULTS).flatMap((issue) => faultsOf(schema, issue, [], style))) {
    if (!faults.has(fault.path) && faults.size < MAX_FAULTS) faults.set(fault.path, fault);
  }
  return [...faults.values()];
}

/** Faults as one text. */
export const faultsText = (faults: readonly FieldFault[]): string =>
  faults.map((fault) => (fault.path === "" ? fault.message : `${fault.path}: ${fault.message}`)).join("; ");

function faultsOf(
  schema: z.ZodType,
  issue: Issue,
  above: readonly PropertyKey[],
  style: PathStyle,
): readonly FieldFault[] {
  const path = [...above, ...issue.path];
  const fault = (code: FaultCode, message: string): readonly FieldFault[] => [{ path: style(path), code, message }];
  switch (issue.code) {
    case "invalid_type":
      return issue.input === undefined
        ? fault("required", "is required")
        : fault("wrong_type", `must be ${named(issue.expected)}`);
    case "unrecognized_keys":
      return issue.keys.slice(0, MAX_FAULTS).map((key, index) => {
        const known = index < MAX_HINTS ? knownKeys(schema, path) : [];
        return unknownField(path, key, known, style);
      });
    case "too_big":
      return sized(issue.origin)
        ? fault("too_long", `must have at most ${issue.maximum} ${unit(issue.origin)}`)
        : fault("too_large", `must be at most ${issue.maximum}`);
    case "too_small":
      return sized(issue.origin)
        ? fault("too_short", `must have at least ${issue.minimum} ${unit(issue.origin)}`)
        : fault("too_small", `must be at least ${issue.minimum}`);
    case "invalid_value":
      if (issue.input === undefined) return fault("required", "is required");
      return typeof issue.input === typeof issue.values[0]
        ? fault("not_allowed", `must be one of ${issue.values.map(String).join(", ")}`)
        : fault("wrong_type", `must be one of ${issue.values.map(String).join(", ")}`);
    case "invalid_format":
      return fault(
        "invalid_format",
        issue.format === "regex" ? "has the wrong format" : `is not a valid ${issue.format}`,
      );
    case "invalid_union":
      return unionFaults(schema, issue, path, style);
    case "custom": {
      if (issue.input === undefined) return fault("required", "is required");
      return fault(codeIn(issue.params) ?? "invalid_format", issue.message);
    }
    case "not_multiple_of":
    case "invalid_key":
    case "invalid_element":
      return fault("invalid_format", issue.message);
  }
}

/** Of a union, the faults of the variant that came closest: one whose own kind of value it is. */
function unionFaults(
  schema: z.ZodType,
  issue: Extract<Issue, { code: "invalid_union" }>,
  path: readonly PropertyKey[],
  style: PathStyle,
): readonly FieldFault[] {
  const at = style(path);
  const name = path.at(-1);
  if (issue.errors.length === 0) {
    // A discriminator that fits no variant: the input is the object around it.
    const value = isRecord(issue.input) && name !== undefined ? issue.input[String(name)] : undefined;
    if (value === undefined) return [{ path: at, code: "required", message: "is required" }];
    const options =
      "options" in issue && Array.isArray(issue.options) ? `one of ${issue.options.join(", ")}` : "a known value";
    const code = typeof value === "string" ? "not_allowed" : "wrong_type";
    return [{ path: at, code, message: `must be ${options}` }];
  }
  if (issue.input === undefined) return [{ path: at, code: "required", message: "is required" }];
  const fitting = issue.errors.filter((errors) => !errors.some((one) => one.path.length === 0 && isTypeFault(one)));
  const [closest] = fitting.toSorted((a, b) => a.length - b.length);
  if (closest !== undefined) return closest.flatMap((inner) => faultsOf(schema, inner, path, style));
  const kinds = issue.errors.flat().flatMap((one) => (one.code === "invalid_type" ? [named(one.expected)] : []));
  const message = kinds.length > 0 ? `must be ${[...new Set(kinds)].join(" or ")}` : "has the wrong type";
  return [{ path: at, code: "wrong_type", message }];
}

/** Whether the value is of another type; a text that is none of an enum's has its type. */
const isTypeFault = (issue: Issue): boolean =>
  issue.code === "invalid_type" || (issue.code === "invalid_value" && typeof issue.input !== typeof issue.values[0]);
const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const sized = (origin: string): boolean => ["string", "array", "set", "map", "file"].includes(origin);
const unit = (origin: string): string => (origin === "string" ? "characters" : "elements");

const CODES: ReadonlySet<string> = new Set(FAULT_CODES);
const isCode = (value: unknown): value is FaultCode => typeof value === "string" && CODES.has(value);
const codeIn = (params: unknown): FaultCode | undefined =>
  isRecord(params) && isCode(params.code) ? params.code : undefined;

const NAMES: Readonly<Record<string, string>> = {
  int: "an integer",
  object: "an object",
  array: "an array",
  null: "null",
  nonoptional: "given",
};
const named = (expected: string): string => NAMES[expected] ?? `a ${expected}`;

function unknownField(
  path: readonly PropertyKey[],
  key: string,
  known: readonly string[],
  style: PathStyle,
): FieldFault {
  const near = nearest(key, known);
  const hint = near === undefined ? "" : `; did you mean ${near}?`;
  return { path: style([...path, key]), code: "unknown_field", message: `is not a known field${hint}` };
}

/** The fields that the schema knows at a path. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let at: readonly z.core.$ZodType[] = variants(schema);
  for (const step of path) at = at.flatMap((one) => child(one, step)).flatMap(variants);
  return [...new Set(at.flatMap((one) => Object.keys(shapeOf(one) ?? {})))];
}

/** The schemas behind optional, nullable, default, pipe and union. */
function variants(schema: z.core.$ZodType): readonly z.core.$ZodType[] {
  const { def } = schema._zod as unknown as { def: Readonly<Record<string, unknown>> };
  if (Array.isArray(def.options)) return (def.options as z.core.$ZodType[]).flatMap(variants);
  const inner = def.innerType ?? (def.type === "pipe" ? def.in : undefined);
  return inner === undefined ? [schema] : variants(inner as z.core.$ZodType);
}

function child(schema: z.core.$ZodType, step: PropertyKey): readonly z.core.$ZodType[] {
  const { def } = schema._zod as unknown as { def: { element?: z.core.$ZodType; valueType?: z.core.$ZodType } };
  const found = typeof step === "number" ? def.element : (shapeOf(schema)?.[String(step)] ?? def.valueType);
  return found === undefined ? [] : [found];
}

const shapeOf = (schema: z.core.$ZodType): Readonly<Record<string, z.core.$ZodType>> | undefined =>
  (schema._zod as unknown as { def: { shape?: Record<string, z.core.$ZodType> } }).def.shape;

/** The known name that was most likely meant: another one, at most MAX_EDITS away. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const probe = name.slice(0, MAX_COMPARED).toLowerCase();
  const [closest] = known
    // A field of another variant is known, and was not meant.
    .filter((candidate) => candidate !== name)
    .map((candidate) => ({ candidate, edits: distance(probe, candidate.toLowerCase()) }))
    .toSorted((a, b) => a.edits - b.edits);
  return closest !== undefined && /* fence: hint-distance */ closest.edits <= MAX_EDITS ? closest.candidate : undefined;
}

const MAX_EDITS = 2;
/** Longer names are not compared in full: they come from outside. */
const MAX_COMPARED = 64;

/** Edits between two words (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
