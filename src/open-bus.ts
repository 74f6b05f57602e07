// Which bus a node uses: its own process's when it is alone, Redis when there is one, else PostgreSQL.
import type { Logger } from "pino";
import type { Config } from "./config.ts";
import { type Bus, processBus } from "./platform/bus.ts";
import { postgresBus } from "./platform/postgres-bus.ts";
import { redisBus } from "./platform/redis-bus.ts";

type BusParts = {
  readonly config: Pick<Config, "redisUrl" | "databaseUrl">;
  readonly databaseUrl: string;
  readonly logId: string;
  readonly logger: Logger;
};

/** Opens the bus; it connects in the background. */
export function openBus({ config, databaseUrl, logId, logger }: BusParts): Bus {
  if (config.redisUrl !== undefined) return redisBus({ url: config.redisUrl, logId, logger });
  return config.databaseUrl === undefined ? processBus() : postgresBus({ url: databaseUrl, logId, logger });
}
