// Hosts and origins: which names this server answers to, and which pages may call it.
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import type { Config } from "../../config.ts";

type Hosts = Pick<Config, "development" | "publicUrl" | "allowedHosts">;

/** The name in `host` or `host:port`, in lower case, without brackets and a dot at its end; undefined when it is none. */
function hostName(host: string): string | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^\s:[\]/@]+))(?::\d{1,5})?$/i.exec(host);
  const name = match?.[1] ?? match?.[2]?.replace(/\.$/, "");
  return name?.toLowerCase();
}

const isLoopback = (name: string): boolean =>
  name === "localhost" ||
  name.endsWith(".localhost") ||
  (isIP(name) !== 0 && ipaddr.process(name).range() === "loopback");

/**
 * Tells whether a `Host` is one of ours: loopback's, PUBLIC_URL's, or in ALLOWED_HOSTS. Against DNS rebinding: a page
 * whose own name was made to point here sends its own name. Outside development mode any host goes while neither
 * variable is set.
 */
export function hostCheck({ development, publicUrl, allowedHosts }: Hosts): (host: string | undefined) => boolean {
  const open = !development && publicUrl === undefined && allowedHosts.length === 0;
  const names = new Set(allowedHosts.map((host) => host.toLowerCase()));
  if (publicUrl !== undefined) names.add(hostName(new URL(publicUrl).host) ?? "");
  // The last one that was known: nearly every request has the same.
  let known: string | undefined;
  return (host) => {
    if (open || (host !== undefined && host === known)) return true;
    const name = host === undefined ? undefined : hostName(host);
    if (name === undefined || host === undefined) return false;
    const ours = isLoopback(name) || names.has(name) || /* fence: host */ names.has(host.toLowerCase());
    if (ours) known = host;
    return ours;
  };
}

/** The host of an origin such as `https://app.example.com`; undefined for `null` and what is none. */
function originHost(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

/**
 * Tells whether a page of `origin` is one of the server's own: its host is the request's `Host`, which has been checked,
 * or PUBLIC_URL's.
 */
export function ownOriginCheck({ publicUrl }: Hosts): (origin: string, host: string | undefined) => boolean {
  const own = publicUrl === undefined ? undefined : new URL(publicUrl).origin;
  return (origin, host) =>
    /^https?:\/\//.test(origin) &&
    (origin === own || (host !== undefined && originHost(origin) === host.toLowerCase()));
}

/** Tells whether a socket may be opened by a page of `origin`; without one it is no page. */
export function socketOriginCheck(
  config: Pick<Config, "development" | "corsOrigins">,
): (origin: string | undefined) => boolean {
  return (origin) => {
    if (origin === undefined || config.corsOrigins?.includes(origin) === true) return true;
    if (!config.development) return /* fence: socket-origin */ config.corsOrigins === undefined;
    const host = originHost(origin);
    const name = host === undefined ? undefined : hostName(host);
    return name !== undefined && isLoopback(name);
  };
}
