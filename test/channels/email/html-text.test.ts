// The plain part of a mail, made from its HTML.
import { performance } from "node:perf_hooks";
import { describe, expect, test } from "vitest";
import { looksLikeHtml, textFromHtml } from "../../../src/channels/email/html-text.ts";

describe("what looks like HTML", () => {
  test.each(["<p>x", "a<br>b", "<BR/>", '<a href="x">y</a>', "<!doctype html>", "<!-- x -->", "x</div>", "<h1\nid=a>"])(
    "%j does",
    (content) => expect(looksLikeHtml(content)).toBe(true),
  );
  test.each(["", "a < b > c", "<3", "<jane@example.com>", "x<y>z", "&amp;", "< p>", "<par>", "if a<b and b>c"])(
    "%j does not",
    (content) => expect(looksLikeHtml(content)).toBe(false),
  );
});

describe("text from HTML", () => {
  test("keeps links, lists, and the letters of headings; leaves out what is not shown", async () => {
    const html =
      "<style>p{}</style><h2>News</h2><p>See <a href='https://x.example/a'>this</a>.</p><ul><li>one<li>two</ul><script>1</script>";
    expect(await textFromHtml(html)).toBe("News\n\nSee this [https://x.example/a].\n\n * one\n * two");
  });

  test.each([
    [
      "cells apart",
      "<table><tr><td>2</td><td>10.00</td></tr><tr><th>Sum</th><td>12</td></tr></table>",
      "2  10.00\nSum  12",
    ],
    ["alternative text", 'Hi <img alt="our logo" src=x> there<img src=y>', "Hi our logo there"],
    ["deep tables whole", `${"<table><tr><td>".repeat(500)}deep${"</td></tr></table>".repeat(500)}`, "deep"],
    ["lists in lists", "<ol><li>a<ul><li>b</ul><li>c</ol>d", " 1. a\n    * b\n 2. c\n\nd"],
    ["quotes and line breaks", "a<blockquote>b<br>c</blockquote>d", "a\n\n> b\n> c\n\nd"],
    ["preformatted text", "<pre>a\n  b</pre>c", "a\n  b\n\nc"],
    ["references of characters", "a &amp; b &lt; c&nbsp;&#x20AC;", "a & b < c\u00a0€"],
    [
      "an address once",
      '<a href="https://x.example">https://x.example</a> <a href="mailto:a@b.example">a@b.example</a>',
      "https://x.example a@b.example",
    ],
    ["no script's address", '<a href="javascript:alert(1)">x</a> <a href="#top">y</a>', "x y"],
    ["what is no tag", "1 < 2 <3 a<b", "1 < 2 <3 a"],
    [
      "elements that nobody knows",
      "<p>one</p><constructor>x</constructor><toString>y</toString><p>two",
      "one\n\nxy\n\ntwo",
    ],
    ["an attribute's >", '<p title="a > b">x</p>', "x"],
    ["a comment that never ends", "a<!-- b <p>c", "a"],
    ["blanks between words and elements", "<b>a</b> b<i> c</i>", "a b c"],
  ])("keeps %s", async (_what, html, text) => {
    expect(await textFromHtml(html)).toBe(text);
  });

  test("wraps lines at 78 characters, and no word", async () => {
    const text = await textFromHtml(`<p>${"word ".repeat(40)}${"x".repeat(100)}</p>`);
    const lines = text.split("\n");
    expect(lines.slice(0, -1).every((line) => line.length <= 78)).toBe(true);
    expect(lines.at(-1)).toBe("x".repeat(100));
  });

  test.each([
    ["<ul><li>a", 9],
    ["<table><tr><td>a", 16],
    ["<blockquote>a", 13],
    ["<b>x</i>", 8],
    ["<b", 2],
    ['<a x="', 6],
    ["<!--", 4],
    ["<style>", 7],
    ["&amp", 4],
    ["word ", 5],
    ["<p>x", 4],
  ])("of 256 KiB of %j takes time in proportion to its length, in pieces", async (piece, length) => {
    const timeOf = async (size: number) => {
      const html = piece.repeat(size / length);
      const { eventLoopUtilization } = performance;
      const before = eventLoopUtilization();
      expect(typeof (await textFromHtml(html))).toBe("string");
      expect(typeof looksLikeHtml(html)).toBe("boolean");
      return eventLoopUtilization(before).active;
    };
    await timeOf(16_384);
    const [some, all] = [await timeOf(65_536), await timeOf(262_144)];
    expect(all).toBeLessThan(Math.max(12 * some, 1_000));
  });
});
