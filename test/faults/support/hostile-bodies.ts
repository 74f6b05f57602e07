// Bodies and frames that are odd in one way or another, made from the schema of what should come.
import { exampleText, type Schema, variants } from "../../e2e/support/bad-bodies.ts";
import { type Members, nested, objectText, oddText, oddValue, PROTOTYPES } from "./hostile-values.ts";
import { pick, type Random } from "./random.ts";

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
