// Addresses that nothing we send may reach, in every spelling that some parser takes for them.

/** IPv4 addresses that are not public, and what they are. */
export const PRIVATE_V4: readonly (readonly [address: string, what: string])[] = [
  ["127.0.0.1", "loopback"],
  ["127.0.0.2", "loopback, another address"],
  ["127.255.255.254", "loopback, the end"],
  ["0.0.0.0", "unspecified"],
  ["0.1.2.3", "this network"],
  ["10.0.0.1", "private, 10/8"],
  ["10.255.255.255", "private, the end of 10/8"],
  ["172.16.0.1", "private, 172.16/12"],
  ["172.31.255.254", "private, the end of 172.16/12"],
  ["192.168.0.1", "private, 192.168/16"],
  ["192.168.255.254", "private, the end of 192.168/16"],
  ["169.254.169.254", "metadata: AWS, Google, Azure, and others"],
  ["169.254.170.2", "metadata: AWS containers"],
  ["169.254.169.123", "link-local: a cloud's clock"],
  ["169.254.0.1", "link-local"],
  ["100.100.100.200", "metadata: Alibaba, in shared space"],
  ["100.64.0.1", "shared (CGNAT)"],
  ["100.127.255.254", "shared, the end"],
  ["192.0.0.192", "metadata: Oracle"],
  ["168.63.129.16", "Azure's wire server"],
  ["192.0.2.1", "documentation"],
  ["198.51.100.1", "documentation"],
  ["203.0.113.1", "documentation"],
  ["198.18.0.1", "benchmarks"],
  ["192.88.99.1", "6to4 relay"],
  ["224.0.0.1", "multicast"],
  ["239.255.255.250", "multicast: SSDP"],
  ["240.0.0.1", "reserved"],
  ["255.255.255.255", "broadcast"],
];

/** IPv6 addresses that are not public and hold no IPv4 address. */
export const PRIVATE_V6: readonly (readonly [address: string, what: string])[] = [
  ["::", "unspecified"],
  ["::1", "loopback"],
  ["fe80::1", "link-local"],
  ["febf:ffff::1", "link-local, the end"],
  ["fec0::1", "site-local"],
  ["fc00::1", "unique local"],
  ["fd00:ec2::254", "metadata: AWS"],
  ["fd20:ce::254", "metadata: Google"],
  ["fd00:42::42", "metadata: Scaleway"],
  ["ff02::1", "multicast"],
  ["ff0e::1", "multicast, global"],
  ["100::1", "discard"],
  ["2001:db8::1", "documentation"],
  ["3fff::1", "documentation"],
  ["2001:2::1", "benchmarks"],
  ["2001:10::1", "ORCHID"],
  ["2001:20::1", "ORCHIDv2"],
  ["5f00::1", "segment routing"],
  ["4000::1", "not given out"],
];

type Bytes = readonly [number, number, number, number];

const bytesOf = (address: string): Bytes => {
  const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number);
  return [a, b, c, d];
};
const number = ([a, b, c, d]: Bytes): number => a * 2 ** 24 + b * 2 ** 16 + c * 256 + d;
const hex = (value: number): string => value.toString(16);
const words = ([a, b, c, d]: Bytes): string => `${hex(a * 256 + b)}:${hex(c * 256 + d)}`;
const inverted = ([a, b, c, d]: Bytes): Bytes => [255 - a, 255 - b, 255 - c, 255 - d];
const fullWidth = (text: string): string =>
  text.replace(/[0-9]/g, (digit) => String.fromCodePoint(0xff10 + Number(digit)));
/** Digits in circles: 0 stands apart from the others. */
const circled = (text: string): string =>
  text.replace(/[0-9]/g, (digit) => (digit === "0" ? "⓪" : String.fromCodePoint(0x2460 + Number(digit) - 1)));
const percented = (text: string): string => text.replace(/[0-9]/g, (digit) => `%3${digit}`);

