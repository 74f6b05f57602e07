// API keys: their shape, and what is kept of them.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hashApiKey, isApiKey, keyData, makeApiKey } from "../../src/app/credentials.ts";

describe("API keys", () => {
  test("have one shape, and one wrong character is noticed", () => {
    const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(bytes, fc.nat(48), fc.constantFrom(..."0Az"), (random, at, digit) => {
        const key = makeApiKey(random);
        expect(key).toMatch(/^ck_[0-9A-Za-z]{49}$/);
        expect(isApiKey(key)).toBe(true);
        const typed = key.slice(0, 3 + at) + digit + key.slice(4 + at);
        expect(isApiKey(typed)).toBe(typed === key);
      }),
    );
    expect(isApiKey(`${makeApiKey(new Uint8Array(32))}x`)).toBe(false);
    expect(isApiKey("ck_")).toBe(false);
  });

  test("differ for different bytes, and are kept as their hash", () => {
    const all = new Set(Array.from({ length: 256 }, (_, index) => makeApiKey(new Uint8Array(32).fill(index))));
    expect(all.size).toBe(256);
    const key = makeApiKey(new Uint8Array(32).fill(255));
    expect(keyData("key_1", "default", key)).toEqual({
      id: "key_1",
      name: "default",
      hash: hashApiKey(key),
      last4: key.slice(-4),
    });
    expect(hashApiKey("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });
});
