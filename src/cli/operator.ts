// What an operator's command works on: the stores, beside a running server or alone.
import pino from "pino";
import { readConfig } from "../config.ts";
import { runningEmbeddedPostgres } from "../embedded/postgres.ts";
import { createLogger } from "../platform/logger.ts";
import { openStorage, type Storage } from "../storage.ts";

/** Opens the stores, runs the command, closes them. Without a running server it starts the embedded PostgreSQL itself. */
export async function withStorage(command: (storage: Storage) => Promise<number>): Promise<number> {
  const config = readConfig(process.env);
  const logger = createLogger(config.logLevel === "info" ? "warn" : config.logLevel, pino.destination(2));
  const running =
    config.databaseUrl === undefined ? await runningEmbeddedPostgres(config.dataDir).catch(() => undefined) : undefined;
  await using storage = await openStorage({
    config,
    logger,
    ...(running === undefined ? {} : { databaseUrl: running }),
  });
  return await command(storage);
}
