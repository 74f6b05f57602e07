// channels/address-guard.ts: keeps everything that we send on a tenant's behalf away from private networks.

import { promises as dns, type LookupAddress } from "node:dns";
import { isIP } from "node:net";
import {
  type Cidr,
  canonicalHost,
  inRange,
  isLoopback,
  isPublicUnicast,
  parseAddress,
  parseCidr,
} from "./address-ranges.ts";
import { isBlockedPort } from "./blocked-ports.ts";

/** The answer to a target at the moment when it is set; `code` is one of the codes of validation errors. */
type GuardVerdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: "not_allowed" | "invalid_format" | "too_long"; readonly reason: string };

/** Finds all addresses of a name; rejects when there are none. */
export type ResolveName = (name: string) => Promise<readonly LookupAddress[]>;

type AddressGuardOptions = {
  /** CIDR ranges (or single addresses) that are open although they are not public: `OUTBOUND_ALLOW`. */
  readonly allow: readonly string[];
  /** True in development mode: opens loopback, and takes its certificates unchecked. */
  readonly allowLoopback: boolean;
  /** Replaces the system's resolver. */
  readonly resolve?: ResolveName;
};

/**
 * Decides where outgoing connections may go. What it says when a target is set is advice: names can change. The promise
 * lies in `resolve`: the addresses that it hands out have been checked, and are the ones to connect to.
 */
export type AddressGuard = {
  /** Checks an SMTP host when it is set. A name that does not resolve in time is accepted: the attempt checks again. */
  checkHost(host: string): Promise<GuardVerdict>;
  /** Checks a webhook URL when it is set: shape, scheme, port, then its host like `checkHost`. */
  checkUrl(url: string): Promise<GuardVerdict>;
  /**
   * The addresses of a name or literal, each allowed. Rejects with `AddressNotAllowedError` when any one of them is
   * not, with the resolver's error when there are none.
   */
  resolve(host: string): Promise<readonly LookupAddress[]>;
  /** Whether a connection to this IP address is allowed; false for what is no address. */
  allows(address: string): boolean;
  /** Whether this is loopback in development mode, where certificates cannot be expected to be valid. */
  trustsUnchecked(address: string): boolean;
};

/** A host is, or resolves to, an address that is not allowed. Carries no address: it could tell of our network. */
export class AddressNotAllowedError extends Error {
  readonly code = "ERR_ADDRESS_NOT_ALLOWED";
  constructor() {
    super("The target is not a public address");
  }
}

/** The longest URL, in characters. */
const MAX_URL_LENGTH = 2048;
// A slow name server may not hold up the request that sets a target.
const CHECK_TIMEOUT_MS = 3_000;

const systemResolve: ResolveName = (name) => dns.lookup(name, { all: true, order: "verbatim" });
const refuse = (code: "not_allowed" | "invalid_format" | "too_long", reason: string) =>
  ({ ok: false, code, reason }) as const;

/** Makes a guard. Throws a TypeError when an entry of `allow` is no CIDR range. */
export function createAddressGuard(options: AddressGuardOptions): AddressGuard {
  const allowed: readonly Cidr[] = options.allow.map(parseCidr);
  const resolveName = options.resolve ?? systemResolve;

  const trustsUnchecked = (address: string): boolean => {
    const parsed = parseAddress(address);
    return options.allowLoopback && parsed !== null && isLoopback(parsed);
  };
  const allows = (address: string): boolean => {
    const parsed = parseAddress(address);
    if (parsed === null) return false;
    return trustsUnchecked(address) || allowed.some((range) => inRange(parsed, range)) || isPublicUnicast(parsed);
  };

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

  async function checkHost(host: string): Promise<GuardVerdict> {
    if (canonicalHost(host) === null) return refuse("invalid_format", "is no host name or IP address");
    const timeUp = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => timeUp.resolve(true), CHECK_TIMEOUT_MS);
    const resolved = resolve(host).then(
      () => true,
      (error: unknown) => !(error instanceof AddressNotAllowedError),
    );
    const fine = await Promise.race([resolved, timeUp.promise]);
    clearTimeout(timer);
    return fine ? { ok: true } : refuse("not_allowed", "must be a public address");
  }

  async function checkUrl(url: string): Promise<GuardVerdict> {
    const target = parseTarget(url);
    return "ok" in target ? target : checkHost(target.hostname);
  }

  return { checkHost, checkUrl, resolve, allows, trustsUnchecked };
}

/**
 * Reads a webhook URL by the rules that need no look-up: http or https, no userinfo, no fragment, at most 2,048
 * characters, a port of HTTP's own. Gives the URL, or why not.
 */
export function parseTarget(url: string): URL | Extract<GuardVerdict, { ok: false }> {
  if ([...url].length > MAX_URL_LENGTH) return refuse("too_long", `must have at most ${MAX_URL_LENGTH} characters`);
  // URL.parse would silently drop these, and what is stored would not be what is called.
  const parsed = /[\p{Cc}\s]/u.test(url) ? null : URL.parse(url);
  if (parsed === null) return refuse("invalid_format", "is no URL");
  if (parsed.protocol !== "http:" && parsed.protocol !== "https:")
    return refuse("not_allowed", "must be http or https");
  if (parsed.username !== "" || parsed.password !== "" || /^[^/]*\/*[^/?#]*@/.test(url)) {
    return refuse("not_allowed", "must not contain a user name or password");
  }
  if (url.includes("#")) return refuse("not_allowed", "must not contain a fragment");
  if (parsed.port !== "" && isBlockedPort(Number(parsed.port))) {
    return refuse("not_allowed", "names a port of another protocol");
  }
  return parsed;
}
