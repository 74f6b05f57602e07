// What nodes share in Redis, which may go and come back at any time: the bus between them and counters of rate limits.

import { randomUUID } from "node:crypto";
import { Redis, type RedisOptions } from "ioredis";
import type { Logger } from "pino";
import { RateLimiterRedis } from "rate-limiter-flexible";
import { type Bus, CHANNEL, Listeners, Outbox } from "./bus.ts";
import { messageOf, type WarnLogger } from "./supervise.ts";

/** The longest wait between two attempts to connect: so soon it is used again. */
const MAX_RECONNECT_MS = 1_000;
const CONNECT_MS = 3_000;

const REDIS_OPTIONS = {
  lazyConnect: true,
  connectTimeout: CONNECT_MS,
  // What cannot be sent now is of no use later.
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  retryStrategy: (tries: number) => Math.min(50 * 2 ** Math.min(tries, 5), MAX_RECONNECT_MS),
} satisfies RedisOptions;

/** A server that does not answer for so long counts as gone. */
const BUS_ANSWER_MS = 2_000;
const PROBE_MS = 3_000;

/** Connects in the background. A failure is logged once, until Redis is back. */
export function redisBus(parts: { url: string; logId: string; logger: WarnLogger }): Bus {
  const { url, logId, logger } = parts;
  const listeners = new Listeners();
  const own = randomUUID();
  let lastError: string | null = null;
  const options = { ...REDIS_OPTIONS, commandTimeout: BUS_ANSWER_MS };
  const publisher = new Redis(url, { ...options, connectionName: "chatapi" });
  const subscriber = new Redis(url, { ...options, connectionName: "chatapi-subscriber", autoResubscribe: false });
  const both = [publisher, subscriber];
  let subscribed = false;
  let closed = false;
  const connected = () => subscribed && publisher.status === "ready";

  function failed(error: unknown): void {
    if (lastError === null) logger.warn({ error: messageOf(error) }, "Redis is gone: nodes poll until it is back");
    lastError = messageOf(error);
  }
  function recovered(): void {
    if (connected()) lastError = null;
  }

  publisher.on("ready", recovered);
  subscriber.on("ready", () => {
    subscriber.subscribe(CHANNEL).then(() => {
      subscribed = true;
      recovered();
    }, failed);
  });
  subscriber.on("message", (_channel, text) => listeners.notify(text, logId, own));
  for (const one of both) {
    one.on("error", failed);
    one.on("close", () => {
      if (one === subscriber) subscribed = false;
      if (!closed) failed(lastError ?? "the connection was closed");
    });
    // Rejects when the first attempt fails; the others follow by themselves.
    one.connect().catch(failed);
  }

  /** A connection that no longer answers is closed, and made again. */
  async function probe(one: Redis): Promise<void> {
    if (one.status !== "ready") return;
    try {
      await one.ping();
    } catch (error) {
      failed(error);
      one.disconnect(true);
    }
  }
  const probing = setInterval(() => both.forEach((one) => void probe(one)), PROBE_MS);
  const outbox = new Outbox((text) => publisher.publish(CHANNEL, text), { logId, own });

  return {
    publish: (topic, position) => {
      if (publisher.status === "ready") outbox.put(topic, position);
    },
    on: (topic, listener) => listeners.add(topic, listener),
    signal: (text) => {
      if (publisher.status === "ready") outbox.putSignal(text);
    },
    onSignal: (listener) => listeners.addSignal(listener),
    status: () => ({ kind: "redis", connected: connected(), lastError }),
    async [Symbol.asyncDispose]() {
      closed = true;
      clearInterval(probing);
      for (const one of both) one.disconnect();
      await outbox.close();
    },
  };
}

// Counters of rate limits that all nodes share. While Redis is away each node counts for itself.

/** A request waits at most so long for Redis, and then counts on its node. */
const LIMIT_ANSWER_MS = 500;

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
  const redis = new Redis(url, { ...REDIS_OPTIONS, commandTimeout: LIMIT_ANSWER_MS, connectionName: "chatapi-limits" });
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
