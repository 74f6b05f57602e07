// JSON as values: numbers of any length, what counts as an object, when two values mean the same, and merge patches.
import { z } from "zod";

declare global {
  interface JSON {
    parse(
      text: string,
      reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
    ): unknown;
    rawJSON(text: string): object;
    isRawJSON(value: unknown): boolean;
  }
}

export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue };
export type JsonObject = { [key: string]: JsonValue };

/** Whether a value of JSON is an object. */
export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !JSON.isRawJSON(value);

/** Fewer digits in a row are a number that a double holds. */
const LONG_NUMBER = /[0-9]{16}/;

/**
 * Parses JSON. A number that a double would change is kept as it was written: as `JSON.rawJSON`, which is written out
 * digit by digit again and is a number to no schema. Throws SyntaxError.
 */
export function parseJson(text: string): unknown {
  if (!LONG_NUMBER.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value, { source }) => {
    if (typeof value !== "number" || source === undefined || source.length < 16) return value;
    // fence: exact-numbers
    return Number.isFinite(value) && String(value) !== source ? JSON.rawJSON(source) : value;
  });
}

/** Any JSON; what was parsed as JSON is not looked through again. */
export const JsonValueSchema: z.ZodType<JsonValue> = z.custom<JsonValue>((value) => value !== undefined);
export const JsonObjectSchema = z.custom<JsonObject>(isObject);

/** JSON with the members of every object in one order; a member that is undefined is not there. */
export function canonicalJson(value: unknown): string {
  if (typeof value !== "object" || value === null || JSON.isRawJSON(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`);
  return `{${members.join(",")}}`;
}

/** Whether both are the same JSON, whatever the order of the members of objects. */
export const sameJson = (one: unknown, other: unknown): boolean => canonicalJson(one) === canonicalJson(other);

/** The object with the changes of a merge patch, in which null removes (RFC 7396). */
export function mergePatch(old: JsonObject, patch: JsonObject): JsonObject {
  const merged = new Map(Object.entries(old));
  for (const [key, value] of Object.entries(patch)) {
    const before = merged.get(key);
    if (value === null) merged.delete(key);
    else merged.set(key, isObject(value) ? mergePatch(isObject(before) ? before : {}, value) : value);
  }
  return Object.fromEntries(merged);
}
