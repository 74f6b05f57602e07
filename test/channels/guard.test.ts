// Which targets the address guard lets through, in every spelling.

import { describe, expect, test } from "vitest";
import { createAddressGuard } from "../../src/channels/guard.ts";
import type { ResolveName } from "../../src/channels/resolver.ts";

const unknownName: ResolveName = () => Promise.reject(Object.assign(new Error("not found"), { code: "ENOTFOUND" }));
const answers = (...addresses: string[]): ResolveName => {
  return async () => addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
};
const strict = createAddressGuard({ allow: [], allowLoopback: false, resolve: unknownName });

const NOT_PUBLIC = [
  // loopback, in every spelling that the C library or a URL parser takes for an address
  ...["127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1"],
  ...["0X7F.0.0.1", "017700000001", "0177.0.0.1", "0177.0x0.0.01", "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1"],
  // "this" network, which Linux connects to loopback
  ...["0.0.0.0", "0", "0x0", "0.1.2.3"],
  // private, shared, link-local, metadata
  ...["10.0.0.1", "10.1", "0xa.0.0.1", "012.0.0.1", "167772161", "172.16.0.1", "172.31.255.255", "192.168.1.1"],
  ...["192.168.257", "0xc0a80101", "169.254.169.254", "169.254.1", "2852039166", "0xa9fea9fe", "100.64.0.1"],
  ...["100.100.100.200", "168.63.129.16"],
  // reserved, documentation, benchmarks, relays, multicast, broadcast
  ...["192.0.0.192", "192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255", "192.88.99.1"],
  ...["192.52.193.1", "192.175.48.1", "192.31.196.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"],
  // IPv6: unspecified, loopback, local, documentation, benchmarks, discard, multicast, not yet given out
  ...["::", "::1", "[::1]", "0:0:0:0:0:0:0:1", "[0000:0000::0001]", "fe80::1", "febf::1", "fec0::1", "fc00::1"],
  ...["fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "2001:2::1", "100::1", "2001:10::1", "2001:20::1"],
  ...["5f00::1", "4000::1", "1::1", "2001:4:112::1"],
  // IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo
  ...["::ffff:127.0.0.1", "[::ffff:127.0.0.1]", "::ffff:7f00:1", "0:0:0:0:0:ffff:10.0.0.1", "::ffff:a9fe:a9fe"],
  ...["::127.0.0.1", "::7f00:1", "::10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a00:1"],
  ...["64:ff9b::169.254.169.254", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::", "2002:808:808::1"],
  ...["2001::1", "2001:0:7f00:1::f5ff:fffe", "2d00::5efe:10.0.0.1", "2d00::200:5efe:a9fe:a9fe"],
];

const PUBLIC = [
  ...["8.8.8.8", "8.8.2056", "134744072", "0x08080808", "010.8.8.8", "172.15.255.255", "172.32.0.1", "11.0.0.1"],
  ...["100.63.255.255", "100.128.0.1", "169.253.1.1", "198.17.0.1", "223.255.255.1", "2606:4700::1111"],
  ...["[2606:4700::1111]", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"],
];

const NO_HOST = [
  ...["", " ", "127.0.0.1 ", "a b.example", "example.com:80", "[::1]:80", "example.com/x", "user@example.com"],
  ...["fe80::1%eth0", "[fe80::1%25eth0]", "::1%lo", "%31%32%37.0.0.1", "example.com#x", "example.com?x", "a\\b"],
  ...["1.2.3.4.5", "256.0.0.1", "08.8.8.8", "127.0.0.1\0.example", "a\nb", "[::1", "::1]", "1:2", "https://x.example"],
  "x".repeat(256),
];

describe("a host", () => {
  test.each(NOT_PUBLIC)("%s is not public", async (host) => {
    expect(await strict.checkHost(host)).toMatchObject({ ok: false, code: "not_allowed" });
    await expect(strict.resolve(host)).rejects.toMatchObject({ code: "ERR_ADDRESS_NOT_ALLOWED" });
    const name = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
    expect(strict.checkUrl(`http://${name}/`)).toMatchObject({ ok: false });
  });

  test.each(PUBLIC)("%s is public", async (host) => {
    expect(await strict.checkHost(host)).toEqual({ ok: true });
    expect(await strict.resolve(host)).toHaveLength(1);
  });

  test.each(NO_HOST)("%j is no host", async (host) => {
    expect(await strict.checkHost(host)).toMatchObject({ ok: false, code: "invalid_format" });
    await expect(strict.resolve(host)).rejects.toThrow();
  });
});

describe("a name", () => {
  const guardWith = (resolve: ResolveName) => createAddressGuard({ allow: [], allowLoopback: false, resolve });

  test("with public addresses passes, and these very addresses are handed on", async () => {
    const guard = guardWith(answers("93.184.215.14", "2606:4700::1111"));
    expect(await guard.checkHost("mail.example")).toEqual({ ok: true });
    expect((await guard.resolve("mail.example")).map((entry) => entry.address)).toEqual([
      "93.184.215.14",
      "2606:4700::1111",
    ]);
  });

  test.each([
    ["10.0.0.1"],
    ["93.184.215.14", "10.0.0.1"],
    ["2606:4700::1111", "::ffff:127.0.0.1"],
    ["fe80::1%eth0"],
    ["not an address"],
  ])("is refused for one address that is not public: %j %j", async (...addresses) => {
    const guard = guardWith(answers(...addresses.filter((address) => address !== undefined)));
    expect(await guard.checkHost("mail.example")).toMatchObject({ ok: false, code: "not_allowed" });
    await expect(guard.resolve("mail.example")).rejects.toMatchObject({ code: "ERR_ADDRESS_NOT_ALLOWED" });
  });

  test("that does not resolve is accepted when set, and fails when used", async () => {
    expect(await strict.checkHost("no.such.example")).toEqual({ ok: true });
    await expect(strict.resolve("no.such.example")).rejects.toMatchObject({ code: "ENOTFOUND" });
    await expect(guardWith(answers()).resolve("empty.example")).rejects.toMatchObject({ code: "ENOTFOUND" });
  });

  test("is looked up in its canonical spelling", async () => {
    const asked: string[] = [];
    const guard = guardWith(async (name) => {
      asked.push(name);
      return [{ address: "93.184.215.14", family: 4 }];
    });
    await guard.resolve("Bücher.EXAMPLE.");
    expect(asked).toEqual(["xn--bcher-kva.example"]);
  });

  test("of this machine is refused by the system's own resolver", async () => {
    const guard = createAddressGuard({ allow: [], allowLoopback: false });
    expect(await guard.checkHost("localhost")).toMatchObject({ ok: false, code: "not_allowed" });
  });
});

describe("what is opened", () => {
  test("development mode opens loopback only", () => {
    const guard = createAddressGuard({ allow: [], allowLoopback: true });
    for (const address of ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]) {
      expect(guard.allows(address), address).toBe(true);
      expect(guard.trustsUnchecked(address), address).toBe(true);
    }
    for (const address of ["0.0.0.0", "::", "10.0.0.1", "169.254.169.254", "64:ff9b::127.0.0.1", "2002:7f00:1::"]) {
      expect(guard.allows(address), address).toBe(false);
      expect(guard.trustsUnchecked(address), address).toBe(false);
    }
    expect(guard.allows("93.184.215.14")).toBe(true);
    expect(guard.trustsUnchecked("93.184.215.14")).toBe(false);
  });

  test("a range opens its addresses, however they are spelled, and no others", async () => {
    const guard = createAddressGuard({ allow: ["10.1.0.0/16", "fd00::/8", "192.168.7.7"], allowLoopback: false });
    for (const host of ["10.1.2.3", "0x0a010203", "::ffff:10.1.2.3", "fd12::1", "192.168.7.7"]) {
      expect(await guard.checkHost(host), host).toEqual({ ok: true });
    }
    for (const host of ["10.2.0.1", "fe80::1", "192.168.7.8", "127.0.0.1", "64:ff9b::10.1.2.3"]) {
      expect(await guard.checkHost(host), host).toMatchObject({ ok: false });
    }
    expect(guard.trustsUnchecked("10.1.2.3")).toBe(false);
  });

  test("a range that is none is named", () => {
    expect(() => createAddressGuard({ allow: ["10.0.0.0/33"], allowLoopback: false })).toThrow("10.0.0.0/33");
    expect(() => createAddressGuard({ allow: ["intranet"], allowLoopback: false })).toThrow("intranet");
  });
});

describe("a URL", () => {
  const guard = createAddressGuard({ allow: [], allowLoopback: false, resolve: answers("93.184.215.14") });

  test.each([
    "http://hooks.example/x?y=1",
    "https://hooks.example:8443/",
    "HTTPS://Hooks.Example",
    "https://hooks.example/@me",
    `https://hooks.example/${"ä".repeat(2026)}`,
  ])("passes: %s", (url) => {
    expect(guard.checkUrl(url)).toEqual({ ok: true });
  });

  test.each([
    ["ftp://hooks.example/", "not_allowed"],
    ["file:///etc/passwd", "not_allowed"],
    ["javascript:alert(1)", "not_allowed"],
    ["https://user@hooks.example/", "not_allowed"],
    ["https://:secret@hooks.example/", "not_allowed"],
    ["https://@hooks.example/", "not_allowed"],
    ["https:\\\\user@hooks.example", "not_allowed"],
    ["https://hooks.example/#part", "not_allowed"],
    ["https://hooks.example/#", "not_allowed"],
    ["http://hooks.example:25/", "not_allowed"],
    ["http://hooks.example:0/", "not_allowed"],
    ["http://127.0.0.1:8080/", "not_allowed"],
    ["http://[::ffff:169.254.169.254]/latest/meta-data/", "not_allowed"],
    ["http://0x7f.1/", "not_allowed"],
    ["hooks.example/x", "invalid_format"],
    ["", "invalid_format"],
    ["https://", "invalid_format"],
    ["https://hooks.example:99999/", "invalid_format"],
    ["https://hooks.example/a b", "invalid_format"],
    ["https://hooks.\nexample/", "invalid_format"],
    ["http://[fe80::1%25eth0]/", "invalid_format"],
    [`https://hooks.example/${"a".repeat(2048)}`, "too_long"],
  ])("is refused: %s", (url, code) => {
    expect(guard.checkUrl(url)).toMatchObject({ ok: false, code });
  });
});
