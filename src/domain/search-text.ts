// Text as search sees it: folded, and cut into tokens that know where they stand in the text.

/**
 * `word`: letters and digits in a row, or a pictograph. `character`: one of a script that puts no spaces between words, or
 * in which words carry their particles: such text is found by any part of it.
 */
export type Token = {
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
export function* tokensOf(text: string): Generator<Token> {
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
