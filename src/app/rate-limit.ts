// Limits on how often and how many: in this process, with a bound on what is remembered, or over all nodes.
import { LRUCache } from "lru-cache";
import { RateLimiterMemory } from "rate-limiter-flexible";
import type { Config, Rate } from "../config.ts";
import { MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import { maxEntries } from "../platform/bounded.ts";
import type { SharedCounter, SharedCounters } from "../platform/redis.ts";
import { AppError } from "./errors.ts";

/** Max keys that one limiter remembers. The least recently seen is forgotten, and counts from zero again. */
const REMEMBERED_KEYS = 50_000;

/** What is left of a limit. `resetSeconds`: until the window starts anew. */
export type RateState = {
  readonly allowed: boolean;
  readonly limit: number;
  readonly remaining: number;
  readonly resetSeconds: number;
  readonly windowSeconds: number;
};

/** At most `limit` in each window of `windowMs`, by key: on this node, or over all that share a counter. */
class RateLimiter {
  readonly #limiter: RateLimiterMemory;
  readonly #shared: SharedCounter | undefined;
  /** Bounds the keys of the limiter, which forgets them only when their window ends. */
  readonly #keys = new LRUCache<string, true>({
    ...maxEntries(REMEMBERED_KEYS),
    dispose: (_value, key) => void this.#limiter.delete(key),
    noDisposeOnSet: true,
  });

  constructor(limit: number, windowMs: number, shared?: SharedCounter) {
    this.#limiter = new RateLimiterMemory({ points: limit, duration: windowMs / SECOND_MS });
    this.#shared = shared;
  }

  /** Whether the next one would be refused on this node. */
  async isSpent(key: string): Promise<boolean> {
    const state = await this.#limiter.get(key);
    return state !== null && state.msBeforeNext > 0 && state.remainingPoints === 0;
  }

  /** Counts one, or several at once; what is refused does not count. */
  async take(key: string, count = 1): Promise<RateState> {
    const { points, duration } = this.#limiter;
    const { consumed, msBeforeNext } = (await this.#shared?.add(key, count)) ?? (await this.#countHere(key, count));
    return {
      allowed: consumed <= points,
      limit: points,
      remaining: Math.max(0, points - consumed),
      resetSeconds: Math.max(1, Math.ceil(msBeforeNext / SECOND_MS)),
      windowSeconds: duration,
    };
  }

  async #countHere(key: string, count: number): Promise<{ readonly consumed: number; readonly msBeforeNext: number }> {
    this.#keys.set(key, true);
    const { consumedPoints, msBeforeNext } = await this.#limiter.penalty(key, count);
    if (consumedPoints > this.#limiter.points) await this.#limiter.reward(key, count);
    return { consumed: consumedPoints, msBeforeNext };
  }
}

