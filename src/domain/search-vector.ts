// What PostgreSQL is given for full-text search, in its own notation: the tsvector of a message, the tsquery of a search.
import type { Term } from "./search-query.ts";
import { type Token, tokensOf } from "./search-text.ts";

/** What a search is narrowed by, and a message is found by. */
export type Facets = {
  readonly rooms?: readonly string[];
  readonly senders?: readonly string[];
  readonly types?: readonly string[];
  readonly mentioned?: readonly string[];
};

/** Of longer texts the beginning is found. Keeps a tsvector far below its 1 MiB. */
const MAX_TOKENS = 20_000;
/** PostgreSQL knows no higher position than 16,383: positions begin anew, so that phrases are found behind it. */
const POSITIONS = 16_000;
/** PostgreSQL keeps no more of one lexeme. */
const MAX_POSITIONS = 255;

/**
 * With a part of the client's id in front, so that looking one up passes over hardly any entry of another client. Words hold
 * only letters, marks, digits and pictographs: nothing in them has a meaning in PostgreSQL's notation.
 */
const tagOf = (client: string): string => client.slice(-5);

function facetsOf(tag: string, { rooms, senders, types, mentioned }: Facets): readonly (readonly string[])[] {
  const groups = [
    rooms?.map((room) => `#${room}`),
    senders?.map((subject) => `@${subject}`),
    types?.map((type) => `${tag}=${type}`),
    mentioned?.map((subject) => `${tag}&${subject}`),
  ];
  return groups.filter((group) => group !== undefined);
}

/** The tsvector of a message's text and facets. A pair of characters stands where its first does. */
export function vectorOf(client: string, text: string, facets: Facets): string {
  const tag = tagOf(client);
  const lexemes = new Map<string, number[]>(
    facetsOf(tag, facets)
      .flat()
      .map((facet) => [facet, []]),
  );
  const add = (lexeme: string, position: number) => {
    const known = lexemes.get(lexeme);
    if (known === undefined) lexemes.set(lexeme, [position]);
    else if (known.length < MAX_POSITIONS) known.push(position);
  };
  let before: Token | undefined;
  let count = 0;
  for (const token of tokensOf(text)) {
    if (count >= MAX_TOKENS) break;
    add(tag + token.text, (count % POSITIONS) + 1);
    if (isPair(before, token)) add(tag + before.text + token.text, ((count - 1) % POSITIONS) + 1);
    before = token;
    count += 1;
  }
  return [...lexemes]
    .map(([lexeme, positions]) => `'${lexeme}'${positions.length === 0 ? "" : `:${positions.join()}`}`)
    .join(" ");
}

const isPair = (one: Token | undefined, other: Token | undefined): one is Token =>
  one?.kind === "character" && other?.kind === "character";

type Operand = { readonly lexeme: string; readonly at: number };

/** What a term is looked up by: words, and characters in pairs where another one is beside them. */
function operandsOf(tag: string, { tokens, prefix }: Term): readonly Operand[] {
  return tokens.flatMap((token, at) => {
    const next = tokens[at + 1];
    if (next !== undefined && isPair(token, next)) return [{ lexeme: `'${tag}${token.text}${next.text}'`, at }];
    if (isPair(tokens[at - 1], token)) return []; // the pair before has it
    return [{ lexeme: `'${tag}${token.text}'${prefix && at === tokens.length - 1 ? ":*" : ""}`, at }];
  });
}

const phrase = (operands: readonly Operand[]): string =>
  operands.reduce((text, { lexeme, at }, nth) => {
    const before = operands[nth - 1];
    return before === undefined ? lexeme : `${text} <${at - before.at}> ${lexeme}`;
  }, "");
const both = (parts: readonly string[]): string => parts.map((part) => `(${part})`).join(" & ");
const any = (lexemes: readonly string[]): string => lexemes.join(" | ");

/**
 * The tsqueries of a search. `wanted` is what it means; `loose` matches the more, but is decided by the index alone: of phrases
 * it takes the words; `ranked` is what counts for the score, each occurrence of any word, which takes linear time.
 */
export function queriesOf(client: string, terms: readonly Term[], facets: Facets) {
  const tag = tagOf(client);
  const all = terms.map((term) => ({ ...term, operands: operandsOf(tag, term) }));
  const wanted = all.filter(({ without }) => !without);
  const lexemes = wanted.flatMap(({ operands }) => operands.map(({ lexeme }) => lexeme));
  const unwanted = all.filter(({ without }) => without).map(({ operands }) => operands);
  const narrowed = facetsOf(tag, facets).map((group) => any(group.map((facet) => `'${facet}'`)));
  const not = (operands: readonly Operand[]) => `!(${phrase(operands)})`;
  return {
    wanted: both([...wanted.map(({ operands }) => phrase(operands)), ...unwanted.map(not), ...narrowed]),
    loose: both([...lexemes, ...unwanted.filter(({ length }) => length === 1).map(not), ...narrowed]),
    ranked: any(lexemes),
  };
}
