// The server: reads the environment, starts the parts, says where they are, and stops them in reverse order.
import { randomUUID } from "node:crypto";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import { createWaitingServer } from "./api/http/app.ts";
import { compose } from "./compose.ts";
import { type Config, ConfigError, readConfig } from "./config.ts";
import { createLogger } from "./platform/logger.ts";
import { openStorage } from "./storage.ts";

/** How long stopping may take before the process ends without having finished. */
const STOP_TIMEOUT_MS = 9_500;

/**
 * Runs the server until SIGTERM or SIGINT; gives the exit code. Throws ConfigError and DataFolderInUse. Where the stores are
 * on servers of their own, it listens before it waits for them: `/livez` answers, all else is 503.
 */
export async function serve(environment: Readonly<Record<string, string | undefined>>): Promise<number> {
  const config = readConfig(environment);
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
  if (config.databaseUrl !== undefined) await listen(waiting.server, config);
  const composed = await (async () => {
    const storage = open.use(await openStorage({ config, logger, signal, onExit: (error) => stopped.fail(error) }));
    return open.use(await compose({ config, logger, storage, waiting, signal }));
  })().catch((error: unknown) => {
    if (!signal.aborted) throw error;
    return undefined; // stopped before it was ready
  });
  if (composed === undefined) return 0;
  if (!waiting.server.listening) await listen(waiting.server, config);
  announce(composed.server, config, composed.mailbox !== undefined);
  const error = await stopped.promise;
  const deadline = setTimeout(() => {
    logger.error("server did not stop in time; ending the process");
    process.exit(1);
  }, STOP_TIMEOUT_MS);
  void close(); // nothing new comes while the parts end
  await open.disposeAsync();
  clearTimeout(deadline);
  if (error !== undefined) logger.fatal({ err: error }, "server ends after an error");
  return error === undefined ? 0 : 1;
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

function announce(server: Server, config: Config, mailbox: boolean): void {
  const { address, family, port } = server.address() as AddressInfo;
  const url = `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  if (!config.roles.has("api")) {
    process.stdout.write(`ChatAPI (${[...config.roles].join(", ")}) is ready: ${url}/readyz\n`);
    return;
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
  process.stdout.write(`${lines.join("\n")}\n`);
}
