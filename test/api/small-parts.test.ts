// API keys, rate limits and addresses: what each promises by itself.
import type { IncomingMessage } from "node:http";
import { describe, expect, test, vi } from "vitest";
import { clientAddress } from "../../src/api/http/address.ts";
import { hashApiKey, isApiKey, keyData, makeApiKey } from "../../src/app/api-keys.ts";
import { ConcurrencyLimiter, RateLimiter, rateHeaders } from "../../src/app/rate-limit.ts";
import fc from "../support/seed.ts";

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

describe("rate limits", () => {
  test("let so many through in each window, by key", async () => {
    vi.useFakeTimers({ now: 1_000 });
    const limiter = new RateLimiter(2, 60_000);
    expect(await limiter.take("a")).toEqual({
      allowed: true,
      limit: 2,
      remaining: 1,
      resetSeconds: 60,
      windowSeconds: 60,
    });
    expect(await limiter.isSpent("a")).toBe(false);
    vi.setSystemTime(31_000);
    expect(await limiter.take("a")).toMatchObject({ allowed: true, remaining: 0, resetSeconds: 30 });
    expect(await limiter.isSpent("a")).toBe(true);
    vi.setSystemTime(60_999);
    const refused = await limiter.take("a");
    expect(refused).toMatchObject({ allowed: false, remaining: 0, resetSeconds: 1 });
    expect((await limiter.take("b")).allowed).toBe(true);
    vi.setSystemTime(61_000);
    expect(await limiter.isSpent("a")).toBe(false);
    expect((await limiter.take("a")).allowed).toBe(true);
    vi.useRealTimers();
    expect(rateHeaders("things", refused)).toEqual({
      "RateLimit-Policy": '"things";q=2;w=60',
      RateLimit: '"things";r=0;t=1',
      "Retry-After": "1",
    });
  });

  test("on what is held at once give each one back once", () => {
    const limiter = new ConcurrencyLimiter(2);
    const [first, second] = [limiter.take("a"), limiter.take("a")];
    expect(limiter.take("a")).toBeUndefined();
    expect(limiter.take("b")).toBeDefined();
    first?.[Symbol.dispose]();
    first?.[Symbol.dispose]();
    expect(limiter.take("a")).toBeDefined();
    expect(limiter.take("a")).toBeUndefined();
    second?.[Symbol.dispose]();
    expect(limiter.take("a")).toBeDefined();
  });
});

describe("a caller's address", () => {
  const request = (remoteAddress: string | undefined, forwarded?: string) =>
    ({ socket: { remoteAddress }, headers: { "x-forwarded-for": forwarded } }) as unknown as IncomingMessage;
  const behind = clientAddress({ trustProxy: ["10.0.0.0/8", "127.0.0.1", "fd00::/8"] });

  test("is the connection's, unless a trusted proxy says otherwise", () => {
    const direct = clientAddress({ trustProxy: [] });
    expect(direct.of(request("192.0.2.1", "1.2.3.4"))).toBe("192.0.2.1");
    expect(behind.of(request("192.0.2.1", "1.2.3.4"))).toBe("192.0.2.1");
    expect(behind.of(request("10.0.0.1", "1.2.3.4"))).toBe("1.2.3.4");
    expect(behind.of(request("::ffff:10.0.0.1", "6.6.6.6, 1.2.3.4, 10.9.9.9"))).toBe("1.2.3.4");
    expect(behind.of(request("fd00::1", "2001:db8::1"))).toBe("2001:db8::1");
    expect(behind.of(request("10.0.0.1", "nonsense"))).toBe("10.0.0.1");
    expect(behind.of(request("10.0.0.1"))).toBe("10.0.0.1");
    expect(behind.of(request(undefined))).toBe("unknown");
  });

  test("is behind any proxy where all are trusted", () => {
    const open = clientAddress({ trustProxy: ["0.0.0.0/0", "::/0"] });
    expect(open.of(request("203.0.113.9", "1.2.3.4, 2001:db8::1"))).toBe("1.2.3.4");
    expect(open.of(request("203.0.113.9", Array(50).fill("192.0.2.1").join(", ")))).toBe("192.0.2.1");
  });

  test("counts by /64 for IPv6", () => {
    expect(behind.group(request("2001:db8:1:2:3::4"))).toBe(behind.group(request("2001:db8:1:2::9")));
    expect(behind.group(request("2001:db8:1:2::1"))).not.toBe(behind.group(request("2001:db8:1:3::1")));
    expect(behind.group(request("::ffff:192.0.2.1"))).toBe("192.0.2.1");
  });

  test("knows loopback, and no claim of it", () => {
    expect(behind.isLoopback(request("127.0.0.1"))).toBe(true);
    expect(behind.isLoopback(request("::1"))).toBe(true);
    expect(clientAddress({ trustProxy: [] }).isLoopback(request("192.0.2.1", "127.0.0.1"))).toBe(false);
  });
});
