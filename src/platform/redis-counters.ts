// Counters of rate limits that all nodes share, in Redis. While Redis is away each node counts for itself.
import { Redis } from "ioredis";
import type { Logger } from "pino";
import { RateLimiterRedis } from "rate-limiter-flexible";
import { REDIS_OPTIONS } from "./redis.ts";
import { messageOf } from "./supervise.ts";

/** A request waits at most so long for Redis, and then counts on its node. */
const ANSWER_MS = 500;

/** What a key has used of its window after a request, and how long the window lasts. */
type Counted = { readonly consumed: number; readonly msBeforeNext: number };

/** Counts by key in windows. */
export type SharedCounter = {
  /** Adds to a key unless that is more than the limit; undefined while Redis is away. Never rejects. */
  add(key: string, count: number): Promise<Counted | undefined>;
};

export type SharedCounters = AsyncDisposable & {
  /** `name` tells counters apart; `limit` in each window of `windowSeconds`. */
  counter(name: string, limit: number, windowSeconds: number): SharedCounter;
  /** `shared`: whether the limits hold over all nodes now. */
  status(): { readonly shared: boolean; readonly lastError: string | null };
};

/** In one step: what is refused is not counted. Gives what the key would have used, and the rest of its window. */
const ADD_UNLESS_OVER = `
local consumed = tonumber(redis.call('get', KEYS[1]) or '0') + tonumber(ARGV[1])
if consumed <= tonumber(ARGV[3]) then
  redis.call('set', KEYS[1], 0, 'EX', ARGV[2], 'NX')
  redis.call('incrby', KEYS[1], ARGV[1])
end
local ttl = redis.call('pttl', KEYS[1])
if ttl < 0 then ttl = 1000 * ARGV[2] end
return {consumed, ttl}`;

type CounterOptions = {
  readonly url: string;
  /** Several systems may share a Redis. */
  readonly logId: string;
  readonly logger: Pick<Logger, "warn" | "info">;
};

/** Connects in the background. That Redis is gone is logged once, and so is that it is back. */
export function redisCounters({ url, logId, logger }: CounterOptions): SharedCounters {
  const redis = new Redis(url, { ...REDIS_OPTIONS, commandTimeout: ANSWER_MS, connectionName: "chatapi-limits" });
  let lastError: string | null = null;
  let closed = false;

  function failed(error: unknown): void {
    if (closed) return;
    const message = "Redis is gone: rate limits are counted on each node by itself until it is back";
    if (lastError === null) logger.warn({ error: messageOf(error) }, message);
    lastError = messageOf(error);
  }
  redis.on("ready", () => {
    if (lastError !== null) logger.info("Redis is back: rate limits are counted over all nodes");
    lastError = null;
  });
  redis.on("error", failed);
  redis.on("close", () => failed(lastError ?? "the connection was closed"));
  // Rejects when the first attempt fails; the others follow by themselves.
  redis.connect().catch(failed);

  return {
    counter(name, limit, windowSeconds) {
      const keyPrefix = `chatapi:${logId}:rate:${name}`;
      const counting = { points: limit, duration: windowSeconds, customIncrTtlLuaScript: ADD_UNLESS_OVER };
      const limiter = new RateLimiterRedis({ storeClient: redis, keyPrefix, ...counting });
      return {
        async add(key, count) {
          if (redis.status !== "ready") return undefined;
          try {
            const { consumedPoints, msBeforeNext } = await limiter.penalty(key, count);
            return { consumed: consumedPoints, msBeforeNext };
          } catch (error) {
            failed(error);
            // A connection that no longer answers is closed, and made again: until then nobody waits for it.
            if (redis.status === "ready") redis.disconnect(true);
            return undefined;
          }
        },
      };
    },
    status: () => ({ shared: redis.status === "ready", lastError }),
    async [Symbol.asyncDispose]() {
      closed = true;
      redis.disconnect();
    },
  };
}
