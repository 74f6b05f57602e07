// The composition root's middle: every part of a server on its stores, opened in order and closed in reverse.
import { randomBytes, randomUUID } from "node:crypto";
import type { Server } from "node:http";
import type { Logger } from "pino";
import type { Probes } from "../api/http/probes.ts";
import { routes } from "../api/http/routes.ts";
import { createHttpServer } from "../api/http/server.ts";
import type { Services } from "../api/services.ts";
import { createTokens } from "../api/tokens.ts";
import { createGateway } from "../api/ws/gateway.ts";
import { createAddressGuard } from "../channels/address-guard.ts";
import { createSmtpChannel } from "../channels/email/smtp.ts";
import { createWebhookChannel } from "../channels/webhook.ts";
import type { Config } from "../config.ts";
import { type Mailbox, startMailbox } from "../embedded/mailbox.ts";
import { startWorkers, type Workers } from "../workers/workers.ts";
import { openLive } from "./live.ts";
import type { Storage } from "./storage.ts";

/** A composed server. It does not listen yet. Disposing closes sockets and workers, not the stores. */
type Composed = AsyncDisposable & {
  readonly server: Server;
  readonly services: Services;
  readonly mailbox: Mailbox | undefined;
};

type ComposeOptions = { readonly config: Config; readonly logger: Logger; readonly storage: Storage };

/** Puts a server together. Throws ForeignCheckpoint, and what the stores throw. */
export async function compose({ config, logger, storage }: ComposeOptions): Promise<Composed> {
  await using open = new AsyncDisposableStack();
  const { pool, store, keyring, readSide, commands } = storage;
  await readSide.start();
  const mailbox = config.development ? open.use(await startMailbox({ log: (line) => logger.debug(line) })) : undefined;
  const guard = createAddressGuard({ allow: config.outboundAllow, allowLoopback: config.development });
  const smtp = open.use(createSmtpChannel({ guard }));
  const webhook = open.use(createWebhookChannel({ guard }));
  const live = open.use(await openLive(storage, logger));
  const { feed, directory, memberNames } = live;
  const tokens = createTokens({ secret: await keyring.serverSecret("tokens"), keyring });
  const now = Date.now;
  const newId = () => randomUUID();
  const services: Services = {
    ...{ config, logger, now, newId, randomBytes },
    ...{ store, keyring, commands, readSide, directory, tokens, memberNames, guard, smtp },
  };
  const workers = open.use(
    await startWorkers({
      ...{ pool, store, keyring, commands, readSide, webhook, smtp, logger, now, newId },
      mailbox: mailbox === undefined ? null : { host: mailbox.host, port: mailbox.port },
      retryPolicy: config.retryPolicy,
      random: Math.random,
    }),
  );
  const probes: Probes = {
    ...workerProbes(workers),
    live: () => ({ ok: feed.status().state === "live", detail: { ...feed.status() } }),
  };
  const http = createHttpServer(services, routes, mailbox === undefined ? { probes } : { probes, mailbox });
  const gateway = open.use(createGateway({ services, feed, limits: http.limits }));
  http.server.on("upgrade", (request, socket, head) => gateway.handleUpgrade(request, socket, head));
  feed.start();
  await feed.caughtUp(READY_TIMEOUT_MS);
  await readSide.caughtUp();
  const moved = open.move();
  return { server: http.server, services, mailbox, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

const READY_TIMEOUT_MS = 60_000;

const workerProbes = (workers: Workers): Probes => ({
  workers: async () => {
    const status = await workers.status();
    return { ok: status.reactors.lastError === null, detail: { ...status } };
  },
});
