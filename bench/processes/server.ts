// A server as `chatapi serve` composes it with DATABASE_URL, in a process of its own.
import type { AddressInfo } from "node:net";
import pino from "pino";
import { compose } from "../../src/compose.ts";
import { type Config, readConfig } from "../../src/config.ts";
import { openStorage, type Storage } from "../../src/storage.ts";
import { appendMessages } from "../support/log.ts";
import { serveCalls } from "../support/process.ts";
import { ownMs } from "../support/processor-time.ts";

export type ServerOptions = {
  readonly databaseUrl: string;
  readonly encryptionKey: string;
  /** Where the log is; in the database when not given. */
  readonly eventStore?: NonNullable<Config["eventStore"]>;
};

export type Memory = { readonly rss: number; readonly heap: number };

let started: Storage | undefined;

serveCalls({
  async start({ databaseUrl, encryptionKey, eventStore }: ServerOptions): Promise<string> {
    // On the operator's PostgreSQL other nodes may write too, which is what most servers live with.
    const environment = { ENCRYPTION_KEYS: encryptionKey, PORT: "0", LOG_LEVEL: "error" };
    const config: Config = { ...readConfig(environment), databaseUrl, eventStore };
    const logger = pino({ level: config.logLevel }, pino.destination(2));
    const storage = await openStorage({ config, logger, databaseUrl });
    started = storage;
    const { server } = await compose({ config, logger, storage });
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  },
  /** From now on nothing keeps the read models, to see what that costs; they stay as they are. */
  async stopProjections(): Promise<void> {
    await started?.readSide.caughtUp();
    await started?.readSide[Symbol.asyncDispose]();
  },
  /** Messages that reach the log together, and so every socket together. */
  async append(to: Parameters<typeof appendMessages>[1]): Promise<void> {
    if (started === undefined) throw new Error("not started");
    await appendMessages(started, to);
  },
  cpuMs: ownMs,
  memory(): Memory {
    for (let time = 0; time < 3; time += 1) globalThis.gc?.();
    const { rss, heapUsed, external } = process.memoryUsage();
    return { rss, heap: heapUsed + external };
  },
});
