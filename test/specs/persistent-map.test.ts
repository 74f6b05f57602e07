// A map that is never changed does what a copied Map does.
import { describe, expect, test } from "vitest";
import { PersistentMap } from "../../src/domain/persistent-map.ts";
import fc from "../support/seed.ts";

type Step<K> = { readonly kind: "set" | "delete"; readonly key: K; readonly value: number };
const steps = <K>(key: fc.Arbitrary<K>) =>
  fc.array(fc.record<Step<K>>({ kind: fc.constantFrom("set", "set", "delete"), key, value: fc.integer() }), {
    maxLength: 200,
  });
const keys = {
  text: fc.oneof(fc.string({ maxLength: 3 }), fc.constantFrom("__proto__", "constructor", "")),
  numbers: fc.oneof(fc.nat({ max: 600 }), fc.nat({ max: 2 ** 35 })),
};

function agree<K extends string | number>(map: PersistentMap<K, number>, model: ReadonlyMap<K, number>, asked: K[]) {
  expect(map.size).toBe(model.size);
  expect(new Map(map.entries())).toEqual(model);
  expect(new Set(map.keys())).toEqual(new Set(model.keys()));
  for (const key of asked) {
    expect(map.get(key)).toBe(model.get(key));
    expect(map.has(key)).toBe(model.has(key));
  }
}

function checkAll<K extends string | number>(list: readonly Step<K>[]): void {
  const asked = list.map((step) => step.key);
  const versions: [PersistentMap<K, number>, Map<K, number>][] = [[PersistentMap.empty(), new Map()]];
  for (const { kind, key, value } of list) {
    const [map, model] = versions.at(-1) ?? [PersistentMap.empty<K, number>(), new Map<K, number>()];
    const copy = new Map(model);
    if (kind === "set") copy.set(key, value);
    else copy.delete(key);
    versions.push([kind === "set" ? map.set(key, value) : map.delete(key), copy]);
  }
  // Every version still holds what it held when it was made.
  for (const [map, model] of versions) agree(map, model, asked);
  const [last, model] = versions.at(-1) ?? [];
  if (last !== undefined && model !== undefined) agree(PersistentMap.of(last.entries()), model, asked);
}

describe("a persistent map", () => {
  test("with text for keys", () => fc.assert(fc.property(steps(keys.text), checkAll), { numRuns: 50 }));
  test("with numbers for keys", () => fc.assert(fc.property(steps(keys.numbers), checkAll), { numRuns: 50 }));

  test("is made from entries, the last of a key counting", () => {
    const map = PersistentMap.of([
      ["a", 1],
      ["b", 2],
      ["a", 3],
    ]);
    expect(map.size).toBe(2);
    expect(map.get("a")).toBe(3);
  });

  test("gives itself when there is nothing to delete", () => {
    const map = PersistentMap.of<string, number>([["a", 1]]);
    expect(map.delete("b")).toBe(map);
  });
});
