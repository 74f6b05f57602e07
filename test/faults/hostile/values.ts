// Values and bodies that are odd in one way or another, as JSON texts made from the schema of what should come.
import { pick, type Random } from "../support/random.ts";
import { exampleText, type Schema, variants } from "./schemas.ts";

const quoted = (text: string): string => JSON.stringify(text);

/** Names that a JavaScript object has of itself, and marks of our own. */
const PROTOTYPES = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf", "then"];

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
const nested = (levels: number, isArray: boolean): string =>
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
function oddText(random: Random): string {
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
function oddValue(random: Random, schema: Schema): string {
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
type Members = (readonly [name: string, text: string])[];

const objectText = (members: Members): string =>
  `{${members.map(([name, text]) => `${quoted(name)}:${text}`).join(",")}}`;

function oddObject(random: Random, schema: Schema): string {
  const members: Members = Object.entries(schema.properties ?? {}).map(([name, field]) => [name, exampleText(field)]);
  const [name] = members.length > 0 ? pick(random, members) : [pick(random, PROTOTYPES)];
  const field = schema.properties?.[name] ?? {};
  const others = members.filter(([other]) => other !== name || random.below(4) === 0);
  return objectText([...others, [random.below(4) === 0 ? pick(random, PROTOTYPES) : name, oddValue(random, field)]]);
}

/** What stands for a field of this name when nothing is wrong with it. */
export type Good = Readonly<Record<string, string>>;
export type OddBody = { readonly kind: string; readonly bytes: Buffer };

/** Members of an object that is right, with some of those that it need not have. */
function goodMembers(random: Random, schema: Schema, good: Good): Members {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]): Members => {
    const needed = schema.required?.includes(name) === true;
    return needed || random.below(4) === 0 ? [[name, good[name] ?? exampleText(field)]] : [];
  });
}

const set = (members: Members, name: string, text: string): Members =>
  members.some(([one]) => one === name)
    ? members.map(([one, before]) => [one, one === name ? text : before])
    : [...members, [name, text]];

function oddFields(random: Random, schema: Schema, members: Members): Members {
  let odd = members;
  for (let times = pick(random, [1, 1, 1, 2, 5]); times > 0; times -= 1) {
    const [name, field] = pick(random, Object.entries({ bogus: {}, ...schema.properties }));
    odd = set(odd, name, oddValue(random, field));
  }
  return odd;
}

/** Bytes that a text is not made of: cut, changed, put in, or in another coding. */
function oddBytes(random: Random, text: string): Buffer {
  const bytes = Buffer.from(text);
  const at = random.below(bytes.length + 1);
  const between = (...odd: number[]) => Buffer.concat([bytes.subarray(0, at), Buffer.from(odd), bytes.subarray(at)]);
  switch (random.below(10)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return between(0xff);
    case 2:
      return between(0xed, 0xa0, 0x80); // a lone surrogate
    case 3:
      return between(0xc0, 0x80); // NUL, overlong
    case 4:
      return between(0xf4, 0x90, 0x80, 0x80); // beyond the last code point
    case 5:
      return between(0);
    case 6:
      return Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes]);
    case 7:
      return Buffer.from(text, "utf16le");
    case 8:
      return Buffer.concat([bytes, Buffer.from(pick(random, [" ", "\n", "{}", ",", "\0", "x", "}", "//"]))]);
    default:
      return between(random.below(256));
  }
}

const WHOLES = [
  "",
  " ",
  "null",
  "true",
  "0",
  '""',
  "[]",
  "[{}]",
  "{}",
  "nope",
  "{",
  "}",
  "[",
  '{"',
  "{}{}",
  "{,}",
  '"\0"',
];

/** A body of this schema that is odd in one way, or in none. */
export function oddBody(random: Random, schema: Schema, good: Good): OddBody {
  const one = pick(random, variants(schema));
  const members = goodMembers(random, one, good);
  const made = (kind: string, text: string): OddBody => ({ kind, bytes: Buffer.from(text) });
  const dice = random.below(100);
  if (dice < 3) return made("sound", objectText(members));
  if (dice < 55) return made("fields", objectText(oddFields(random, one, members)));
  if (dice < 63) {
    const name = pick(random, [...PROTOTYPES, "", "😀", "\u0000", "a\ud800", "id", "client", "x".repeat(10_000)]);
    const place = random.below(members.length + 1);
    return made("unknown fields", objectText(members.toSpliced(place, 0, [name, oddText(random)])));
  }
  if (dice < 70) {
    const name = pick(random, ["bogus", ...Object.keys(one.properties ?? {})]);
    const twice = [oddValue(random, one.properties?.[name] ?? {}), good[name] ?? '"x"'];
    if (random.below(2) === 0) twice.reverse();
    return made("names twice", objectText([...members, ...twice.map((text): Members[number] => [name, text])]));
  }
  if (dice < 76) {
    const name = pick(random, ["meta", "content", "a", ...Object.keys(one.properties ?? {})]);
    const deep = nested(pick(random, [30, 31, 32, 33, 34, 10_000]), random.below(2) === 0);
    return made("depth", random.below(3) === 0 ? deep : objectText(set(members, name, deep)));
  }
  if (dice < 90) return { kind: "bytes", bytes: oddBytes(random, objectText(members)) };
  if (dice < 98) return made("no object", random.below(2) === 0 ? pick(random, WHOLES) : oddText(random));
  // Few, for each costs as much as hundreds of others.
  const size = pick(random, [200_000, 1_048_576 - 2, 1_048_576 - 1, 1_100_000]);
  const filler = pick(random, [" ".repeat(size), `"${"x".repeat(size)}"`, `[${"0,".repeat(size / 2)}0]`]);
  return made("size", random.below(2) === 0 ? filler : objectText(set(members, "meta", filler)));
}
