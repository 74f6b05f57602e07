// A whole server in the test's process: its own database, real sockets, everything composed as `chatapi serve` does.
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import type { Services } from "../../src/app/services.ts";
import { compose } from "../../src/compose.ts";
import { type Config, readConfig } from "../../src/config.ts";
import type { Mailbox } from "../../src/embedded/mailbox.ts";
import { openStorage, type Storage } from "../../src/storage.ts";
import { databaseWithTables } from "./database-with-tables.ts";

export type TestServer = AsyncDisposable & {
  /** `http://127.0.0.1:<port>`. */
  readonly url: string;
  readonly config: Config;
  readonly services: Services;
  readonly storage: Storage;
  readonly mailbox: Mailbox | undefined;
  /** What it logged, as objects. */
  readonly logged: Readonly<Record<string, unknown>>[];
};

export type TestServerOptions = {
  /** In development mode unless it says otherwise: `production` gives what it takes to leave that. */
  readonly env?: Readonly<Record<string, string>>;
  /** Of a database that already has a log, to start on it once more. The keys must be the same. */
  readonly databaseUrl?: string;
  /** Replaces parts of the configuration. */
  readonly config?: Partial<Config>;
  /** Shorter times and smaller limits than a server has. */
  readonly bounds?: NonNullable<Parameters<typeof compose>[0]["bounds"]>;
  /** What it logs; warnings and worse when left out. */
  readonly logLevel?: "debug";
  /** Puts something else in the place of parts of the stores. */
  readonly replacing?: (storage: Storage) => Partial<Storage>;
};

/** A ring for `ENCRYPTION_KEYS`. */
export const encryptionKey = (): string => randomBytes(32).toString("base64");

export const ADMIN_KEY = "admin-key-of-the-tests-0123456789abcdef";

/** Leaves development mode; the database is given beside. */
export const production: Partial<Config> = { development: false, adminKey: ADMIN_KEY };

/** Tests that compare the log's ends are not disturbed by the recording of key uses. */
const KEY_USE_MS = 3_600_000;

/** Starts a server on a free loopback port. Dispose it in `afterAll`. */
export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  await using open = new AsyncDisposableStack();
  const databaseUrl = options.databaseUrl ?? open.use(await databaseWithTables()).url;
  const dataDir = join(tmpdir(), `chatapi-test-${randomBytes(8).toString("hex")}`);
  open.defer(() => rm(dataDir, { recursive: true, force: true }));
  const environment = { ENCRYPTION_KEYS: encryptionKey(), PORT: "0", DATA_DIR: dataDir, ...options.env };
  const config: Config = Object.freeze({ ...readConfig(environment), ...options.config });
  const logged: Record<string, unknown>[] = [];
  const logger = pino(
    { level: options.logLevel ?? "warn" },
    { write: (line: string) => void logged.push(JSON.parse(line)) },
  );
  const opened = open.use(await openStorage({ config, logger, databaseUrl }));
  const storage = { ...opened, ...options.replacing?.(opened) };
  const { server, services, mailbox } = open.use(
    await compose({ config, logger, storage, bounds: { recordKeyUseAfterMs: KEY_USE_MS, ...options.bounds } }),
  );
  if (services === undefined) throw new Error("the server has no role api");
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, config.host, resolve);
  });
  open.defer(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
  const { port } = server.address() as AddressInfo;
  const moved = open.move();
  return {
    url: `http://127.0.0.1:${port}`,
    config,
    services,
    storage,
    mailbox,
    logged,
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}
