// Searches: how a query is read, and what was found is shown.
import { describe, expect, test } from "vitest";
import { highlight, InvalidQuery, parseQuery, queriesOf, vectorOf } from "../../src/domain/search.ts";
import { processorMs } from "../support/processor-time.ts";

const CLIENT = "cli_00000abcde";

/** Terms as text: `-` without, `*` a prefix, tokens parted by `+`. */
const read = (query: string) =>
  parseQuery(query).map(
    ({ tokens, prefix, without }) =>
      `${without ? "-" : ""}${tokens.map(({ text }) => text).join("+")}${prefix ? "*" : ""}`,
  );

describe("a query", () => {
  test.each<[query: string, terms: readonly string[]]>([
    ["one  two\u3000three", ["one", "two", "three"]],
    ['"one two" three', ["one+two", "three"]],
    ["“one two” „three four", ["one+two", "three+four"]],
    ['one -two -"three four"', ["one", "-two", "-three+four"]],
    ["sea* *sea s*a", ["sea*", "sea", "s+a"]],
    ['"one two*"', ["one+two"]],
    ["covid-19* 手机*", ["covid+19*", "手+机"]],
    ['one"two three"', ["one", "two+three"]],
    ['- -- "" ... * one', ["one"]],
    ["a & b | !c <-> (d):*'\\", ["a", "b", "c", "d"]],
  ])("%s", (query, terms) => {
    expect(read(query)).toEqual(terms);
  });

  test.each(["-one", '-"one two" -three', "…", "*", '"', "- ", "\ud800"])("%s has nothing to be found", (query) => {
    expect(() => parseQuery(query)).toThrow(InvalidQuery);
  });

  test("has at most 16 terms", () => {
    const query = Array.from({ length: 16 }, (_, n) => `w${n}`).join(" ");
    expect(read(query)).toHaveLength(16);
    expect(() => parseQuery(`${query} -more`)).toThrow("at most 16 words and phrases");
  });

  test("becomes tsqueries, phrases by the distance of their words and pairs of characters", () => {
    const wanted = (query: string) => queriesOf(CLIENT, parseQuery(query), { senders: ["sub_a", "sub_b"] });
    const senders = "('@sub_a' | '@sub_b')";
    expect(wanted('"a b" c* -d')).toEqual({
      wanted: `('abcdea' <1> 'abcdeb') & ('abcdec':*) & (!('abcded')) & ${senders}`,
      loose: `('abcdea') & ('abcdeb') & ('abcdec':*) & (!('abcded')) & ${senders}`,
      ranked: "'abcdea' | 'abcdeb' | 'abcdec':*",
    });
    expect(wanted("手机壳app -机").wanted).toBe(
      `('abcde手机' <1> 'abcde机壳' <2> 'abcdeapp') & (!('abcde机')) & ${senders}`,
    );
  });
});

test("the vector of a message has its words, its characters alone and in pairs, and its facets", () => {
  const facets = { rooms: ["room_a"], senders: ["sub_a"], types: ["text"], mentioned: ["@everyone"] };
  expect(vectorOf(CLIENT, "No, no: 手机", facets)).toBe(
    "'#room_a' '@sub_a' 'abcde=text' 'abcde&@everyone' 'abcdeno':1,2 'abcde手':3 'abcde机':4 'abcde手机':3",
  );
});

describe("what was found", () => {
  test.each<[query: string, text: string, html: string]>([
    ["fox", "A fox, the FOX", "A <mark>fox</mark>, the <mark>FOX</mark>"],
    ['"a b"', "a b a c", "<mark>a</mark> <mark>b</mark> a c"],
    ["fo* -bar", "foo bar", "<mark>foo</mark> bar"],
    ["b", "<b>\"b\" & 'b'", "&lt;<mark>b</mark>&gt;&quot;<mark>b</mark>&quot; &amp; &#39;<mark>b</mark>&#39;"],
    ["mark", "<mark>x</mark>", "&lt;<mark>mark</mark>&gt;x&lt;/<mark>mark</mark>&gt;"],
    ["x", "<mark>x</mark>", "&lt;mark&gt;<mark>x</mark>&lt;/mark&gt;"],
    ["ete", "e\u0301te\u0301\u0316!", "<mark>e\u0301te\u0301\u0316</mark>!"],
    ["e", "e\u0301", "<mark>e\u0301</mark>"],
    ["𠮷", "𠮷野家", "<mark>𠮷</mark>野家"],
    ["野家", "𠮷野家だ", "𠮷<mark>野家</mark>だ"],
    ["京", "東京、京都", "東<mark>京</mark>、<mark>京</mark>都"],
    ["aa", "aa\u200daa aa", "aa\u200daa <mark>aa</mark>"],
    ["かか", "かかか", "<mark>かかか</mark>"],
    ["👍", "👍🏽<", "<mark>👍🏽</mark>&lt;".replace("👍🏽</mark>", "👍</mark>🏽")],
    ["fine", "ﬁne", "<mark>ﬁne</mark>"],
    ["a", "\ud800a\udc00", "\ud800<mark>a</mark>\udc00"],
    ["none", "nothing <", "nothing &lt;"],
  ])("%s in %s", (query, text, html) => {
    expect(highlight(text, parseQuery(query))).toBe(html);
  });
});

test.each(["a\u0301", "a\u0301\u0316", "ﷺ", "ก็", "𠮷", "\u1112\u116c", "x", "<mark>"])(
  "%s again and again is read in linear time",
  async (part) => {
    const text = `${part.repeat(100_000 / part.length)} found`;
    let html = "";
    const spent = await processorMs(() => {
      html = highlight(text, parseQuery("found"));
    });
    expect(html).toMatch(/ <mark>found<\/mark>$/);
    expect(spent).toBeLessThan(5_000);
  },
);
