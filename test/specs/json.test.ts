// What is the same as JSON.
import { expect, test } from "vitest";
import { sameJson } from "../../src/contract/json.ts";
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
