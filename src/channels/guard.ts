// channels/guard.ts: keeps everything that we send on a tenant's behalf away from private networks.

import type { LookupAddress } from "node:dns";
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import type { FaultCode } from "../contract/errors.ts";
import { parseWebhookUrl } from "../contract/fields.ts";
import { createResolver, LOCAL_NAME, type ResolveName } from "./resolver.ts";

/** The verdict on a target when it is set. `code` is one of the codes of validation errors. */
type GuardVerdict = { readonly ok: true } | { readonly ok: false; readonly code: FaultCode; readonly reason: string };

type AddressGuardOptions = {
  /** CIDR ranges (or single addresses) that are allowed although they are not public: `OUTBOUND_ALLOW`. */
  readonly allow: readonly string[];
  /** True in development mode: allows loopback, and accepts its certificates unchecked. */
  readonly allowLoopback: boolean;
  /** Replaces the resolver. */
  readonly resolve?: ResolveName;
};

/** A host is, or resolves to, an address that is not allowed. Carries no address: it could reveal our network. */
export class AddressNotAllowedError extends Error {
  readonly code = "ERR_ADDRESS_NOT_ALLOWED";
  constructor() {
    super("The target is not a public address");
  }
}

const MAX_HOST_LENGTH = 255;
// A slow name server must not hold up the request that sets a target.
const CHECK_TIMEOUT_MS = 3_000;

const refuse = (code: "not_allowed" | "invalid_format", reason: string) => ({ ok: false, code, reason }) as const;
const FINE = { ok: true } as const;

export type AddressGuard = ReturnType<typeof createAddressGuard>;

/**
 * Decides where outgoing connections may go. The checks when a target is set are advice, since names can change. The
 * guarantee is in `resolve`: the addresses that it returns are checked, and are the ones to connect to. Throws a TypeError
 * when an entry of `allow` is not a CIDR range.
 */
export function createAddressGuard(options: AddressGuardOptions) {
  const allowed: readonly Cidr[] = options.allow.map(parseCidr);
  const resolveName = options.resolve ?? createResolver();

  /** Whether this is loopback in development mode, where certificates are not checked. */
  const trustsUnchecked = (address: string): boolean => {
    const parsed = parseAddress(address);
    return options.allowLoopback && parsed?.range() === "loopback";
  };
  /** Whether a connection to this IP address is allowed. False for a string that is not an address. */
  const allows = (address: string): boolean => {
    const parsed = parseAddress(address);
    if (parsed === null) return false;
    return trustsUnchecked(address) || allowed.some((range) => inRange(parsed, range)) || isPublicUnicast(parsed);
  };

  /**
   * The addresses of a name or literal, each of them allowed. Rejects with `AddressNotAllowedError` when any one of them is
   * not, and with the resolver's error when there are none.
   */
  async function resolve(host: string): Promise<readonly LookupAddress[]> {
    const name = canonicalHost(host);
    if (name === null) throw new AddressNotAllowedError();
    const family = isIP(name);
    const addresses = family === 0 ? await resolveName(name) : [{ address: name, family }];
    if (addresses.length === 0) throw Object.assign(new Error("The name has no address"), { code: "ENOTFOUND" });
    // fence: ssrf-each-address
    if (!addresses.every(({ address }) => allows(address))) throw new AddressNotAllowedError();
    return addresses;
  }

  /** Checks an SMTP host when it is set. A name that does not resolve in time is accepted: the attempt checks again. */
  async function checkHost(host: string): Promise<GuardVerdict> {
    if (canonicalHost(host) === null) return refuse("invalid_format", "is not a host name or IP address");
    const timeUp = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => timeUp.resolve(true), CHECK_TIMEOUT_MS);
    const resolved = resolve(host).then(
      () => true,
      (error: unknown) => !(error instanceof AddressNotAllowedError),
    );
    const fine = await Promise.race([resolved, timeUp.promise]);
    clearTimeout(timer);
    return fine ? FINE : refuse("not_allowed", "must be a public address");
  }

  /**
   * Checks a webhook URL when it is set: shape, scheme, port, and the address when its host is one. Names are left to the
   * attempt, but for those of this machine: a request may hold a thousand, and none of them may hold it up.
   */
  function checkUrl(url: string): GuardVerdict {
    const target = parseWebhookUrl(url);
    if ("ok" in target) return target;
    const name = canonicalHost(target.hostname);
    const address = name !== null && LOCAL_NAME.test(name) ? "127.0.0.1" : name;
    const refused = address === null || (isIP(address) !== 0 && !allows(address));
    return refused ? refuse("not_allowed", "must be a public address") : FINE;
  }

  /** Whether the host of a URL is among those that `allow` names: by its address, or by all that its name has now. */
  async function namesAllowed(url: string): Promise<boolean> {
    const name = canonicalHost(URL.parse(url)?.hostname ?? "");
    if (allowed.length === 0 || name === null) return false;
    const found = isIP(name) === 0 ? await within(CHECK_TIMEOUT_MS, resolveName(name)) : [{ address: name }];
    const addresses = found.map(({ address }) => parseAddress(address));
    return (
      addresses.length > 0 &&
      addresses.every((address) => address !== null && allowed.some((range) => inRange(address, range)))
    );
  }

  return { checkHost, checkUrl, namesAllowed, resolve, allows, trustsUnchecked };
}

