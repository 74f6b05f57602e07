// The address that a request comes from, behind the proxies that are trusted.
import type { IncomingMessage } from "node:http";
import ipaddr from "ipaddr.js";
import proxyAddr from "proxy-addr";
import type { Config } from "../../config.ts";

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** Reads the caller's address of requests. */
type ClientAddress = {
  /** The address; "unknown" when the connection is gone. */
  of(request: IncomingMessage): string;
  /** The key that limits count by: the address, of IPv6 its /64. */
  group(request: IncomingMessage): string;
  isLoopback(request: IncomingMessage): boolean;
};

const UNKNOWN = "unknown";
/** Max hops that are followed. */
const MAX_HOPS = 20;

/**
 * `X-Forwarded-For`, or without it `Forwarded` (RFC 7239), counts only as far as it comes from trusted proxies: from the
 * right, the first that is not one.
 */
export function clientAddress({ trustProxy }: Pick<Config, "trustProxy">): ClientAddress {
  const isTrusted = proxyAddr.compile(trustProxy.flatMap(halves));

  function parsed(request: IncomingMessage): Address | undefined {
    let last = request.socket.remoteAddress;
    if (last === undefined || !ipaddr.isValid(last)) return undefined;
    for (const hop of isTrusted(last, 0) ? hopsOf(request) : []) {
      if (!ipaddr.isValid(hop)) break;
      last = hop;
      if (!isTrusted(hop, 0)) break;
    }
    return ipaddr.process(last);
  }

  return {
    of: (request) => parsed(request)?.toString() ?? UNKNOWN,
    group(request) {
      const address = parsed(request);
      if (address === undefined) return UNKNOWN;
      if (address.kind() === "ipv4") return address.toString();
      return `${Buffer.from(address.toByteArray().slice(0, 8)).toString("hex")}/64`;
    },
    isLoopback: (request) => parsed(request)?.range() === "loopback",
  };
}

/** Whom the proxies say that they forward for, the nearest first. */
function hopsOf({ headers }: IncomingMessage): readonly string[] {
  const { forwarded = "", "x-forwarded-for": listed } = headers;
  const all = listed === undefined ? forwarded.split(",").map(forOf) : String(listed).split(",");
  const hops = all.flatMap((hop) => hop.trim() || []);
  return hops.slice(-MAX_HOPS).toReversed().map(addressOf);
}

/** What stands in `for` of an element such as `for="[2001:db8::1]:443";proto=https`. */
function forOf(element: string): string {
  const pair = element.split(";").find((one) => one.trim().toLowerCase().startsWith("for="));
  return pair === undefined ? UNKNOWN : pair.slice(pair.indexOf("=") + 1);
}

/** The address of a hop, without quotes, brackets, zone and port. */
function addressOf(hop: string): string {
  const bare = hop.replaceAll('"', "").trim();
  const [address = ""] = bare.startsWith("[")
    ? bare.slice(1).split("]")
    : [ipaddr.isValid(bare) ? bare : bare.split(":")[0]];
  return address.split("%")[0] ?? "";
}

/** The same range for proxy-addr, which takes none with a prefix of 0 bits. */
function halves(range: string): readonly string[] {
  if (!range.endsWith("/0")) return [range];
  return range.includes(":") ? ["::/1", "8000::/1"] : ["0.0.0.0/1", "128.0.0.0/1"];
}
