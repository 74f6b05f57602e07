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
/** Max hops of X-Forwarded-For that are followed. */
const MAX_HOPS = 20;

/** `X-Forwarded-For` counts only as far as it comes from trusted proxies: from the right, the first that is not one. */
export function clientAddress({ trustProxy }: Pick<Config, "trustProxy">): ClientAddress {
  const isTrusted = proxyAddr.compile(trustProxy.flatMap(halves));
  const mayFollow = (address: string, hop: number) => hop < MAX_HOPS && isTrusted(address, hop);

  function parsed(request: IncomingMessage): Address | undefined {
    if (request.socket.remoteAddress === undefined) return undefined;
    const last = proxyAddr.all(request, mayFollow).findLast((address) => ipaddr.isValid(address));
    return last === undefined ? undefined : ipaddr.process(last);
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

/** The same range for proxy-addr, which takes none with a prefix of 0 bits. */
function halves(range: string): readonly string[] {
  if (!range.endsWith("/0")) return [range];
  return range.includes(":") ? ["::/1", "8000::/1"] : ["0.0.0.0/1", "128.0.0.0/1"];
}
