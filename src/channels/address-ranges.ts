// channels/address-ranges.ts: which IP addresses are public, and the one canonical spelling of a host.

import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

type IpAddress = ipaddr.IPv4 | ipaddr.IPv6;
export type Cidr = readonly [IpAddress, number];

const GLOBAL_UNICAST_V6: Cidr = [ipaddr.IPv6.parse("2000::"), 3];
const NAT64_WELL_KNOWN: Cidr = [ipaddr.IPv6.parse("64:ff9b::"), 96];

// Public by number, but answered by the machine's own cloud host: Azure's wire server hands out credentials.
const HOST_SERVICES: readonly Cidr[] = [[ipaddr.IPv4.parse("168.63.129.16"), 32]];

/**
 * Parses a canonical IP literal, as `canonicalHost` or a resolver gives it. An IPv4-mapped IPv6 address comes back as
 * the IPv4 address that a connection would go to. Null for anything else.
 */
export function parseAddress(address: string): IpAddress | null {
  if (isIP(address) === 0) return null;
  const parsed = ipaddr.parse(address);
  return parsed instanceof ipaddr.IPv6 && parsed.isIPv4MappedAddress() ? parsed.toIPv4Address() : parsed;
}

/** Parses `10.0.0.0/8` or a single address. Throws a TypeError that names the entry. */
export function parseCidr(entry: string): Cidr {
  try {
    if (entry.includes("/")) return ipaddr.parseCIDR(entry);
    const address = ipaddr.parse(entry);
    return [address, address.kind() === "ipv4" ? 32 : 128];
  } catch {
    throw new TypeError(`"${entry}" is neither an IP address nor a CIDR range`);
  }
}

/** True when the address lies in the range; families never match each other. */
export function inRange(address: IpAddress, [network, bits]: Cidr): boolean {
  return address.kind() === network.kind() && address.match(network, bits);
}

/** True for loopback: 127.0.0.0/8 and ::1. */
export function isLoopback(address: IpAddress): boolean {
  return address.range() === "loopback";
}

/**
 * True when the address is public unicast: nothing private, local, shared, reserved, documentary, for benchmarks or
 * multicast, and no tunnel (6to4, Teredo, IPv4-compatible) that could carry an inner address past this check. Behind
 * NAT64's well-known prefix the IPv4 address inside decides, so that IPv6-only networks with DNS64 work; an ISATAP
 * interface, whose packets go on to the IPv4 address in it, must be public inside and out.
 */
export function isPublicUnicast(address: IpAddress): boolean {
  if (address instanceof ipaddr.IPv4) {
    return (
      address.range() === "unicast" &&
      /* fence: ssrf-host-services */ !HOST_SERVICES.some((range) => inRange(address, range))
    );
  }
  if (inRange(address, NAT64_WELL_KNOWN)) return isPublicUnicast(new ipaddr.IPv4(address.toByteArray().slice(12)));
  const bytes = address.toByteArray();
  if (/* fence: ssrf-isatap */ isIsatap(bytes) && !isPublicUnicast(new ipaddr.IPv4(bytes.slice(12)))) return false;
  return inRange(address, GLOBAL_UNICAST_V6) && address.range() === "unicast";
}

/** Whether the interface's part is `0:5efe` and an IPv4 address, or the same with the bit that says it is unique. */
function isIsatap(bytes: readonly number[]): boolean {
  const [first = 0, ...rest] = bytes.slice(8, 12);
  return (first & ~0x02) === 0 && rest.join() === "0,94,254";
}

const LONGEST_HOST = 255;

/**
 * The canonical spelling of a host name or IP literal, without brackets and final dot: `0x7f.1`, `2130706433` and
 * `0177.0.0.1` all become `127.0.0.1`, names become lower-case ASCII. Null for what is no host: empty or too long, with
 * a port, a zone id, white space, percent-encoding or anything else that a URL would read as another part.
 */
export function canonicalHost(host: string): string | null {
  if (host === "" || host.length > LONGEST_HOST || /[\p{Cc}\s/\\?#@%]/u.test(host)) return null;
  const bracketed = host.startsWith("[") && host.endsWith("]");
  const text = host.includes(":") && !bracketed ? `[${host}]` : host;
  const url = URL.parse(`http://${text}/`);
  if (url === null || url.port !== "" || url.pathname !== "/") return null;
  const name = url.hostname.startsWith("[") ? url.hostname.slice(1, -1) : url.hostname.replace(/\.$/, "");
  return name === "" ? null : name;
}
