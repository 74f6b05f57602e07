// Search in messages: their text as tokens, what a search asks for, both in PostgreSQL's notation, and what was found.

// Text as search sees it: folded, and cut into tokens that know where they stand in the text.

/**
 * `word`: letters and digits in a row, or a pictograph. `character`: one of a script that puts no spaces between words, or
 * in which words carry their particles: such text is found by any part of it.
 */
type Token = {
  readonly kind: "word" | "character";
  /** Folded: case, accents and the form in which Unicode is written do not matter. */
  readonly text: string;
  /** Where it stands in the text, in UTF-16 units; whole characters with their marks. */
  readonly from: number;
  readonly to: number;
};

/** Longer words are known by their beginning: a lexeme has less than 2 KiB in PostgreSQL. */
const MAX_LETTERS = 64;
/** Marks that are folded with their character: further ones stand for themselves. Sorting them takes more than linear time. */
const MAX_MARKS = 16;

/** A character with its marks, with what Unicode composes it with, and with what joins it to others without being seen. */
const CLUSTER = new RegExp(`.[\\p{M}\\p{Cf}\\uff9e\\uff9f\\u1160-\\u11ff]{0,${MAX_MARKS}}`, "suy");
/** Accents, Hebrew points, Arabic vowel signs and tatweel, and what is not seen; other marks are letters of their scripts. */
const ACCENTS =
  /(?=\p{Mn})(?![\u3099\u309a])[\p{sc=Inherited}\p{sc=Hebrew}\p{sc=Arabic}\p{sc=Cyrillic}]|[\p{Cf}\u0640]/gu;
/** Letters that have their accent in them. */
const BARE: Readonly<Record<string, string>> = {
  ...{ ø: "o", ł: "l", đ: "d", ð: "d", ħ: "h", ŧ: "t", ı: "i", æ: "ae", œ: "oe", þ: "th" },
  ς: "σ", // at the end of a word
};
const WITH_ACCENT = new RegExp(`[${Object.keys(BARE).join("")}]`, "g");

const LETTER = /[\p{L}\p{M}\p{N}]/u;
const PICTOGRAPH = /\p{Extended_Pictographic}/u;
const UNSPACED =
  /[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Hangul}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}]/u;

/** Case by way of upper case, where ß is SS; by way of lower case first, for a capital ß. */
function fold(cluster: string): string {
  const cased = cluster.normalize("NFKC").toLowerCase().toUpperCase().toLowerCase();
  const bare = cased.normalize("NFD").replace(ACCENTS, "").normalize("NFC");
  return bare.replace(WITH_ACCENT, (letter) => BARE[letter] ?? letter);
}

/** The tokens of a text, in order. Takes time that grows with its length alone. */
function* tokensOf(text: string): Generator<Token> {
  let run = "";
  let length = 0;
  let from = 0;
  let to = 0;
  for (const { start, end, folded } of clustersOf(text)) {
    for (const character of folded) {
      const isLetter = LETTER.test(character);
      const inRun = isLetter && !UNSPACED.test(character);
      if (!inRun && run !== "") {
        yield { kind: "word", text: run, from, to };
        run = "";
      }
      if (inRun) {
        if (run === "") [from, length] = [start, 0];
        if (length < MAX_LETTERS) run += character;
        length += 1;
        to = end;
      } else if (isLetter) {
        yield { kind: "character", text: character, from: start, to: end };
      } else if (PICTOGRAPH.test(character)) {
        yield { kind: "word", text: character, from: start, to: end };
      }
    }
  }
  if (run !== "") yield { kind: "word", text: run, from, to };
}

/** Ideographs, kana and Hangul syllables that fold to themselves, and are no marks. */
const isFolded = (code: number): boolean =>
  (code >= 0x4e00 && code <= 0x9fff) ||
  (code >= 0x3041 && code <= 0x3096) ||
  (code >= 0x30a1 && code <= 0x30fc) ||
  (code >= 0xac00 && code <= 0xd7a3);

type Cluster = { readonly start: number; readonly end: number; readonly folded: string };

function* clustersOf(text: string): Generator<Cluster> {
  let start = 0;
  while (start < text.length) {
    let end = start + 1;
    const code = text.charCodeAt(start);
    const next = end < text.length ? text.charCodeAt(end) : 0;
    if ((code < 0x80 || isFolded(code)) && (next < 0xad || isFolded(next))) {
      yield { start, end, folded: text.charAt(start).toLowerCase() };
    } else {
      CLUSTER.lastIndex = start;
      CLUSTER.exec(text);
      end = Math.max(end, CLUSTER.lastIndex);
      yield { start, end, folded: fold(text.slice(start, end)) };
    }
    start = end;
  }
}

// What a search asks for: words, "phrases", -without, and prefixes by *.

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

// What PostgreSQL is given for full-text search, in its own notation: the tsvector of a message, the tsquery of a search.

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

// What was found, in its text: `<mark>` around it, and everything else as HTML that shows it and nothing more.

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
