// What a search asks for: words, "phrases", -without, and prefixes by *.
import { type Token, tokensOf } from "./search-text.ts";

const MAX_TERMS = 16;

/** Tokens that follow each other in the text. */
export type Term = {
  readonly tokens: readonly Token[];
  /** Its last word may go on. */
  readonly prefix: boolean;
  /** What has it is not found. */
  readonly without: boolean;
};

/** A query that cannot be searched for. The message says what it must be. */
export class InvalidQuery extends Error {
  override readonly name = "InvalidQuery";
  readonly code: "too_long" | "invalid_format";
  constructor(code: InvalidQuery["code"], message: string) {
    super(message);
    this.code = code;
  }
}

const QUOTES = new Set(['"', "“", "”", "„"]);
const SPACE = /\s/u;

/**
 * Reads a query from left to right. A word that has several tokens (`covid-19`, text without spaces) is a phrase of them; a
 * quote that is not closed goes to the end; what has no token at all is passed over. Throws InvalidQuery.
 */
export function parseQuery(query: string): readonly Term[] {
  const terms: Term[] = [];
  const characters = [...query];
  for (let at = 0; at < characters.length; ) {
    if (SPACE.test(characters[at] ?? "")) {
      at += 1;
      continue;
    }
    const without = characters[at] === "-";
    if (without) at += 1;
    const quoted = QUOTES.has(characters[at] ?? "");
    if (quoted) at += 1;
    const start = at;
    const isEnd = (character: string) => QUOTES.has(character) || (!quoted && SPACE.test(character));
    while (at < characters.length && !isEnd(characters[at] ?? "")) at += 1;
    const text = characters.slice(start, at).join("");
    if (quoted) at += 1;
    const tokens = [...tokensOf(text)];
    const prefix = !quoted && text.endsWith("*") && tokens.at(-1)?.kind === "word";
    if (tokens.length > 0) terms.push({ tokens, prefix, without });
  }
  // fence: search-terms
  if (terms.length > MAX_TERMS) throw new InvalidQuery("too_long", `must have at most ${MAX_TERMS} words and phrases`);
  if (terms.every(({ without }) => without))
    throw new InvalidQuery("invalid_format", "must have a word that is to be found");
  return terms;
}
