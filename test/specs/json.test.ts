// What is the same as JSON.
import { describe, expect, test } from "vitest";
import { canonicalJson, isObject, type JsonObject, mergePatch, parseJson, sameJson } from "../../src/contract/json.ts";
import fc from "../support/seed.ts";

test("the order of members does not count, at any depth", () => {
  expect(sameJson({ a: 1, b: { c: [1, 2], d: null } }, { b: { d: null, c: [1, 2] }, a: 1 })).toBe(true);
});

test.each([
  [
    [1, 2],
    [2, 1],
  ],
  [{ a: 1 }, { a: "1" }],
  [{ a: null }, {}],
  [[], {}],
  [[["a", 1]], { a: 1 }],
  [["object", ["a", 1]], { a: 1 }],
  [["array"], []],
  [null, "null"],
  ["", null],
])("%j and %j differ", (one, other) => expect(sameJson(one, other)).toBe(false));

test("a member that is undefined is not there", () => expect(sameJson({ a: undefined, b: 1 }, { b: 1 })).toBe(true));

test("it agrees with comparing them deeply", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 3 }), fc.jsonValue({ maxDepth: 3 }), (one, other) => {
      expect(sameJson(one, structuredClone(one))).toBe(true);
      expect(sameJson(one, [one])).toBe(false);
      expect(sameJson(one, other)).toBe(sameJson(other, one));
    }),
  );
});

describe("numbers that a double does not hold", () => {
  const LONG = "1152921504606846976";

  test("are kept as they were written, in a value of any shape", () => {
    for (const text of [
      LONG,
      `-${LONG}`,
      `{"a":[1,${LONG},{"b":0.12345678901234567890}]}`,
      `{"at":1767225600000,"big":9007199254740993,"small":9007199254740991}`,
      "123456789012345678901234567890",
    ]) {
      expect(JSON.stringify(parseJson(text))).toBe(text);
      expect(canonicalJson(parseJson(text))).toBe(text);
    }
  });

  test("are other numbers when a digit differs", () => {
    expect(sameJson(parseJson(`{"id":${LONG}}`), parseJson(`{"id":${LONG}}`))).toBe(true);
    expect(sameJson(parseJson(`{"id":${LONG}}`), parseJson('{"id":1152921504606846977}'))).toBe(false);
  });

  test("are no objects, and replace and are replaced in a merge patch", () => {
    expect(isObject(parseJson(LONG))).toBe(false);
    const merged = mergePatch({ a: { b: 1 }, c: 2 }, parseJson(`{"a":${LONG}}`) as JsonObject);
    expect(JSON.stringify(merged)).toBe(`{"a":${LONG},"c":2}`);
  });

  test("leave all others plain numbers", () => {
    const text = '{"n":9007199254740991,"text":"1152921504606846977","list":[1.5,1e3]}';
    expect(parseJson(text)).toEqual(JSON.parse(text));
  });
});
