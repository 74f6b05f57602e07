// What random values the property tests draw from: few people, few names, so that commands meet each other.
import type { Subject } from "../../src/contract/ids.ts";
import type { JsonObject, JsonValue } from "../../src/contract/json.ts";
import type { Actor } from "../../src/domain/decider.ts";
import fc from "./seed.ts";

export const PEOPLE: readonly Subject[] = ["sub_a", "sub_b", "sub_c", "sub_d"];
export const person = (): fc.Arbitrary<Subject> => fc.constantFrom(...PEOPLE);
export const actor = (): fc.Arbitrary<Actor> =>
  fc.oneof(
    fc.constant<Actor>({ type: "key", id: "key_1" }),
    person().map((subject): Actor => ({ type: "user", id: subject })),
  );

/** Milliseconds that pass before a command. */
export const pause = (longest = 5_000): fc.Arbitrary<number> => fc.oneof(fc.constant(0), fc.nat({ max: longest }));

/** Text as users write it, and as they should not: marks of our own, prototypes, NUL, halves of surrogate pairs. */
export const wildText = (): fc.Arbitrary<string> =>
  fc.oneof(
    fc.string({ unit: "grapheme", maxLength: 20 }),
    fc.string({ unit: "binary", maxLength: 20 }),
    fc.constantFrom("", "$sealed", "open", "erased", "__proto__", "\0", "\ud800", '{"$sealed":[0,0]}', "😀"),
  );

const wildName = fc.oneof(
  fc.constantFrom("$sealed", "open", "erased", "__proto__", "constructor", "toString", "", "0", "a.b", "*"),
  wildText(),
);

/** Any JSON, with names in it that mean something to the code, on several levels. */
export const wildJson = (depth = 3): fc.Arbitrary<JsonValue> => {
  const leaf: fc.Arbitrary<JsonValue> = fc.oneof(
    wildText(),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => (Object.is(value, -0) ? 0 : value)),
    fc.boolean(),
    fc.constant(null),
  );
  if (depth === 0) return leaf;
  const child = wildJson(depth - 1);
  return fc.oneof(leaf, fc.array(child, { maxLength: 3 }), objectOf(child));
};
export const wildObject = (): fc.Arbitrary<JsonObject> => objectOf(wildJson(2));

/** Made by JSON.parse, so that `__proto__` is a member like any other. */
const objectOf = (value: fc.Arbitrary<JsonValue>): fc.Arbitrary<JsonObject> =>
  fc
    .array(fc.tuple(wildName, value), { maxLength: 4 })
    .map((members) =>
      JSON.parse(`{${members.map(([name, one]) => `${JSON.stringify(name)}:${JSON.stringify(one)}`).join(",")}}`),
    );
