// channels/email/html.ts: telling HTML from plain text, and making one from the other.

import { convert } from "html-to-text";
import { LRUCache } from "lru-cache";

// Elements that mails are made of, without attributes or with at least one that has a value: "<3", "<jane@example.com>"
// and "if a<b and b>c" in plain text are no HTML.
const ELEMENTS =
  "a|abbr|address|article|aside|b|big|blockquote|body|br|button|caption|center|cite|code|col|colgroup|dd|del|details|" +
  "div|dl|dt|em|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|li|link|main|" +
  "mark|meta|nav|ol|p|picture|pre|q|s|samp|section|small|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|" +
  "tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr";
const HTML = new RegExp(`<!doctype\\s|<!--|</?(?:${ELEMENTS})(?:\\s*|\\s[^<>=]*=[^<>]*)/?>`, "i");

/** True when the content has at least one element, comment or doctype of HTML. */
export function looksLikeHtml(content: string): boolean {
  return HTML.test(content);
}

// Content comes from tenants: nesting and number of elements are bounded, beyond that the text ends in an ellipsis.
const LIMITS = { maxInputLength: 1_048_576, maxDepth: 100, maxChildNodes: 20_000, ellipsis: "…" };
const asWritten = { uppercase: false };

// A thousand recipients get the same content, and reading a large one takes a tenth of a second.
const MAX_CACHED_CHARACTERS = 8_388_608;
const cached = new LRUCache<string, string>({
  maxSize: MAX_CACHED_CHARACTERS,
  sizeCalculation: (text, html) => text.length + html.length + 1,
  memoMethod: read,
});

/** The text of a mail for readers without HTML: links keep their addresses, headings their letters. */
export function textFromHtml(html: string): string {
  return cached.memo(html);
}

function read(html: string): string {
  return convert(html, {
    wordwrap: 78,
    limits: LIMITS,
    selectors: [
      ...["h1", "h2", "h3", "h4", "h5", "h6"].map((selector) => ({ selector, options: asWritten })),
      { selector: "a", options: { hideLinkHrefIfSameAsText: true } },
      { selector: "img", format: "skip" },
    ],
  });
}

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** Plain text as HTML that shows exactly the same, line breaks and runs of spaces included. */
export function htmlFromText(text: string): string {
  const escaped = text.replace(/[&<>"]/g, (character) => ESCAPES[character] ?? character);
  return `<div style="white-space: pre-wrap">${escaped}</div>`;
}
