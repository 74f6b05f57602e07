// Odd values as JSON texts: what no schema wants, what each wants only just, and what could mean something to the code.
import { exampleText, type Schema, variants } from "../../e2e/support/bad-bodies.ts";
import { pick, type Random } from "./random.ts";

const quoted = (text: string): string => JSON.stringify(text);

/** Names that a JavaScript object has of itself, and marks of our own. */
export const PROTOTYPES = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf", "then"];

const TEXTS = [
  ...["", " ", "\t", "\n", "a\r\nBcc: x@evil.example", "\u0085", "\u2028", "\ufeff", "\u200b", "\u202eabc", "\ufffd"],
  ...["\uffff", "\u{10ffff}", "e\u0301", "İ", "ﬃ", "\uff11", "👩‍👩‍👧‍👦", "🏳️‍🌈", "ü", "Ω", "ἀ"],
  ...[...PROTOTYPES, "$sealed", '{"$sealed":[0,0]}', "open", "erased", "null", "undefined", "NaN", "-0", "0", "1e400"],
  ...["../../etc/passwd", "..", "%00", "%2e%2e", "' or 1=1--", "$1", "\\", '"', "<script>", "{{7*7}}", "*", "ext:x"],
  ...["room_", "room_0000000000000000000000000", "msg_x", "ntf_x", "dlv_x", "client", "alice", "ALICE", "a@b", "a@b.c"],
  ...['"a b"@c.d', "a@[127.0.0.1]", "ü@münchen.example", "a@xn--", "a,b@c.d", "<a@b.c>", "a@b.c\u0000"],
  ...["http://127.0.0.1:9/", "http://[::1]:9/x?y#z", "http://a\u0000b/", "javascript:0", "file:///etc/passwd"],
  ...["2026-02-30T00:00:00Z", "9999-12-31T23:59:59.999Z", "0000-01-01T00:00:00Z", "+275760-09-13T00:00:00Z", "2026"],
  ...["2999-01-01T00:00:00+23:59", "Europe/Berlin", "utc", "text", "system", "member", "owner", "low", "email"],
];

const NUMBERS = [
  ...["0", "-0", "1", "-1", "0.1", "1.5", "1e0", "1E2", "1e308", "-1e308", "1e400", "-1e400", "1e-400", "5e-324"],
  ...["255", "65535", "65536", "2147483647", "2147483648", "4294967296", "9007199254740991", "9007199254740993"],
  ...["18446744073709551616", "9".repeat(400), `0.${"3".repeat(300)}`, "60", "86400", "604800", "604801"],
];

/** No JSON, where a value should be. */
const BROKEN = [
  "NaN",
  "-Infinity",
  "+1",
  "01",
  ".5",
  "5.",
  "0x10",
  "1_000",
  "'a'",
  "undefined",
  "",
  '"',
  '"\\x"',
  "tru",
];

/** Escapes that no well-formed text has, and some that one may. */
const ESCAPES = [
  ...['"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udc00"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\ud83d"'],
  ...['"\\u2028"', '"\\u001f"', '"\\u005f\\u005fproto\\u005f\\u005f"', '"\\/"', '"\\ufeff"'],
];

/** Objects or arrays, so many levels deep. */
export const nested = (levels: number, isArray: boolean): string =>
  isArray ? "[".repeat(levels) + "]".repeat(levels) : `${'{"a":'.repeat(levels - 1)}{}${"}".repeat(levels - 1)}`;

const OTHERS = [
  ...[
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    '{"a":1}',
    '{"open":1}',
    '{"erased":true}',
    '["__proto__"]',
  ],
  ...['{"__proto__":{"admin":true}}', '{"a":{"__proto__":1}}', '{"constructor":{"prototype":{}}}', '{"length":-1}'],
  ...['{"toString":null}', '{"":1}', '{"a":1,"a":2}', '{"$sealed":[0,0]}', '{"a\\u0000":1}', '{"\\ud800":1}'],
];

const DEPTHS = [2, 20, 30, 31, 32, 33, 100, 10_000];
/** One, two, three and four bytes of UTF-8; a pair of combining ones; one that no text may have. */
const LETTERS = ["a", "é", "中", "😀", "e\u0301", "\u0000"];

/** A text of a length around the bounds of its schema, in code points. */
function boundText(random: Random, { minLength = 0, maxLength = 300 }: Schema): string {
  const length = pick(random, [minLength - 1, minLength, minLength + 1, maxLength - 1, maxLength, maxLength + 1]);
  const letter = pick(random, LETTERS);
  const count = Math.min(300_000, Math.max(0, length)) / [...letter].length;
  return quoted(random.below(3) === 0 ? letter + "a".repeat(Math.max(0, count - 1)) : letter.repeat(count));
}

/** Any odd value. */
export function oddText(random: Random): string {
  const kind = random.below(20);
  if (kind < 7) return quoted(pick(random, TEXTS));
  if (kind < 10) return pick(random, NUMBERS);
  if (kind < 13) return pick(random, ESCAPES);
  if (kind < 17) return pick(random, OTHERS);
  if (kind < 18) return nested(pick(random, DEPTHS), random.below(2) === 0);
  if (kind < 19) return quoted(pick(random, LETTERS).repeat(pick(random, [1_000, 9_000, 70_000])));
  return pick(random, BROKEN);
}

/** A value for a field of this schema: on its bounds, nearly right, or anything. */
export function oddValue(random: Random, schema: Schema): string {
  const one = pick(random, variants(schema));
  const kind = random.below(10);
  if (kind < 4) return oddText(random);
  if (one.type === "string" && one.enum === undefined && one.const === undefined) return boundText(random, one);
  if (one.type === "integer" || one.type === "number") {
    const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = one;
    return String(pick(random, [minimum - 1, minimum, minimum + 0.5, maximum, maximum + 1, -minimum]));
  }
  if (one.type === "array") return oddArray(random, one);
  if (one.type === "object") return oddObject(random, one);
  return kind < 7 ? exampleText(one) : oddText(random);
}

function oddArray(random: Random, { items = {}, minItems = 0, maxItems = 50 }: Schema): string {
  const count = pick(random, [0, 1, 2, minItems, maxItems, maxItems + 1, 1, 2]);
  const all = Array.from({ length: count }, () => exampleText(items));
  if (all.length > 0) all[random.below(all.length)] = oddValue(random, items);
  return `[${all}]`;
}

/** Members as they stand in the text: one name may stand there twice. */
export type Members = (readonly [name: string, text: string])[];

export const objectText = (members: Members): string =>
  `{${members.map(([name, text]) => `${quoted(name)}:${text}`).join(",")}}`;

function oddObject(random: Random, schema: Schema): string {
  const members: Members = Object.entries(schema.properties ?? {}).map(([name, field]) => [name, exampleText(field)]);
  const [name] = members.length > 0 ? pick(random, members) : [pick(random, PROTOTYPES)];
  const field = schema.properties?.[name] ?? {};
  const others = members.filter(([other]) => other !== name || random.below(4) === 0);
  return objectText([...others, [random.below(4) === 0 ? pick(random, PROTOTYPES) : name, oddValue(random, field)]]);
}
