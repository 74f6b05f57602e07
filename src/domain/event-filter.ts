// domain/event-filter.ts: which public events a webhook endpoint gets: by type, by room and by content.
import { isObject, type JsonObject, type JsonValue } from "../contract/json.ts";

/** What a content filter looks at. */
type FilteredEvent = { readonly type: string; readonly [field: string]: unknown };

/** Whether a type is among patterns: names, or `prefix.*`. */
export const matchesType = (patterns: readonly string[], type: string): boolean =>
  patterns.some((pattern) => (pattern.endsWith(".*") ? type.startsWith(pattern.slice(0, -1)) : pattern === type));

/** Whether an event passes a content filter, which was checked when it was set. */
export function matchesFilter(filter: JsonObject, event: FilteredEvent): boolean {
  return Object.entries(filter).every(([name, value]) => {
    if (name === "$and") return filtersIn(value).every((one) => matchesFilter(one, event));
    if (name === "$or") return filtersIn(value).some((one) => matchesFilter(one, event));
    if (name === "$not") return isObject(value) && !matchesFilter(value, event);
    return matchesField(value, fieldOf(event, name));
  });
}

const filtersIn = (value: JsonValue): readonly JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : []);

/** The value at a dotted path; undefined when it is not there. */
function fieldOf(event: FilteredEvent, path: string): unknown {
  let value: unknown = event;
  for (const step of path.split(".")) {
    if (!isObject(value) || !Object.hasOwn(value, step)) return undefined;
    value = value[step];
  }
  return value;
}

function matchesField(condition: JsonValue, value: unknown): boolean {
  const operators = isObject(condition) ? condition : { $eq: condition };
  return Object.entries(operators).every(([operator, operand]) => matchesOperator(operator, operand, value));
}

/** Of an array it is enough that one element matches. */
function matchesOperator(operator: string, operand: JsonValue, value: unknown): boolean {
  if (operator === "$exists") return (value !== undefined) === operand;
  if (value === undefined) return operator === "$ne" || operator === "$nin";
  return Array.isArray(value)
    ? value.some((element) => compare(operator, operand, element))
    : compare(operator, operand, value);
}

function compare(operator: string, operand: JsonValue, value: unknown): boolean {
  switch (operator) {
    case "$eq":
      return value === operand;
    case "$ne":
      return isComparable(operand, value) && value !== operand;
    case "$in":
      return Array.isArray(operand) && operand.includes(value as JsonValue);
    case "$nin":
      return (
        Array.isArray(operand) &&
        (operand.length === 0 || operand.some((one) => isComparable(one, value))) &&
        !operand.includes(value as JsonValue)
      );
    case "$gt":
      return ordered(value, operand, (order) => order > 0);
    case "$gte":
      return ordered(value, operand, (order) => order >= 0);
    case "$lt":
      return ordered(value, operand, (order) => order < 0);
    case "$lte":
      return ordered(value, operand, (order) => order <= 0);
    case "$startsWith":
      return typeof value === "string" && typeof operand === "string" && value.startsWith(operand);
    default:
      return false;
  }
}

/** Values of two types never match, but null stands for any: `{"$ne": null}` is whatever is not null. */
const isComparable = (operand: JsonValue, value: unknown): boolean =>
  operand === null || value === null || typeof operand === typeof value;

function ordered(value: unknown, operand: JsonValue, holds: (order: number) => boolean): boolean {
  if (typeof value === "number" && typeof operand === "number") return holds(value - operand);
  if (typeof value === "string" && typeof operand === "string")
    return holds(value === operand ? 0 : value < operand ? -1 : 1);
  return false;
}
