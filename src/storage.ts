// Where everything is kept: PostgreSQL, the log there or in EventStoreDB, the keys, the commands on them, and the bus between nodes.

import type pg from "pg";
import type { Logger } from "pino";
import { ClientDirectory } from "./app/client-directory.ts";
import { People } from "./app/people.ts";
import { type Config, ConfigError } from "./config.ts";
import { scopesOf } from "./domain/client-keys.ts";
import { ownEncryptionKeys } from "./embedded/data-folder.ts";
import { startEmbeddedPostgres } from "./embedded/postgres.ts";
import { type EventStore, OutcomeUnknown, StoreUnavailable } from "./event-store/event-store.ts";
import { Commands } from "./event-store/handle-command.ts";
import { openKeyring, type PostgresKeyring } from "./event-store/keyring.ts";
import { LogGuard } from "./event-store/log-guard.ts";
import { openPostgresLog } from "./event-store/postgres/log.ts";
import { postgresSnapshots } from "./event-store/stream-state.ts";
import { InvalidEncryptionKeys, WrongEncryptionKeys } from "./event-store/wrapped-keys.ts";
import { NodeMetrics, providerTypeOf } from "./metrics.ts";
import { type Bus, postgresBus, processBus } from "./platform/bus.ts";
import { failpoint } from "./platform/failpoint.ts";
import { omitUndefined } from "./platform/omit-undefined.ts";
import { createPool, isDatabaseAway } from "./platform/postgres.ts";
import { backoffMs, messageOf, pause } from "./platform/supervise.ts";
import { LiveFeed } from "./projections/feed.ts";
import { checkFence } from "./projections/fence.ts";
import { storedProjections } from "./projections/models/all.ts";
import { allKeys } from "./projections/models/api-keys.ts";
import { olderCommandsOf } from "./projections/models/audit.ts";
import { revokedGenerations } from "./projections/models/users.ts";
import { openReadSide, type ReadSide } from "./projections/read-side.ts";

const POOL_CONNECTIONS = 20;
/** The longest pause between two attempts to reach a store that is away. */
const MAX_WAIT_MS = 2_000;
/** A longer wait for a connection fails as a database that is away. */
const CONNECTION_WAIT_MS = 15_000;

/** The stores that every role and operator command needs. Disposing closes them in reverse order. */
export type Storage = AsyncDisposable & {
  readonly databaseUrl: string;
  readonly pool: pg.Pool;
  readonly store: EventStore;
  /** Whether the stores are still the ones that were opened. */
  readonly guard: Pick<LogGuard, "status">;
  readonly keyring: PostgresKeyring;
  readonly readSide: ReadSide;
  readonly commands: Commands;
  readonly bus: Bus;
  /** Our own PostgreSQL: no other process works on it. */
  readonly alone: boolean;
  /** Where every part of the process counts. */
  readonly metrics: NodeMetrics;
};

type StorageOptions = {
  readonly config: Config;
  readonly logger: Logger;
  /** The database to use instead of what the configuration says: one that already runs. */
  readonly databaseUrl?: string;
  /** The log is about to be filled by an import, so it may be empty although the database has keys. Default false. */
  readonly importing?: boolean;
  /** With it a store that is away is waited for, until it aborts; without it that is an error. */
  readonly signal?: AbortSignal;
  /** Called when the embedded PostgreSQL ends by itself. */
  readonly onExit?: (error: Error) => void;
};

/** Opens the stores. Throws ConfigError, DataFolderInUse, NoFence, or an Error whose message is one clear line. */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const { config, logger, databaseUrl, importing = false, onExit } = options;
  const metrics = new NodeMetrics();
  await using open = new AsyncDisposableStack();
  const url = databaseUrl ?? config.databaseUrl ?? open.use(await openEmbedded(config, logger, onExit)).url;
  const pool = createPool({
    connectionString: url,
    max: POOL_CONNECTIONS,
    connectionTimeoutMillis: CONNECTION_WAIT_MS,
    logger,
  });
  open.defer(() => pool.end());
  await whenReachable("DATABASE_URL", () => checkFence(pool), options); // before anything is made
  const warn = (error: unknown, message: string) => logger.warn({ err: error }, message);
  const keyring = await openKeys(config, pool);
  failpoint("keys-opened/log-opened");
  const { store: log, bus } = await openLog(options, url, open);
  const trusted = await keyring.trust(log, {
    importing,
    onForged: ({ id, type, stream, revision, position }) => {
      metrics.forgedFound();
      logger.error(
        { id, type, stream, revision, position },
        "forged event found in the log; it is shown as forged and changes nothing",
      );
    },
    warn: (message) => logger.warn(message),
  });
  const guard = open.use(new LogGuard({ log, hasKeys: () => keyring.hasMacKey(), logger }));
  const store = metrics.measured(guard.guarded(trusted));
  failpoint("log-opened/read-models-opened");
  const alone = config.databaseUrl === undefined;
  const readSideOptions = { projector: config.roles.has("projector"), alone, wakeUps: bus };
  const readSide = open.use(
    await openReadSide({ pool, store, keyring, logger, projections: storedProjections }, readSideOptions),
  );
  const snapshots = postgresSnapshots(pool, store.logId);
  const olderCommands = olderCommandsOf(readSide);
  const commands = new Commands({
    ...{ store, keyring, snapshots, olderCommands, warn },
    isLogAway: () => guard.isAway(),
    onWritten: (state, events, client) =>
      metrics.written(state, events, (name) => providerTypeOf(commands, client ?? null, name)),
  });
  const moved = open.move();
  const close = () => moved.disposeAsync();
  return {
    databaseUrl: url,
    pool,
    store,
    guard,
    keyring,
    readSide,
    commands,
    bus,
    alone,
    metrics,
    [Symbol.asyncDispose]: close,
  };
}

