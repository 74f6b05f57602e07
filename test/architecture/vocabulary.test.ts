// The rule on names refuses everyday words as terms, wherever a name is given, and only as words of their own.

import { describe, expect, test } from "vitest";
import { words, wordsOf } from "../../scripts/rules/words.ts";
import { judge } from "./fixture.ts";

const refused = (path: string, text: string) => judge(words, { [path]: text }).faults;

describe("a name", () => {
  test.each([
    ["nextTurn", ["next", "turn"]],
    ["HTTPSite", ["http", "site"]],
    ["MAX_PLACES", ["max", "places"]],
    ["once-made", ["once", "made"]],
    ["returned", ["returned"]],
    ["_v2Lines", ["v2", "lines"]],
  ])("%s has its words", (name, expected) => {
    expect(wordsOf(name)).toEqual(expected);
  });

  test.each([
    ["a variable", "const nextTurn = 1;", "nextTurn"],
    ["a function", "function awaitCompany() {}", "awaitCompany"],
    ["a parameter", "export const f = (owed: number) => 1;", "owed"],
    ["a parameter that is taken apart", "export const f = ({ a: { reach } }: never) => 1;", "reach"],
    ["a type", "export type Offers = 1;", "Offers"],
    ["a field of a type", "export type A = { readonly premises: 1 };", "premises"],
    ["a private field", "export class A { #doubt = 1; }", "doubt"],
    ["a method", "export class A { askFor() {} }", "askFor"],
    ["a key of an object", "export const a = { wholeOf: 1 };", "wholeOf"],
    ["a constant", "const MAX_PLACES = 1;", "MAX_PLACES"],
    ["a name for another's", 'import { b as told } from "./b.ts";', "told"],
  ])("of %s is refused", (_what, text, name) => {
    expect(refused("src/app/a.ts", text)).toEqual([expect.stringMatching(`^src/app/a.ts:1 ${name}: "`)]);
  });

  test("of a file is refused", () => {
    expect(refused("src/app/meet-users.ts", "")).toEqual([
      'src/app/meet-users.ts the file\'s name, meet-users: "meet" is no term of the field; say ensure',
    ]);
  });

  test("of a queue is no line in the workers; elsewhere a line is one of text", () => {
    expect(refused("src/workers/a.ts", "const line = 1;")).toHaveLength(1);
    expect(refused("src/cli/a.ts", "const line = 1;")).toEqual([]);
  });

  test.each([
    "const password = 1;",
    "const task = replace(online, newline, deadline, placeholder);",
    "const returned = opposite;",
    "use(other.offer, other.whole);",
    'import { decodeWords } from "postal-mime";\ndecodeWords();',
    'const a = "a turn, a company, a whole site"; // told, owed, asked',
  ])("with the usual meaning passes: %s", (text) => {
    expect(refused("src/app/a.ts", text)).toEqual([]);
  });

  test("of what tests share is refused, of what one test has is its own", () => {
    expect(refused("test/support/a.ts", "export const owed = 1;")).toHaveLength(1);
    expect(refused("test/app/a.test.ts", "const owed = 1;")).toEqual([]);
  });
});
