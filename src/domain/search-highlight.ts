// What was found, in its text: `<mark>` around it, and everything else as HTML that shows it and nothing more.
import type { Term } from "./search-query.ts";
import { type Token, tokensOf } from "./search-text.ts";

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escapeHtml = (text: string): string =>
  /* fence: search-escape */ text.replace(/[&<>"']/g, (found) => ENTITIES[found] ?? found);

/** The text as HTML, with `<mark>` around what the terms find. Characters are never parted from their marks. */
export function highlight(text: string, terms: readonly Term[]): string {
  const tokens = [...tokensOf(text)];
  let html = "";
  let shown = 0;
  const mark = (from: number, to: number) => {
    html += `${escapeHtml(text.slice(shown, from))}<mark>${escapeHtml(text.slice(from, to))}</mark>`;
    shown = to;
  };
  for (const { from, to } of rangesOf(tokens, terms)) if (to > shown) mark(Math.max(from, shown), to);
  return html + escapeHtml(text.slice(shown));
}

type Range = { from: number; to: number };

/** In order; those that touch are one. */
function rangesOf(tokens: readonly Token[], terms: readonly Term[]): readonly Range[] {
  const wanted = terms.filter(({ without }) => !without);
  const ranges: Range[] = [];
  /** The index behind the last token that is found. */
  let found = 0;
  tokens.forEach(({ from, to }, index) => {
    for (const term of wanted) if (isAt(tokens, index, term)) found = Math.max(found, index + term.tokens.length);
    if (index >= found) return;
    const last = ranges.at(-1);
    if (last !== undefined && from <= last.to) last.to = Math.max(last.to, to);
    else ranges.push({ from, to });
  });
  return ranges;
}

const isAt = (tokens: readonly Token[], index: number, { tokens: wanted, prefix }: Term): boolean =>
  wanted.every(({ kind, text }, nth) => {
    const token = tokens[index + nth];
    if (token?.kind !== kind) return false;
    return prefix && nth === wanted.length - 1 ? token.text.startsWith(text) : token.text === text;
  });