/** The clients of EventStoreDB and Redis are loaded only where they are configured: they take half of a start's loading. */
async function openLog(
  options: StorageOptions,
  databaseUrl: string,
  open: AsyncDisposableStack,
): Promise<Pick<Storage, "store" | "bus">> {
  const { config, logger } = options;
  const busOf = async ({ logId }: EventStore) => open.use(await openBus(config, databaseUrl, { logId, logger }));
  if (config.eventStore !== undefined) {
    const { openEventStoreDb } = await import("./event-store/eventstoredb/log.ts");
    const { url, prefix } = config.eventStore;
    const log = () => openEventStoreDb({ url, prefix, logger });
    const hint = /[?&]tls=false/i.test(url) ? "" : "; a server without TLS needs ?tls=false at the end of the URL";
    const store = open.use(await whenReachable("EVENTSTORE_URL", log, options, hint));
    return { store, bus: await busOf(store) };
  }
  const store = open.use(await openPostgresLog({ url: databaseUrl, logger }));
  return { store, bus: await busOf(store) };
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "the connection was refused",
  ENOTFOUND: "the host name is unknown",
  EAI_AGAIN: "the host name could not be looked up",
  ETIMEDOUT: "it took too long",
};
const reasonOf = (error: unknown): string =>
  (error instanceof Error && "code" in error && REASONS[String(error.code)]) || messageOf(error);

/**
 * Opens a store, and waits for it while it is away. `variable` leads to it, `hint` says what else may be the reason. Throws
 * StoreUnavailable when it is away and nobody wants to wait, the signal's reason, and what `open` throws otherwise.
 */
async function whenReachable<T>(
  variable: string,
  open: () => Promise<T>,
  { logger, signal }: StorageOptions,
  hint = "",
): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await open();
    } catch (error) {
      const isAway = isDatabaseAway(error) || error instanceof StoreUnavailable || error instanceof OutcomeUnknown;
      if (!isAway) throw error;
      const why = `${variable}: the server cannot be reached (${reasonOf(error)})${hint}`;
      if (signal === undefined) throw new StoreUnavailable(why, { cause: error });
      if (failures === 1) logger.warn(`${why}; waiting for it`);
      await pause(backoffMs(failures, MAX_WAIT_MS), signal);
      signal.throwIfAborted();
    }
  }
}

/** Connections that each process of the node may have. */
const CONNECTIONS = 30;
/** Those of a node of one process, and of tools beside it. */
const LEAST_CONNECTIONS = 100;

/** Starts the embedded PostgreSQL for the processes of the node. Throws ConfigError, DataFolderInUse. */
export async function openEmbedded(config: Config, logger: Logger, onExit: StorageOptions["onExit"]) {
  const log = (line: string) => logger.info(line);
  const { dataDir, processes } = config;
  const settings = { max_connections: String(Math.max(LEAST_CONNECTIONS, processes * CONNECTIONS)) };
  return await startEmbeddedPostgres({ dataDir, log, settings, ...omitUndefined({ onExit }) }).catch(
    (error: unknown) => {
      const { syscall, code } = error as NodeJS.ErrnoException;
      throw syscall === "mkdir" ? new ConfigError(`DATA_DIR: ${dataDir} cannot be used as a folder (${code})`) : error;
    },
  );
}

async function openKeys(config: Config, pool: pg.Pool): Promise<PostgresKeyring> {
  try {
    return await openKeyring({
      pool,
      encryptionKeys: config.encryptionKeys ?? (await ownEncryptionKeys(config.dataDir)),
    });
  } catch (error) {
    const wrong = error instanceof InvalidEncryptionKeys || error instanceof WrongEncryptionKeys;
    throw wrong ? new ConfigError(error.message) : error;
  }
}

/** Redis where it is configured, the process alone where no other node can be, else PostgreSQL's NOTIFY. */
async function openBus(config: Config, databaseUrl: string, options: { logId: string; logger: Logger }): Promise<Bus> {
  if (config.redisUrl !== undefined) {
    const { redisBus } = await import("./platform/redis.ts");
    return redisBus({ url: config.redisUrl, ...options });
  }
  return config.databaseUrl === undefined ? processBus() : postgresBus({ url: databaseUrl, ...options });
}

// What a node folds for itself from the log: who may come in, who people are, which rooms are listened to.

export type Live = AsyncDisposable & {
  readonly feed: LiveFeed;
  readonly directory: ClientDirectory;
  readonly people: People;
};

/**
 * Opens what the node follows, from the read models' checkpoint on. The feed has not been started: whoever must see
 * every event listens to it first.
 */
export async function openLive({ store, keyring, commands, readSide }: Storage, logger: Logger): Promise<Live> {
  await using open = new AsyncDisposableStack();
  const feed = open.use(new LiveFeed({ clock: () => performance.now(), store, logger, after: readSide.checkpoint() }));
  const operator = readSide.operator();
  const seed = {
    keys: (await allKeys(operator)).map(({ id, hash, client, scopes, expires_at }) => ({
      ...{ hash, client, keyId: id },
      scopes: scopesOf({ scopes }),
      expiresAt: expires_at,
    })),
    revoked: await revokedGenerations(operator),
    at: Date.now(),
  };
  const directory = open.use(new ClientDirectory({ feed, keyring, seed }));
  const people = open.use(new People({ feed, commands }));
  const moved = open.move();
  return { feed, directory, people, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}
