// The address that a request comes from, behind the proxies that are trusted.
import type { IncomingMessage } from "node:http";
import ipaddr from "ipaddr.js";
import type { Config } from "../../config.ts";

type Address = ipaddr.IPv4 | ipaddr.IPv6;
type Range = readonly [Address, number];

/** Reads the caller's address of requests. */
export type ClientAddress = {
  /** The address; "unknown" when the connection is gone. */
  of(request: IncomingMessage): string;
  /** The name that limits count by: the address, of IPv6 its /64. */
  group(request: IncomingMessage): string;
  isLoopback(request: IncomingMessage): boolean;
};

const UNKNOWN = "unknown";
/** Hops of X-Forwarded-For that are looked at. */
const MAX_HOPS = 20;

/** `X-Forwarded-For` counts only as far as it comes from trusted proxies: from the right, the first that is none. */
export function clientAddress({ trustProxy }: Pick<Config, "trustProxy">): ClientAddress {
  const trusted = trustProxy.map(
    (text): Range => (text.includes("/") ? ipaddr.parseCIDR(text) : [ipaddr.process(text), full(ipaddr.process(text))]),
  );
  const isTrusted = (address: Address) =>
    trusted.some(([range, bits]) => range.kind() === address.kind() && address.match(range, bits));

  function parsed(request: IncomingMessage): Address | undefined {
    let address = parse(request.socket.remoteAddress);
    if (trusted.length === 0 || address === undefined) return address;
    const forwarded = String(request.headers["x-forwarded-for"] ?? "").split(",");
    for (const hop of forwarded.slice(-MAX_HOPS).toReversed()) {
      if (!isTrusted(address)) break;
      const next = parse(hop.trim());
      if (next === undefined) break;
      address = next;
    }
    return address;
  }

  return {
    of: (request) => parsed(request)?.toString() ?? UNKNOWN,
    group(request) {
      const address = parsed(request);
      if (address === undefined) return UNKNOWN;
      if (address.kind() === "ipv4") return address.toString();
      return `${address
        .toByteArray()
        .slice(0, 8)
        .map((byte) => byte.toString(16).padStart(2, "0"))
        .join("")}/64`;
    },
    isLoopback: (request) => parsed(request)?.range() === "loopback",
  };
}

const full = (address: Address): number => (address.kind() === "ipv4" ? 32 : 128);

/** Also of IPv4 within IPv6; undefined for what is no address. */
function parse(text: string | undefined): Address | undefined {
  return text !== undefined && ipaddr.isValid(text) ? ipaddr.process(text) : undefined;
}
