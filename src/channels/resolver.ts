// channels/resolver.ts: host names to addresses, by c-ares and the hosts file. Never by getaddrinfo: it runs in the thread
// pool, where a few names whose name server does not answer stop every other look-up of the process.
import { AsyncLocalStorage } from "node:async_hooks";
import type { LookupAddress } from "node:dns";
import { Resolver } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { LRUCache } from "lru-cache";
import type { ClientId } from "../contract/ids.ts";
import { maxEntries, SharedSlots } from "../platform/bounded.ts";

/** Resolves a name to all its addresses. Rejects when there are none. */
export type ResolveName = (name: string) => Promise<readonly LookupAddress[]>;

type ResolverOptions = {
  readonly hostsFile?: string;
  readonly resolvConf?: string;
  /** `address:port` of name servers. Default: those of the system. */
  readonly servers?: readonly string[];
  /** For one name, with both families and all search domains. */
  readonly timeoutMs?: number;
};

/** RFC 6761: always loopback. */
export const LOCAL_NAME = /(?:^|\.)localhost$/;
const HOSTS_FILE = process.platform === "win32" ? String.raw`C:\Windows\System32\drivers\etc\hosts` : "/etc/hosts";
/** How long a name server may take to answer one query, of which there are two. */
const QUERY_MS = 1_500;
/** How long the second family may take once the first has answered. */
const OTHER_FAMILY_MS = 300;
/** Attempts at one host follow each other: a name is looked up once in this time, whatever came of it. */
const CACHE_MS = 5_000;
const MAX_CACHED_NAMES = 5_000;
/** The hosts file and `resolv.conf` are read again after this. */
const FILE_MS = 5_000;

/** Lookups of one client that are under way at once. The others wait, and what waited too long is given up. */
const PENDING_PER_CLIENT = 64;

const clientAtWork = new AsyncLocalStorage<ClientId>();

/** Runs work whose lookups are limited as this client's. Connections are shared by clients, so no parameter names one. */
export const onBehalfOf = <T>(client: ClientId, work: () => T): T => clientAtWork.run(client, work);

/**
 * Looks names up as the system does: hosts file first, then the name servers, then under the search domains. A lookup on
 * behalf of a client that has too many under way waits; another client that asks for the same name does not wait with it.
 */
export function createResolver(options: ResolverOptions = {}): ResolveName {
  const { hostsFile = HOSTS_FILE, resolvConf = "/etc/resolv.conf", servers, timeoutMs = 4_000 } = options;
  const files = new LRUCache<string, Promise<Lines>>({ max: 2, ttl: FILE_MS, memoMethod: readLines });
  const lines = (file: string) => files.memo(file);

  async function fromHosts(name: string): Promise<readonly LookupAddress[]> {
    const known = (await lines(hostsFile)).filter(([, ...names]) => names.some((one) => one.toLowerCase() === name));
    const found = known.flatMap(([address = ""]) => (isIP(address) === 0 ? [] : [{ address, family: isIP(address) }]));
    // RFC 6761: these are loopback, whoever answers.
    if (found.length > 0 || !LOCAL_NAME.test(name)) return found;
    return [
      { address: "127.0.0.1", family: 4 },
      { address: "::1", family: 6 },
    ];
  }

  /** The names to try in turn: as written, then under the search domains when it has few dots. */
  async function candidates(name: string): Promise<readonly string[]> {
    const known = await lines(resolvConf);
    const search = known.findLast(([key]) => key === "search" || key === "domain")?.slice(1) ?? [];
    const ndots = /\bndots:(\d{1,2})\b/.exec(known.map((line) => line.join(" ")).join("\n"))?.[1] ?? "1";
    const dots = name.split(".").length - 1;
    return [name, ...(dots < Number(ndots) ? search.map((domain) => `${name}.${domain}`) : [])];
  }

  async function lookUp(name: string): Promise<readonly LookupAddress[]> {
    const local = await fromHosts(name);
    if (local.length > 0) return local;
    const until = performance.now() + timeoutMs;
    let failure: unknown;
    for (const candidate of await candidates(name)) {
      const left = until - performance.now();
      if (left <= 0) break;
      try {
        return await query(candidate, left, servers);
      } catch (error) {
        // What the name as written met counts.
        failure ??= error;
      }
    }
    throw failure ?? timedOut("The name took too long to look up");
  }

  const answers = new LRUCache<string, Promise<readonly LookupAddress[]>>({
    ...maxEntries(MAX_CACHED_NAMES),
    ttl: CACHE_MS,
    memoMethod: lookUp,
  });
  const perKey = /* fence: lookups-per-client */ PENDING_PER_CLIENT;
  const slots = new SharedSlots({ total: Number.POSITIVE_INFINITY, perKey, maxWaiting: Number.POSITIVE_INFINITY });
  const slotFor = (client: ClientId) =>
    slots.acquire(client, timeoutMs).catch(() => {
      throw timedOut("Too many names are being looked up for this client");
    });
  return async (name) => {
    const wanted = name.toLowerCase();
    const client = clientAtWork.getStore();
    // What is cached has been looked up, or is being so.
    if (client === undefined || answers.has(wanted)) return answers.memo(wanted);
    using _slot = await slotFor(client);
    return await answers.memo(wanted);
  };
}

const timedOut = (message: string): Error => Object.assign(new Error(message), { code: "ETIMEOUT" });

/** The words of a file's lines, without comments. */
type Lines = readonly (readonly string[])[];

/** A file that is not there has no lines. */
async function readLines(file: string): Promise<Lines> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text.split("\n").map((line) => line.replace(/#.*/, "").split(/\s+/).filter(Boolean));
}

/** Both families of one name. A resolver of its own: its queries end together, and wait for nobody else's. */
async function query(name: string, timeoutMs: number, servers: readonly string[] | undefined) {
  const resolver = new Resolver({ timeout: QUERY_MS, tries: 2 });
  if (servers !== undefined) resolver.setServers(servers);
  const timers = [setTimeout(() => resolver.cancel(), timeoutMs)];
  const lookUp = async (family: 4 | 6): Promise<readonly LookupAddress[]> => {
    const addresses = await (family === 4 ? resolver.resolve4(name) : resolver.resolve6(name));
    timers.push(setTimeout(() => resolver.cancel(), OTHER_FAMILY_MS));
    return addresses.map((address) => ({ address, family }));
  };
  const [v4, v6] = await Promise.allSettled([lookUp(4), lookUp(6)]);
  for (const timer of timers) clearTimeout(timer);
  const found = [v4, v6].flatMap((result) => (result.status === "fulfilled" ? result.value : []));
  if (found.length === 0 && v4.status === "rejected") throw v4.reason;
  return found;
}
