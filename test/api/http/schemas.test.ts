// Pieces of the schemas, the faults they give, and the small parts that requests pass through.
import { describe, expect, test } from "vitest";
import { z } from "zod";
import {
  canonicalMailAddress,
  commaSeparated,
  input,
  mailAddress,
  name,
  orNull,
  patched,
  queryBoolean,
  text,
  timezone,
  userId,
  webhookUrl,
} from "../../../src/contract/fields.ts";
import { bodyPath, toFaults } from "../../../src/contract/issues.ts";
import { mergePatch } from "../../../src/contract/json.ts";
import { parseInstant } from "../../../src/contract/time.ts";
import { processorMs } from "../../support/processor-time.ts";
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
    expect(codes(timezone, "America/Argentina/Buenos_Aires")).toEqual([]);
    for (const bad of ["", "CEST2", "Europe/Nowhere", "x".repeat(70), "constructor"]) {
      expect(codes(timezone, bad), bad).toEqual([" invalid_format"]);
    }
  });
});

describe("a mail address", () => {
  const label = "x".repeat(63);
  test.each([
    ["a@b.co", "a@b.co"],
    ["a+b.c@sub.example.com", "a+b.c@sub.example.com"],
    ["o'neil@example.org", "o'neil@example.org"],
    ["x@localhost", "x@localhost"],
    ["Ann@Example.COM", "Ann@example.com"],
    ["jörg@example.com", "jörg@example.com"],
    ["user@bücher.example", "user@xn--bcher-kva.example"],
    ["user@xn--bcher-kva.example", "user@xn--bcher-kva.example"],
    [`a@${label}.example`, `a@${label}.example`],
    [`${"l".repeat(64)}@b.co`, `${"l".repeat(64)}@b.co`],
  ])("%s is one, and canonical as %s", (given, canonical) => {
    expect(codes(mailAddress, given)).toEqual([]);
    expect(canonicalMailAddress(given)).toBe(canonical);
  });

  test.each([
    ...["abc", "@b.co", "aa@", "a b@c.de", "a@b.c\n", "a@b@c.de", "<a@b.co>", '"a b"@c.de', "a@[127.0.0.1]"],
    ...[".a@x", "a.@x", "a..b@x", "a@b..c", "a@.b", "a@b.", "a@-b.c", "a@b-.c"],
    ...[
      `a@x${label}.example`,
      `${"l".repeat(65)}@b.co`,
      "user@1.2.3",
      "user@127.0.0.1",
      "user@b.1",
      "user@１.２.３.４",
    ],
    ...["a\u202eb@x.co", "a\u200bb@x.co", "a\u2066b@x.co", "a\u3164@x.co", "a@x\u202e.co", "a@b。co"],
  ])("%j is none", (given) => {
    expect(codes(mailAddress, given)).toEqual([" invalid_format"]);
  });

  test("is canonical only when it is short enough", async () => {
    expect(canonicalMailAddress(`a@${"x.".repeat(200)}co`)).toBe(undefined);
    expect(canonicalMailAddress(`a@${"\u00ad".repeat(300)}b.co`)).toBe(undefined);
    // Two letters each become one, which repeats itself in punycode by one character.
    const shrinking = (labels: number) => `a@${`${"\u1100\u1161".repeat(22)}.`.repeat(labels)}co`;
    expect(canonicalMailAddress(shrinking(1))).toMatch(/^a@xn--/);
    expect(canonicalMailAddress(shrinking(6))).toBe(undefined);
    const spent = await processorMs(() => {
      for (let count = 0; count < 70; count += 1) canonicalMailAddress(`a@${"名".repeat(5_000)}`);
    });
    expect(spent).toBeLessThan(100);
  });

  test("is measured before it is converted, and so is a URL's host", async () => {
    expect(codes(mailAddress, `a@${"名".repeat(5_000)}`)).toEqual([" too_long"]);
    expect(codes(webhookUrl, `http://${"名".repeat(2_030)}`)).toEqual([" too_long"]);
    expect(codes(webhookUrl, `http:${"a".repeat(2_030)}`)).toEqual([" too_long"]);
    expect(codes(webhookUrl, `http://${"a".repeat(60)}.example/${"名".repeat(1_900)}`)).toEqual([]);
    const lists = { to: Array.from({ length: 68 }, () => `a@${"名".repeat(5_000)}`) };
    const urls = Array.from({ length: 170 }, () => `http://${"名".repeat(2_030)}`);
    const colons = Array.from({ length: 500 }, () => `http:${"a".repeat(2_030)}`);
    const spent = await processorMs(() => {
      for (const one of lists.to) codes(mailAddress, one);
      for (const one of [...urls, ...colons]) codes(webhookUrl, one);
    });
    expect(spent).toBeLessThan(300);
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
  const inner = input({ email: mailAddress, weight: z.int().min(1).max(9) });
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

  test("name the nearest field of the values of a record", () => {
    const record = input({ by_name: z.record(z.string(), inner) });
    const [fault] = faults(record, { by_name: { news: { email: "a@b.co", weight: 1, emial: "" } } });
    expect(fault).toMatchObject({ path: "by_name.news.emial", code: "unknown_field" });
    expect(fault?.message).toContain("did you mean email");
  });

  test("of one or several of an enum say that a text is not allowed, and that another type is wrong", () => {
    const item = z.enum(["private", "public"]);
    const several = input({ kind: z.union([item, z.array(item)]) });
    expect(codes(several, { kind: "x" })).toEqual(["kind not_allowed"]);
    expect(codes(several, { kind: ["x"] })).toEqual(["kind.0 not_allowed"]);
    for (const kind of [5, true, {}, null]) expect(codes(several, { kind })).toEqual(["kind wrong_type"]);
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
    for (const far of ["wheeeight", "contact_email", "Email", "e--mails"]) {
      const [{ message } = { message: "" }] = faults(inner, { email: "a@b.co", weight: 1, [far]: 1 });
      expect(message).toBe(far === "Email" ? "is not a known field; did you mean email?" : "is not a known field");
    }
    const either = z.union([input({ kind: z.literal("a"), text: z.string() }), input({ kind: z.literal("b") })]);
    expect(faults(either, { kind: "b", text: "t" })[0]?.message).toBe("is not a known field");
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
