// Filters of public events: by type, and the content filters of webhook endpoints.
import { z } from "zod";
import type { FaultCode } from "./errors.ts";
import { refuse } from "./fields.ts";
import { isObject } from "./json.ts";
import { PUBLIC_EVENT_TYPES } from "./public-events.ts";

const PREFIXES: ReadonlySet<string> = new Set(PUBLIC_EVENT_TYPES.map((type) => `${type.split(".", 1)[0]}.*`));
const NAMES: ReadonlySet<string> = new Set(PUBLIC_EVENT_TYPES);

/** A type of event, or all of a kind. */
export const eventPattern = z.string().superRefine((value, context) => {
  if (!NAMES.has(value) && !PREFIXES.has(value)) {
    refuse(context, "not_allowed", "must be a type of event, or all of a kind such as message.*");
  }
});

const MAX_BYTES = 4 * 1024;
const MAX_DEPTH = 8;
const MAX_PATH = 200;

type FilterFault = { readonly path: readonly string[]; readonly code: FaultCode; readonly message: string };

/** What each operator compares with. */
const OPERANDS: Readonly<Record<string, "scalar" | "scalars" | "comparable" | "text" | "boolean">> = {
  ...{ $eq: "scalar", $ne: "scalar", $in: "scalars", $nin: "scalars" },
  ...{ $gt: "comparable", $gte: "comparable", $lt: "comparable", $lte: "comparable" },
  ...{ $startsWith: "text", $exists: "boolean" },
};

/** Everything that is wrong with a filter. */
export function filterFaults(value: unknown): readonly FilterFault[] {
  if (!isObject(value)) return [{ path: [], code: "wrong_type", message: "must be an object" }];
  if (Buffer.byteLength(JSON.stringify(value)) > MAX_BYTES)
    return [{ path: [], code: "too_long", message: `must have at most ${MAX_BYTES} bytes as JSON` }];
  return faultsIn(value, [], 1);
}

function faultsIn(filter: unknown, path: readonly string[], depth: number): readonly FilterFault[] {
  const fault = (code: FaultCode, message: string, at = path) => [{ path: at, code, message }];
  if (!isObject(filter)) return fault("wrong_type", "must be an object");
  if (depth > MAX_DEPTH) return fault("too_large", `must be at most ${MAX_DEPTH} filters deep`);
  return Object.entries(filter).flatMap(([name, value]): readonly FilterFault[] => {
    const at = [...path, name];
    if (name === "$not") return faultsIn(value, at, depth + 1);
    if (name === "$and" || name === "$or") {
      if (!Array.isArray(value)) return fault("wrong_type", "must be an array", at);
      if (value.length === 0) return fault("too_short", "must have at least 1 filter", at);
      return value.flatMap((one, index) => faultsIn(one, [...at, String(index)], depth + 1));
    }
    if (name.startsWith("$")) return fault("unknown_field", "is no operator", at);
    if (name === "" || name.length > MAX_PATH) return fault("invalid_format", "must be the path of a field", at);
    return conditionFaults(value, at);
  });
}

function conditionFaults(condition: unknown, path: readonly string[]): readonly FilterFault[] {
  if (isScalar(condition)) return [];
  if (!isObject(condition))
    return [{ path, code: "wrong_type", message: "must be a string, number, boolean, null, or operators" }];
  const operators = Object.entries(condition);
  if (operators.length === 0) return [{ path, code: "too_short", message: "must have at least 1 operator" }];
  return operators.flatMap(([operator, operand]): readonly FilterFault[] => {
    const at = [...path, operator];
    const kind = Object.hasOwn(OPERANDS, operator) ? OPERANDS[operator] : undefined;
    if (kind === undefined) return [{ path: at, code: "unknown_field", message: "is no operator" }];
    const wanted = unfit(kind, operand);
    return wanted === undefined ? [] : [{ path: at, code: "wrong_type", message: `must be ${wanted}` }];
  });
}

const isScalar = (value: unknown): boolean =>
  value === null || typeof value === "string" || typeof value === "number" || typeof value === "boolean";

/** What an operand must be, when it is not. */
function unfit(kind: (typeof OPERANDS)[string], operand: unknown): string | undefined {
  switch (kind) {
    case "scalar":
      return isScalar(operand) ? undefined : "a string, number, boolean or null";
    case "scalars":
      return Array.isArray(operand) && operand.every(isScalar)
        ? undefined
        : "an array of strings, numbers, booleans or nulls";
    case "comparable":
      return typeof operand === "number" || typeof operand === "string" ? undefined : "a number or a string";
    case "text":
      return typeof operand === "string" ? undefined : "a string";
    case "boolean":
      return typeof operand === "boolean" ? undefined : "a boolean";
  }
}
