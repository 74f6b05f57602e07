// Pieces of the schemas, the faults they give, and the small parts that requests pass through.
import { describe, expect, test } from "vitest";
import { z } from "zod";
import {
  commaSeparated,
  email,
  input,
  name,
  orNull,
  patched,
  queryBoolean,
  text,
  timezone,
  userId,
} from "../../../src/contract/fields.ts";
import { bodyPath, toFaults } from "../../../src/contract/issues.ts";
import { mergePatch } from "../../../src/contract/json.ts";
import { parseInstant } from "../../../src/contract/time.ts";
import fc from "../../support/seed.ts";

const faults = (schema: z.ZodType, value: unknown) => {
  const parsed = schema.safeParse(value, { reportInput: true });
  return parsed.success ? [] : toFaults(schema, parsed.error.issues, bodyPath);
};
const codes = (schema: z.ZodType, value: unknown) => faults(schema, value).map(({ path, code }) => `${path} ${code}`);

describe("text", () => {
  test("is counted in code points", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (value) => {
        const { length } = [...value];
        expect(text(2, 100).safeParse(value).success).toBe(length >= 2 && length <= 100);
      }),
    );
  });

  test("of user ids and addresses has a pattern", () => {
    for (const good of ["a", "A.b_c-d@e+f:9", "x".repeat(128)]) expect(codes(userId, good), good).toEqual([]);
    for (const bad of ["a b", "a/b", "ä", "a\n", "%41"]) expect(codes(userId, bad), bad).toEqual([" invalid_format"]);
    for (const good of ["a@b.co", "a+b.c@sub.example.com", "o'neil@example.org", "x@localhost"]) {
      expect(codes(email, good), good).toEqual([]);
    }
    for (const bad of ["abc", "@b.co", "aa@", "a@b..c", "a@-b.c", "a b@c.de", "a@b.c\n", "a@b@c.de", "<a@b.co>"]) {
      expect(codes(email, bad), bad).toEqual([" invalid_format"]);
    }
    expect(codes(timezone, "America/Argentina/Buenos_Aires")).toEqual([]);
    for (const bad of ["", "CEST2", "Europe/Nowhere", "x".repeat(70), "constructor"]) {
      expect(codes(timezone, bad), bad).toEqual([" invalid_format"]);
    }
  });
});

describe("absent and null", () => {
  const schema = input({ name, made: orNull(text(0, 5)), changed: patched(text(0, 5)) });
  test("are the same where a thing is made, and differ in a patch", () => {
    expect(schema.parse({ name: "x" })).toEqual({ name: "x", made: null });
    expect(schema.parse({ name: "x", made: null, changed: null })).toEqual({ name: "x", made: null, changed: null });
  });
});

describe("faults", () => {
  const inner = input({ email, weight: z.int().min(1).max(9) });
  const schema = input({
    kind: z.enum(["private", "public"]),
    list: z.array(inner).min(1).max(2),
    either: z.union([z.literal(true), inner]).optional(),
  });

  test("have dotted paths and a code each, all at once", () => {
    expect(
      codes(schema, {
        kind: "x",
        list: [
          { emial: "a@b.co", weight: 0 },
          { email: 5, weight: 2.5 },
        ],
      }),
    ).toEqual([
      "kind not_allowed",
      "list.0.email required",
      "list.0.weight too_small",
      "list.0.emial unknown_field",
      "list.1.email wrong_type",
      "list.1.weight wrong_type",
    ]);
    expect(codes(schema, {})).toEqual(["kind required", "list required"]);
    expect(codes(schema, { kind: 5, list: [] })).toEqual(["kind wrong_type", "list too_short"]);
    expect(codes(schema, { kind: "public", list: [1, 2, 3] })).toContain("list too_long");
  });

  test("of one of several shapes are those of the shape that was meant", () => {
    const given = { kind: "public", list: [{ email: "a@b.co", weight: 1 }] };
    expect(codes(schema, { ...given, either: { email: "a@b.co", weight: 99 } })).toEqual(["either.weight too_large"]);
    expect(codes(schema, { ...given, either: 5 })).toEqual(["either wrong_type"]);
    expect(codes(schema, { ...given, either: true })).toEqual([]);
    const typed = z.discriminatedUnion("type", [
      input({ type: z.literal("a"), only: z.string() }),
      input({ type: z.literal("b"), other: z.string() }),
    ]);
    expect(codes(typed, {})).toEqual(["type required"]);
    expect(codes(typed, { type: "c" })).toEqual(["type not_allowed"]);
    expect(codes(typed, { type: 1 })).toEqual(["type wrong_type"]);
    expect(codes(typed, { type: "a", other: "x" })).toEqual(["only required", "other unknown_field"]);
  });

  test("of an unknown field name the nearest known one, also behind defaults and lists", () => {
    const deep = input({ outer: z.array(inner.nullable()).default([]) });
    const [fault] = faults(deep, { outer: [{ email: "a@b.co", weight: 1, wieght: 2 }] });
    expect(fault).toMatchObject({ path: "outer.0.wieght", code: "unknown_field" });
    expect(fault?.message).toContain("weight?");
    expect(faults(input({}), { x: 1 })[0]?.message).toBe("is not a known field");
  });
});

describe("queries", () => {
  test("have lists with commas and booleans", () => {
    const schema = commaSeparated(z.enum(["a", "b"]));
    expect(schema.parse("a, b")).toEqual(["a", "b"]);
    expect(codes(schema, "a,c,")).toEqual(["1 not_allowed", "2 not_allowed"]);
    expect(queryBoolean.parse("false")).toBe(false);
    expect(codes(queryBoolean, "1")).toEqual([" not_allowed"]);
  });

  test("have times with offset, or dates in UTC", () => {
    const good: [string, string][] = [
      ["2026-03-01", "2026-03-01T00:00:00.000Z"],
      ["2026-03-01T10:00:00Z", "2026-03-01T10:00:00.000Z"],
      ["2026-03-01T10:00:00.1234+02:30", "2026-03-01T07:30:00.123Z"],
      ["2026-03-01t10:00:00z", "2026-03-01T10:00:00.000Z"],
      ["2024-02-29", "2024-02-29T00:00:00.000Z"],
    ];
    for (const [given, expected] of good)
      expect(new Date(parseInstant(given) ?? 0).toISOString(), given).toBe(expected);
    for (const bad of [
      "2023-02-29",
      "2026-3-1",
      "2026-03-01T10:00",
      "2026-03-01T24:00:00Z",
      "2026-03-01T10:60:00Z",
      "now",
      "",
    ]) {
      expect(parseInstant(bad), bad).toBeUndefined();
    }
  });
});

test("a merge patch does as RFC 7396 says, and reaches no prototype", () => {
  expect(mergePatch({ a: "b", c: { d: "e", f: "g" } }, { a: "z", c: { f: null } })).toEqual({ a: "z", c: { d: "e" } });
  expect(mergePatch({ a: [1, 2] }, { a: { b: 1, c: null } })).toEqual({ a: { b: 1 } });
  expect(mergePatch({ a: { b: 1 } }, { a: "text" })).toEqual({ a: "text" });
  const merged = mergePatch({}, JSON.parse('{"__proto__":{"admin":true}}'));
  expect(Object.keys(merged)).toEqual(["__proto__"]);
  expect(Object.getPrototypeOf(merged)).toBe(Object.prototype);
});
