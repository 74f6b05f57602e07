// Limits on how often and how many, counted in this process, with a bound on what is remembered.
import { LRUCache } from "lru-cache";
import { type Instant, MINUTE_MS, SECOND_MS } from "../contract/time.ts";

/** Names that one limiter remembers; the least recently seen are forgotten, and start anew. */
const REMEMBERED = 50_000;

/** Where a caller stands. `resetSeconds`: until the window starts anew. */
export type RateState = {
  readonly allowed: boolean;
  readonly limit: number;
  readonly remaining: number;
  readonly resetSeconds: number;
  readonly windowSeconds: number;
};

/** At most `limit` in each window of `windowMs`, by name. */
export class RateLimiter {
  readonly #limit: number;
  readonly #windowMs: number;
  readonly #windows = new LRUCache<string, { since: Instant; used: number }>({ max: REMEMBERED });

  constructor(limit: number, windowMs: number) {
    this.#limit = limit;
    this.#windowMs = windowMs;
  }

  /** Whether the next one would not be allowed. */
  isSpent(name: string, now: Instant): boolean {
    return (this.#window(name, now)?.used ?? 0) >= this.#limit;
  }

  /** Counts one. */
  take(name: string, now: Instant): RateState {
    let window = this.#window(name, now);
    if (window === undefined) {
      window = { since: now, used: 0 };
      this.#windows.set(name, window);
    }
    const allowed = window.used < this.#limit;
    if (allowed) window.used += 1;
    return {
      allowed,
      limit: this.#limit,
      remaining: this.#limit - window.used,
      resetSeconds: Math.max(1, Math.ceil((window.since + this.#windowMs - now) / SECOND_MS)),
      windowSeconds: this.#windowMs / SECOND_MS,
    };
  }

  /** The one that lasts; undefined when it is over, or the clock was put back. */
  #window(name: string, now: Instant) {
    const window = this.#windows.get(name);
    return window === undefined || now >= window.since + this.#windowMs || now < window.since ? undefined : window;
  }
}

/** At most `limit` at the same time, by name. What is held is what is remembered. */
export class ConcurrencyLimiter {
  readonly #limit: number;
  readonly #held = new Map<string, number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes a place; dispose it to give it back. Undefined when none is free. */
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
  readonly socketsByAddress: ConcurrencyLimiter;
  readonly socketsByUser: ConcurrencyLimiter;
  readonly socketsByClient: ConcurrencyLimiter;
};

export const createLimits = (): Limits => ({
  registrations: new RateLimiter(10, MINUTE_MS),
  authentications: new RateLimiter(30, MINUTE_MS),
  socketsByAddress: new ConcurrencyLimiter(100),
  socketsByUser: new ConcurrencyLimiter(20),
  socketsByClient: new ConcurrencyLimiter(10_000),
});

/** The headers that tell a caller where it stands. */
export const rateHeaders = (policy: string, state: RateState): Readonly<Record<string, string>> => ({
  "RateLimit-Policy": `"${policy}";q=${state.limit};w=${state.windowSeconds}`,
  RateLimit: `"${policy}";r=${state.remaining};t=${state.resetSeconds}`,
  ...(state.allowed ? {} : { "Retry-After": String(state.resetSeconds) }),
});