/** An IPv4 address as hosts: each spelling with a name for it. */
export function spellingsOf(address: string): readonly (readonly [how: string, host: string])[] {
  const bytes = bytesOf(address);
  const [a, b, c, d] = bytes;
  const all = number(bytes);
  const octal = (value: number) => `0${value.toString(8)}`;
  return [
    ["dotted", address],
    ["dotted, final dot", `${address}.`],
    ["decimal", String(all)],
    ["decimal, final dot", `${all}.`],
    ["hex", `0x${hex(all)}`],
    ["hex, capitals", `0X${hex(all).toUpperCase()}`],
    ["hex, leading zeros", `0x0000${hex(all)}`],
    ["octal", octal(all)],
    ["octal, leading zeros", `000${octal(all)}`],
    ["dotted hex", `0x${hex(a)}.0x${hex(b)}.0x${hex(c)}.0x${hex(d)}`],
    ["dotted octal", [a, b, c, d].map(octal).join(".")],
    ["dotted octal, leading zeros", [a, b, c, d].map((part) => `000${octal(part)}`).join(".")],
    ["mixed", `${octal(a)}.${b}.0x${hex(c)}.${d}`],
    ["two parts", `${a}.${b * 2 ** 16 + c * 256 + d}`],
    ["two parts, hex", `0x${hex(a)}.0x${hex(b * 2 ** 16 + c * 256 + d)}`],
    ["three parts", `${a}.${b}.${c * 256 + d}`],
    ["full-width digits", fullWidth(address)],
    ["circled digits", circled(address)],
    ["ideographic full stops", address.replaceAll(".", "。")],
    ["full-width full stops", address.replaceAll(".", "．")],
    ["half-width full stops", address.replaceAll(".", "｡")],
    ["soft hyphen inside", `${address.slice(0, 2)}\u00ad${address.slice(2)}`],
    ["zero-width space inside", `${address.slice(0, 2)}\u200b${address.slice(2)}`],
    ["percent-encoded", percented(address)],
    ["percent-encoded dots", address.replaceAll(".", "%2e")],
    ["with a zone id", `${address}%lo`],
    ["mapped", `::ffff:${address}`],
    ["mapped, bracketed", `[::ffff:${address}]`],
    ["mapped, hex", `::ffff:${words(bytes)}`],
    ["mapped, in full", `0000:0000:0000:0000:0000:FFFF:${words(bytes).toUpperCase()}`],
    ["mapped, with a zone id", `[::ffff:${address}%25lo]`],
    ["compatible", `::${address}`],
    ["compatible, hex", `[::${words(bytes)}]`],
    ["translated (SIIT)", `::ffff:0:${address}`],
    ["NAT64", `64:ff9b::${address}`],
    ["NAT64, hex", `[64:ff9b::${words(bytes)}]`],
    ["local NAT64", `64:ff9b:1::${address}`],
    ["local NAT64, /48", `64:ff9b:1:${hex(a * 256 + b)}:${hex(c)}:${hex(d * 256)}::`],
    ["6to4", `2002:${words(bytes)}::1`],
    ["Teredo, its server", `2001:0:${words(bytes)}::1`],
    ["Teredo, its client", `2001:0:808:808:0:0:${words(inverted(bytes))}`],
    ["ISATAP, link-local", `fe80::5efe:${address}`],
    ["ISATAP, global", `2d00:0:0:1:0:5efe:${words(bytes)}`],
    ["ISATAP, global, universal bit", `2d00:0:0:1:200:5efe:${words(bytes)}`],
  ];
}

/** An IPv6 address as hosts. */
export function spellingsOfV6(address: string): readonly (readonly [how: string, host: string])[] {
  return [
    ["bare", address],
    ["bracketed", `[${address}]`],
    ["capitals", address.toUpperCase()],
    ["in full", inFull(address)],
    ["with a zone id", `${address}%lo`],
    ["bracketed, with a zone id", `[${address}%25lo]`],
    ["percent-encoded brackets", `%5b${address}%5d`],
  ];
}

function inFull(address: string): string {
  const [head = "", tail = ""] = address.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === "" ? [] : tail.split(":");
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => "0");
  return [...before, ...zeros, ...after].map((word) => word.padStart(4, "0")).join(":");
}

/** URLs whose host is written so that two parsers may read two hosts, or that are no web address; `PORT` is filled in. */
export const ODD_URLS: readonly string[] = [
  "http://public.example@127.0.0.1:PORT/",
  "http://127.0.0.1:PORT@public.example/",
  "http://user:secret@127.0.0.1:PORT/",
  "http://@127.0.0.1:PORT/",
  "http://:@127.0.0.1:PORT/",
  "http://public.example%40127.0.0.1:PORT/",
  "http://public.example#@127.0.0.1:PORT/",
  "http://public.example?@127.0.0.1:PORT/#",
  "http://127.0.0.1:PORT#@public.example/",
  "http://127.0.0.1:PORT\\@public.example/",
  "http:\\\\127.0.0.1:PORT\\",
  "http:/127.0.0.1:PORT/",
  "http:127.0.0.1:PORT/",
  "http:///127.0.0.1:PORT/",
  "//127.0.0.1:PORT/",
  "127.0.0.1:PORT",
  "http://127.0.0.1 :PORT/",
  " http://127.0.0.1:PORT/",
  "http://127.0.0.1\t:PORT/",
  "ht\ntp://127.0.0.1:PORT/",
  "http://127.0.0.1:PORT\r\nHost: public.example/",
  "http://127.0.0.1\0.public.example:PORT/",
  "ftp://127.0.0.1:PORT/",
  "file:///etc/passwd",
  "file://127.0.0.1/etc/passwd",
  "gopher://127.0.0.1:PORT/_GET",
  "dict://127.0.0.1:PORT/info",
  "ldap://127.0.0.1:PORT/",
  "ws://127.0.0.1:PORT/",
  "unix:/var/run/docker.sock",
  "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
  "data:text/plain,x",
  "blob:http://127.0.0.1:PORT/x",
  "javascript:fetch('http://127.0.0.1:PORT/')",
  "http://[::1]:PORT/",
  "http://[::1%25lo]:PORT/",
  "http://[::ffff:127.0.0.1]:PORT/",
  "http://[127.0.0.1]:PORT/",
];

/** Ports of other protocols: an HTTP request sent there could be read as theirs. */
export const OTHER_PORTS: readonly number[] = [0, 1, 7, 9, 19, 21, 22, 23, 25, 53, 110, 143, 389, 465, 587, 993, 6000];