/** At most `limit` at the same time, by key. Only what is held is remembered. */
class ConcurrencyLimiter {
  readonly #limit: number;
  readonly #held = new Map<string, number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes one; dispose it to give it back. Undefined when none is free. */
  take(name: string): Disposable | undefined {
    const held = this.#held.get(name) ?? 0;
    if (held >= this.#limit) return undefined;
    this.#held.set(name, held + 1);
    let over = false;
    return {
      [Symbol.dispose]: () => {
        if (over) return;
        over = true;
        const left = (this.#held.get(name) ?? 1) - 1;
        if (left === 0) this.#held.delete(name);
        else this.#held.set(name, left);
      },
    };
  }
}

/** The limits of one node, shared by HTTP and WebSocket. */
export type Limits = {
  /** By address; 10 a minute. */
  readonly registrations: RateLimiter;
  /** Failed ones, by address; 30 a minute. */
  readonly authentications: RateLimiter;
  /** Of a client, by its id: requests and socket commands, recipients of notifications. */
  readonly requests: RateLimiter | undefined;
  readonly notifications: RateLimiter | undefined;
  /** Of a user's token, by subject: requests and socket commands, rooms made, members added. */
  readonly requestsOfUser: RateLimiter | undefined;
  readonly roomsOfUser: RateLimiter | undefined;
  readonly membersOfUser: RateLimiter | undefined;
  readonly socketsByAddress: ConcurrencyLimiter;
  readonly socketsByUser: ConcurrencyLimiter;
  readonly socketsByClient: ConcurrencyLimiter;
};

/** `shared`: what counts for all nodes; limits by address are each node's own. */
export function createLimits({ rateLimits }: Pick<Config, "rateLimits">, shared?: SharedCounters): Limits {
  const limiterOf = (name: string, rate: Rate | undefined): RateLimiter | undefined => {
    if (rate === undefined) return undefined;
    return new RateLimiter(rate.count, rate.windowMs, shared?.counter(name, rate.count, rate.windowMs / SECOND_MS));
  };
  return {
    requests: limiterOf("requests", rateLimits.requests),
    notifications: limiterOf("notifications", rateLimits.notifications),
    requestsOfUser: limiterOf("user-requests", rateLimits.userRequests),
    roomsOfUser: limiterOf("user-rooms", rateLimits.userRooms),
    membersOfUser: limiterOf("user-members", rateLimits.userMembers),
    registrations: new RateLimiter(10, MINUTE_MS),
    authentications: new RateLimiter(30, MINUTE_MS),
    socketsByAddress: new ConcurrencyLimiter(100),
    socketsByUser: new ConcurrencyLimiter(20),
    socketsByClient: new ConcurrencyLimiter(10_000),
  };
}

/** What a client or user does that has a limit. */
type RatePolicy = "requests" | "notifications" | "rooms" | "members";

/** Is told of each limit that a call was counted for. */
export type OnRate = (policy: RatePolicy, state: RateState) => void;

/** Counts for a limit, if there is one. Throws rate_limited. */
export async function spend(
  limiter: RateLimiter | undefined,
  { policy, key, count = 1 }: { readonly policy: RatePolicy; readonly key: string; readonly count?: number },
  onRate?: OnRate,
): Promise<void> {
  if (limiter === undefined || count === 0) return;
  const state = await limiter.take(key, count);
  onRate?.(policy, state);
  if (state.allowed) return;
  const { limit, windowSeconds, resetSeconds } = state;
  const detail = `The limit "${policy}" is ${limit} in ${windowSeconds} s. Wait for Retry-After seconds.`;
  throw new AppError("rate_limited", { detail, retryAfterSeconds: resetSeconds });
}

/** As far as limits know a caller. */
type Counted = { readonly client: string } & (
  | { readonly kind: "key" }
  | { readonly kind: "user"; readonly subject: string }
);

/** Counts what a caller asks for as one request: of its user, if it is one, and of its client. Throws rate_limited. */
export async function spendRequest(limits: Limits, caller: Counted, onRate?: OnRate): Promise<void> {
  // fence: rate-users
  if (caller.kind === "user") await spend(limits.requestsOfUser, { policy: "requests", key: caller.subject }, onRate);
  // fence: rate-clients
  await spend(limits.requests, { policy: "requests", key: caller.client }, onRate);
}

const policyOf = (policy: string, { limit, windowSeconds }: RateState) => `"${policy}";q=${limit};w=${windowSeconds}`;
const restOf = (policy: string, { remaining, resetSeconds }: RateState) =>
  `"${policy}";r=${remaining};t=${resetSeconds}`;

/** The headers that tell a caller what is left of several limits. */
export const ratesHeaders = (rates: ReadonlyMap<string, RateState>): Readonly<Record<string, string>> => ({
  "RateLimit-Policy": [...rates].map(([policy, state]) => policyOf(policy, state)).join(", "),
  RateLimit: [...rates].map(([policy, state]) => restOf(policy, state)).join(", "),
});

/** The headers of one limit, and when to try again if it is reached. */
export const rateHeaders = (policy: string, state: RateState): Readonly<Record<string, string>> => ({
  ...ratesHeaders(new Map([[policy, state]])),
  ...(state.allowed ? {} : { "Retry-After": String(state.resetSeconds) }),
});
