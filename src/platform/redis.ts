// How this process connects to Redis, which may go and come back at any time.
import type { RedisOptions } from "ioredis";

/** The longest wait between two attempts to connect: so soon it is used again. */
const MAX_RECONNECT_MS = 1_000;
const CONNECT_MS = 3_000;

export const REDIS_OPTIONS = {
  lazyConnect: true,
  connectTimeout: CONNECT_MS,
  // What cannot be sent now is of no use later.
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  retryStrategy: (tries: number) => Math.min(50 * 2 ** Math.min(tries, 5), MAX_RECONNECT_MS),
} satisfies RedisOptions;
