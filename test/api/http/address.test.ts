// The address that a request comes from.
import type { IncomingMessage } from "node:http";
import { describe, expect, test } from "vitest";
import { clientAddress } from "../../../src/api/http/address.ts";

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

  test.each([
    ["203.0.113.2:51234", "203.0.113.2"],
    ["[2001:db8::1]:443", "2001:db8::1"],
    ["[2001:db8::1]", "2001:db8::1"],
    ['"203.0.113.2"', "203.0.113.2"],
    ['"[2001:db8::1]:443"', "2001:db8::1"],
    ["203.0.113.2,", "203.0.113.2"],
    [" , 203.0.113.2 ,, ", "203.0.113.2"],
    ["6.6.6.6,203.0.113.2:80 , 10.0.0.7:9", "203.0.113.2"],
    ["fe80::1%eth0", "fe80::1"],
    ["unknown", "10.0.0.1"],
  ])("is read from X-Forwarded-For as a proxy writes it: %s", (header, address) => {
    expect(behind.of(request("10.0.0.1", header))).toBe(address);
  });

  test.each([
    ["for=203.0.113.2", "203.0.113.2"],
    ['For="[2001:db8::1]:443";proto=https;by=203.0.113.43', "2001:db8::1"],
    ['for=6.6.6.6, proto=http;for="203.0.113.2:80", for=10.0.0.7', "203.0.113.2"],
    ["for=_hidden", "10.0.0.1"],
    ["proto=https", "10.0.0.1"],
    ["", "10.0.0.1"],
  ])("is read from Forwarded where there is no X-Forwarded-For: %s", (forwarded, address) => {
    const headers = { forwarded };
    const from = { socket: { remoteAddress: "10.0.0.1" }, headers } as unknown as IncomingMessage;
    expect(behind.of(from)).toBe(address);
    const both = { ...from, headers: { ...headers, "x-forwarded-for": "1.2.3.4" } } as unknown as IncomingMessage;
    expect(behind.of(both)).toBe("1.2.3.4");
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
