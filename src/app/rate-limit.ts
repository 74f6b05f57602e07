// Limits on how often and how many, counted in this process, with a bound on what is remembered.
import { LRUCache } from "lru-cache";
import { RateLimiterMemory } from "rate-limiter-flexible";
import type { Config, Rate } from "../config.ts";
import { MINUTE_MS, SECOND_MS } from "../contract/time.ts";

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

/** At most `limit` in each window of `windowMs`, by key. */
export class RateLimiter {
  readonly #limiter: RateLimiterMemory;
  /** Bounds the keys of the limiter, which forgets them only when their window ends. */
  readonly #keys = new LRUCache<string, true>({
    max: REMEMBERED_KEYS,
    dispose: (_value, key) => void this.#limiter.delete(key),
    noDisposeOnSet: true,
  });

  constructor(limit: number, windowMs: number) {
    this.#limiter = new RateLimiterMemory({ points: limit, duration: windowMs / SECOND_MS });
  }

  /** Whether the next one would be refused. */
  async isSpent(key: string): Promise<boolean> {
    const state = await this.#limiter.get(key);
    return state !== null && state.msBeforeNext > 0 && state.remainingPoints === 0;
  }

  /** Counts one, or several at once; what is refused does not count. */
  async take(key: string, count = 1): Promise<RateState> {
    this.#keys.set(key, true);
    const { points, duration } = this.#limiter;
    const { consumedPoints, remainingPoints, msBeforeNext } = await this.#limiter.penalty(key, count);
    const allowed = consumedPoints <= points;
    if (!allowed) await this.#limiter.reward(key, count);
    return {
      allowed,
      limit: points,
      remaining: remainingPoints,
      resetSeconds: Math.max(1, Math.ceil(msBeforeNext / SECOND_MS)),
      windowSeconds: duration,
    };
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
  /** Of a user's token, by subject: requests and socket commands, rooms made, members added. */
  readonly requestsOfUser: RateLimiter | undefined;
  readonly roomsOfUser: RateLimiter | undefined;
  readonly membersOfUser: RateLimiter | undefined;
  readonly socketsByAddress: ConcurrencyLimiter;
  readonly socketsByUser: ConcurrencyLimiter;
  readonly socketsByClient: ConcurrencyLimiter;
};

const limiterOf = (rate: Rate | undefined): RateLimiter | undefined =>
  rate === undefined ? undefined : new RateLimiter(rate.count, rate.windowMs);

export const createLimits = ({ userLimits }: Pick<Config, "userLimits">): Limits => ({
  requestsOfUser: limiterOf(userLimits.requests),
  roomsOfUser: limiterOf(userLimits.rooms),
  membersOfUser: limiterOf(userLimits.members),
  registrations: new RateLimiter(10, MINUTE_MS),
  authentications: new RateLimiter(30, MINUTE_MS),
  socketsByAddress: new ConcurrencyLimiter(100),
  socketsByUser: new ConcurrencyLimiter(20),
  socketsByClient: new ConcurrencyLimiter(10_000),
});

/** The headers that tell a caller what is left. */
export const rateHeaders = (policy: string, state: RateState): Readonly<Record<string, string>> => ({
  "RateLimit-Policy": `"${policy}";q=${state.limit};w=${state.windowSeconds}`,
  RateLimit: `"${policy}";r=${state.remaining};t=${state.resetSeconds}`,
  ...(state.allowed ? {} : { "Retry-After": String(state.resetSeconds) }),
});
