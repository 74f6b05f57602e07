// The server: reads the environment, starts the parts, says where they are, and stops them in reverse order.
import { randomUUID } from "node:crypto";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import { createWaitingServer } from "./api/http/app.ts";
import { compose } from "./compose.ts";
import { type Config, ConfigError, type Role, readConfig } from "./config.ts";
import { ownEncryptionKeys } from "./embedded/data-folder.ts";
import { createLogger } from "./platform/logger.ts";
import { forkProcesses, joinProcesses, type Peers } from "./platform/processes.ts";
import { openEmbedded, openStorage } from "./storage.ts";

/** How long stopping may take before the process ends without having finished. */
const STOP_TIMEOUT_MS = 9_500;
/** The same of a forked process: PostgreSQL stops after it. */
const FORKED_STOP_TIMEOUT_MS = 8_500;

/**
 * Runs the server until SIGTERM or SIGINT; gives the exit code. Throws ConfigError and DataFolderInUse. Where the stores are
 * on servers of their own, it listens before it waits for them: `/livez` answers, all else is 503.
 */
export async function serve(environment: Readonly<Record<string, string | undefined>>): Promise<number> {
  const config = readConfig(environment);
  using peers = await joinProcesses();
  if (peers === undefined) return config.processes === 1 ? serveRoles(config) : serveProcesses(config);
  const { number, databaseUrl } = peers.task;
  return await serveRoles({ ...config, databaseUrl, roles: rolesOf(config, number) }, { peers, node: config });
}

/** What a process of several does: the first keeps the read models and delivers, where the others can serve callers. */
function rolesOf({ roles }: Config, number: number): ReadonlySet<Role> {
  const others = new Set([...roles].filter((role) => role !== "api"));
  if (!roles.has("api") || others.size === 0) return roles;
  return number === 1 ? others : new Set(["api"]);
}

/** The first of several processes: it has the embedded PostgreSQL, and serves nobody itself. */
async function serveProcesses(config: Config): Promise<number> {
  const logger = createLogger(config.logLevel);
  const stopped = stopSignal(logger);
  await using open = new AsyncDisposableStack();
  const embedded =
    config.databaseUrl === undefined ? open.use(await openEmbedded(config, logger, stopped.fail)) : undefined;
  const databaseUrl = config.databaseUrl ?? embedded?.url ?? "";
  // Made by one process, before several read it.
  if (config.encryptionKeys === undefined) await ownEncryptionKeys(config.dataDir);
  const { processes: count } = config;
  const forked = open.use(forkProcesses({ count, databaseUrl, logger, stopMs: FORKED_STOP_TIMEOUT_MS + 500 }));
  void forked.serving.then((announcement) => process.stdout.write(announcement));
  const ended = await Promise.race([stopped.promise, forked.failed]);
  return stop(open, logger, ended);
}

/** One process with its roles. `forked`: of several, of the node that is configured so. */
async function serveRoles(config: Config, forked?: { readonly peers: Peers; readonly node: Config }): Promise<number> {
  const peers = forked?.peers;
  const logger = createLogger(config.logLevel);
  const stopped = stopSignal(logger);
  await using open = new AsyncDisposableStack();
  const { signal } = stopped;
  const waiting = createWaitingServer({ config, logger, newId: () => randomUUID() });
  let closed: Promise<void> | undefined;
  const close = () => {
    waiting.shut();
    closed ??= closeServer(waiting.server);
    return closed;
  };
  open.defer(async () => {
    const ended = close();
    waiting.server.closeAllConnections();
    await ended;
  });
  // Of several processes those listen that serve callers; one that is started again does so when it is ready.
  const listens = config.roles.has("api") || forked?.node.roles.has("api") !== true;
  const listensEarly = (forked?.node ?? config).databaseUrl !== undefined && peers?.task.first !== false;
  if (listens && listensEarly) await listen(waiting.server, config);
  const composed = await (async () => {
    const storage = open.use(await openStorage({ config, logger, signal, onExit: (error) => stopped.fail(error) }));
    return open.use(await compose({ config, logger, storage, waiting, signal, peers }));
  })().catch((error: unknown) => {
    if (!signal.aborted) throw error;
    return undefined; // stopped before it was ready
  });
  if (composed === undefined) return 0;
  if (listens && !waiting.server.listening) await listen(waiting.server, config);
  const announcement = listens ? announcementOf(composed.server, config, composed.mailbox !== undefined) : null;
  if (peers === undefined) process.stdout.write(announcement ?? "");
  else peers.serving(announcement);
  const error = await stopped.promise;
  void close(); // nothing new comes while the parts end
  return stop(open, logger, error, peers === undefined ? STOP_TIMEOUT_MS : FORKED_STOP_TIMEOUT_MS);
}

/** Ends the parts within the time; gives the exit code. `reason`: an error, or the exit code of another process. */
async function stop(
  open: AsyncDisposableStack,
  logger: Logger,
  reason: Error | number | undefined,
  timeoutMs = STOP_TIMEOUT_MS,
): Promise<number> {
  const deadline = setTimeout(() => {
    logger.error("server did not stop in time; ending the process");
    process.exit(1);
  }, timeoutMs);
  await open.disposeAsync();
  clearTimeout(deadline);
  if (typeof reason === "number") return reason;
  if (reason !== undefined) logger.fatal({ err: reason }, "server ends after an error");
  return reason === undefined ? 0 : 1;
}

type StopSignal = {
  readonly promise: Promise<Error | undefined>;
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  readonly fail: (error: Error) => void;
};

/** Resolves at the first signal; npm and a terminal may send two, and the second changes nothing. */
function stopSignal(logger: Logger): StopSignal {
  const { promise, resolve } = Promise.withResolvers<Error | undefined>();
  const stopping = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      logger.info({ signal }, "stopping");
      resolve(undefined);
      stopping.abort();
    });
  }
  return { promise, signal: stopping.signal, fail: resolve };
}

/** Variables that are wrong when a server cannot listen, by the system's code. */
const UNABLE_TO_LISTEN: Readonly<Record<string, "HOST" | "PORT">> = {
  EADDRINUSE: "PORT",
  EACCES: "PORT",
  EADDRNOTAVAIL: "HOST",
  ENOTFOUND: "HOST",
  EAI_AGAIN: "HOST",
};

function listen(server: Server, { host, port }: Config): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const variable = UNABLE_TO_LISTEN[error.code ?? ""];
      const isWrong = variable !== undefined;
      reject(isWrong ? new ConfigError(`${variable}: cannot listen on ${host}:${port} (${error.code})`) : error);
    });
    server.listen(port, host, () => resolve());
  });
}

/** Ends listening at once; keep-alive connections that are idle go too. */
function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}

function announcementOf(server: Server, config: Config, mailbox: boolean): string {
  const { address, family, port } = server.address() as AddressInfo;
  const url = `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  if (!config.roles.has("api")) {
    return `ChatAPI (${[...config.roles].join(", ")}) is ready: ${url}/readyz\n`;
  }
  const lines = [
    "",
    `  ChatAPI is ready       ${url}/api/v1`,
    `  Reference              ${url}/docs`,
    ...(mailbox ? [`  Development mailbox    ${url}/dev/mailbox`] : []),
    "",
    "  Start with:",
    `  curl -s ${url}/api/v1/clients -H 'Content-Type: application/json'${config.development ? "" : ' -H "Authorization: Bearer $ADMIN_KEY"'} -d '{"name": "My App"}'`,
    "",
  ];
  return `${lines.join("\n")}\n`;
}