/** What comes in time; nothing when it fails, or takes longer. */
async function within<T>(ms: number, pending: Promise<readonly T[]>): Promise<readonly T[]> {
  const timeUp = Promise.withResolvers<readonly T[]>();
  const timer = setTimeout(() => timeUp.resolve([]), ms);
  const found = await Promise.race([pending.catch(() => []), timeUp.promise]);
  clearTimeout(timer);
  return found;
}

/**
 * The canonical spelling of a host name or IP literal, without brackets and final dot: `0x7f.1`, `2130706433` and
 * `0177.0.0.1` all become `127.0.0.1`, names become lower-case ASCII. Null for a string that is not a host: empty or too
 * long, with a port, a zone id, white space, percent-encoding or anything else that a URL parser reads as another part.
 */
export function canonicalHost(host: string): string | null {
  if (host === "" || host.length > MAX_HOST_LENGTH || /[\p{Cc}\s/\\?#@%]/u.test(host)) return null;
  const bracketed = host.startsWith("[") && host.endsWith("]");
  const text = host.includes(":") && !bracketed ? `[${host}]` : host;
  const url = URL.parse(`http://${text}/`);
  if (url === null || url.port !== "" || url.pathname !== "/") return null;
  const name = url.hostname.startsWith("[") ? url.hostname.slice(1, -1) : url.hostname.replace(/\.$/, "");
  return name === "" ? null : name;
}

type IpAddress = ipaddr.IPv4 | ipaddr.IPv6;
type Cidr = readonly [IpAddress, number];

const GLOBAL_UNICAST_V6: Cidr = [ipaddr.IPv6.parse("2000::"), 3];
const NAT64_WELL_KNOWN: Cidr = [ipaddr.IPv6.parse("64:ff9b::"), 96];

// Public by number, but answered by the machine's own cloud host: Azure's wire server hands out credentials.
const HOST_SERVICES: readonly Cidr[] = [[ipaddr.IPv4.parse("168.63.129.16"), 32]];

/**
 * Parses a canonical IP literal, as `canonicalHost` or a resolver returns it. An IPv4-mapped IPv6 address becomes the
 * IPv4 address that a connection would go to. Null for anything else.
 */
function parseAddress(address: string): IpAddress | null {
  if (isIP(address) === 0) return null;
  const parsed = ipaddr.parse(address);
  return parsed instanceof ipaddr.IPv6 && parsed.isIPv4MappedAddress() ? parsed.toIPv4Address() : parsed;
}

/** Parses `10.0.0.0/8` or a single address. Throws a TypeError that names the entry. */
function parseCidr(entry: string): Cidr {
  try {
    if (entry.includes("/")) return ipaddr.parseCIDR(entry);
    const address = ipaddr.parse(entry);
    return [address, address.kind() === "ipv4" ? 32 : 128];
  } catch {
    throw new TypeError(`"${entry}" is neither an IP address nor a CIDR range`);
  }
}

/** True when the address is in the range. Families never match each other. */
function inRange(address: IpAddress, [network, bits]: Cidr): boolean {
  return address.kind() === network.kind() && address.match(network, bits);
}

/**
 * True when the address is public unicast: not private, local, shared, reserved, for documentation, for benchmarks or
 * multicast, and not a tunnel (6to4, Teredo, IPv4-compatible) that could carry an inner address past this check. Behind
 * NAT64's well-known prefix the inner IPv4 address decides, so that IPv6-only networks with DNS64 work. An ISATAP
 * interface forwards packets to the IPv4 address in it, so it must be public inside and out.
 */
function isPublicUnicast(address: IpAddress): boolean {
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

/** Whether the interface identifier is `0:5efe` and an IPv4 address, with or without the "universal" bit. */
function isIsatap(bytes: readonly number[]): boolean {
  const [first = 0, ...rest] = bytes.slice(8, 12);
  return (first & ~0x02) === 0 && rest.join() === "0,94,254";
}
