// The composition root's middle: the parts that a node's roles ask for, on its stores, opened in order, closed in reverse.
import { randomBytes, randomUUID } from "node:crypto";
import type { Server } from "node:http";
import { join } from "node:path";
import type { Logger } from "pino";
import manifest from "../package.json" with { type: "json" };
import { sharedCommands } from "./api/http/api.ts";
import { createHttpServer, createProbeServer, type WaitingServer } from "./api/http/app.ts";
import type { HttpTimings } from "./api/http/hardening.ts";
import type { Probes } from "./api/http/probes.ts";
import { routes } from "./api/http/routes/routes.ts";
import { startInboundSmtp } from "./api/inbound-smtp.ts";
import type { Timings } from "./api/realtime/connection.ts";
import { Gateway } from "./api/realtime/gateway.ts";
import { KeyUse } from "./app/client-directory.ts";
import { TokenSecrets, Tokens } from "./app/credentials.ts";
import { GrowthFeed } from "./app/growth-feed.ts";
import { receiveBounce } from "./app/mail-hooks.ts";
import { MAIL_LINKS_SECRET, type MailLinks, mailLinks } from "./app/mail-links.ts";
import type { People } from "./app/people.ts";
import { Positions } from "./app/positions.ts";
import { Presence } from "./app/presence.ts";
import { createLimits, type Limits } from "./app/rate-limit.ts";
import type { Services } from "./app/services.ts";
import { createEmailChannel, type EmailChannel } from "./channels/email/channel.ts";
import { createAmazonClient } from "./channels/email/events/ses.ts";
import { type AddressGuard, createAddressGuard } from "./channels/guard.ts";
import { createWebhookChannel } from "./channels/webhook.ts";
import { type Config, ConfigError } from "./config.ts";
import { SECOND_MS } from "./contract/time.ts";
import { type Mailbox, startMailbox } from "./embedded/mailbox.ts";
import { addReadMetrics, type ReadMetric, shared } from "./platform/metrics.ts";
import { omitUndefined } from "./platform/omit-undefined.ts";
import { OneTimeSecrets } from "./platform/one-time-secrets.ts";
import type { Peers } from "./platform/processes.ts";
import type { SharedCounters } from "./platform/redis.ts";
import { type Checkpoint, lagMsOf } from "./projections/consumer.ts";
import { EndpointCursors } from "./projections/endpoint-cursors.ts";
import { createGrowingTexts, GrowingTexts } from "./projections/growing-texts.ts";
import { type Live, openLive, type Storage } from "./storage.ts";
import { startWorkers, type Workers } from "./workers/workers.ts";

/** A composed node. It does not listen yet. Disposing closes sockets and workers, not the stores. */
type Composed = AsyncDisposable & {
  readonly server: Server;
  /** Undefined without the role api. */
  readonly services: Services | undefined;
  readonly mailbox: Mailbox | undefined;
};

type ComposeOptions = {
  readonly config: Config;
  readonly logger: Logger;
  readonly storage: Storage;
  /** Ends a start that waits for another node. */
  readonly signal?: AbortSignal;
  /** The server that listens already. */
  readonly waiting?: WaitingServer;
  /** The other processes of the node; without them it has one. */
  readonly peers?: Peers | undefined;
  /** For tests, which cannot wait as long as servers do, nor be as many as it takes. */
  readonly bounds?: {
    readonly http?: HttpTimings;
    readonly sockets?: Timings;
    readonly limits?: Limits;
    readonly recordKeyUseAfterMs?: number;
  };
};

const now = Date.now;
const newId = () => randomUUID();
const READY_TIMEOUT_MS = 60_000;
/** How far the node may be behind the log and be ready: a busy moment is no outage. */
const READY_LAG_MS = 5_000;

/** Puts a node together as its roles say. Throws ForeignCheckpoint, what the stores throw, and the signal's reason. */
export async function compose({
  config,
  logger,
  storage,
  signal,
  waiting,
  peers,
  bounds,
}: ComposeOptions): Promise<Composed> {
  await using open = new AsyncDisposableStack();
  await storage.readSide.start(signal);
  const mailbox = config.development
    ? open.use(await startMailbox({ log: (line) => logger.debug(line), folder: join(config.dataDir, "mailbox") }))
    : undefined;
  const guard = createAddressGuard({ allow: config.outboundAllow, allowLoopback: config.development });
  // Known once it listens: a port may be given by the system.
  let listening: Server | undefined = waiting?.server;
  const secret = await storage.keyring.serverSecret(MAIL_LINKS_SECRET);
  const links = mailLinks(secret, () => config.publicUrl ?? (config.development ? originOf(listening) : null));
  const parts = {
    config,
    logger,
    storage,
    guard,
    links,
    mailbox,
    positions: new Positions({ secret: await storage.keyring.serverSecret("positions"), store: storage.store }),
    email: open.use(createEmailChannel({ guard, ehloName: config.smtpEhloName })),
  };
  const following = config.roles.has("api") ? open.use(await openLive(storage, logger)) : undefined;
  const workers = config.roles.has("worker") ? open.use(await openWorkers(parts)) : undefined;
  const probes: Probes = {
    ...(workers === undefined ? {} : workerProbes(workers)),
    store: () => storage.guard.status(),
    bus: () => {
      const status = storage.bus.status();
      // Without the bus the node polls instead, a little later each time.
      return { ok: true, detail: { ...status, degraded: !status.connected } };
    },
  };
  const { registry } = storage.metrics;
  addReadMetrics(registry, [...storageMetrics(storage, following?.people), ...workerMetrics(storage, workers)]);
  if (following === undefined) {
    await storage.readSide.caughtUp(signal);
    const { store, readSide } = storage;
    const { server, open: serve } = createProbeServer(
      { config, logger, newId, store, readSide },
      { probes, registry, ...omitUndefined({ waiting, peers }) },
    );
    serve();
    const moved = open.move();
    return { server, services: undefined, mailbox, [Symbol.asyncDispose]: () => moved.disposeAsync() };
  }
  const { feed } = following;
  const recordAfterMs = bounds?.recordKeyUseAfterMs;
  const keyUse = open.use(new KeyUse({ commands: storage.commands, logger, now, ...omitUndefined({ recordAfterMs }) }));
  const counters = open.use(await openCounters(parts));
  const limits = bounds?.limits ?? createLimits(config, counters);
  const { fetch: fetchAmazon } = open.use(createAmazonClient(guard));
  const presence = open.use(new Presence({ node: newId(), bus: storage.bus, now, clock: () => performance.now() }));
  const growth = open.use(new GrowthFeed(storage.bus));
  const services = await apiServices(parts, following, { keyUse, limits, fetchAmazon, presence, growth });
  const rates = counters === undefined ? {} : { rate_limits: () => ({ ok: true, detail: { ...counters.status() } }) };
  const all = { ...probes, ...rates, live: () => ({ ok: feed.lagMs() <= READY_LAG_MS, detail: { ...feed.status() } }) };
  const commands = sharedCommands(services);
  const gateway = open.use(
    new Gateway({ services, feed, commands, bus: storage.bus, ...omitUndefined({ timings: bounds?.sockets }) }),
  );
  const http = createHttpServer(services, routes, {
    probes: all,
    registry,
    commands,
    streams: gateway.streams,
    ...omitUndefined({ mailbox, waiting, peers, timings: bounds?.http }),
  });
  listening = http.server;
  addReadMetrics(registry, gateway.metrics());
  feed.start();
  await feed.caughtUp(READY_TIMEOUT_MS);
  await storage.readSide.caughtUp(signal);
  http.server.on("upgrade", (request, socket, head) => gateway.handleUpgrade(request, socket, head));
  http.open();
  if (config.inboundSmtp !== undefined) open.use(await openInbound(services, config.inboundSmtp));
  const moved = open.move();
  return { server: http.server, services, mailbox, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

/** Throws ConfigError when it cannot listen there. */
async function openInbound(services: Services, { host, port }: NonNullable<Config["inboundSmtp"]>) {
  const { config, logger, links } = services;
  try {
    return await startInboundSmtp({
      ...{ host, port, logger, name: config.smtpEhloName },
      returned: (address) => links.returned(address),
      receive: (delivery, raw) => receiveBounce(services, delivery, raw),
    });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "no reason given";
    throw new ConfigError(`INBOUND_SMTP: cannot listen on ${host}:${port} (${code})`);
  }
}

/** Where a server of development mode is reached; null while it does not listen. */
function originOf(server: Server | undefined): string | null {
  const address = server?.address() ?? null;
  return typeof address === "object" && address !== null ? `http://localhost:${address.port}` : null;
}

/** What every role measures of its stores. */
const storageMetrics = (
  { store, readSide, pool, commands, keyring }: Storage,
  people: People | undefined,
): readonly ReadMetric[] => {
  const status = shared(() => readSide.status());
  return [
    {
      name: "chatapi_build_info",
      help: "Always 1; the label says which version runs.",
      label: "version",
      read: () => ({ [manifest.version]: 1 }),
    },
    {
      name: "chatapi_command_queues",
      help: "Streams whose commands are being carried out.",
      read: () => commands.counts().queues,
    },
    {
      name: "chatapi_commands_waiting",
      help: "Commands that wait for the append before them.",
      read: () => commands.counts().waiting,
    },
    {
      name: "chatapi_cache_entries",
      help: "Entries of the caches in memory.",
      label: "cache",
      read: () => ({
        ...{ stream_states: commands.counts().states, data_keys: keyring.cachedKeys },
        ...(people === undefined ? {} : { people: people.size }),
      }),
    },
    {
      name: "chatapi_projection_lag_events",
      help: "Positions between the read models' checkpoint and the log's end.",
      read: async () => (await status()).lag,
    },
    {
      name: "chatapi_projection_lag_seconds",
      help: "For how long the oldest event that the read models lack is in the log.",
      read: async () => inSeconds(await lagMsOf(store, (await status()).checkpoint, now())),
    },
    {
      name: "chatapi_database_connections",
      help: "Connections of the pool to PostgreSQL, and requests that wait for one.",
      label: "state",
      read: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    },
  ];
};

/** What the role worker measures; without it they have no value. */
const workerMetrics = ({ store }: Storage, workers: Workers | undefined): readonly ReadMetric[] => {
  const status = shared(async () => (workers === undefined ? null : await workers.status()));
  const waiting = shared(async (): ReturnType<Workers["waiting"]> => workers?.waiting() ?? {});
  const lagSecondsOf = async (following: { readonly handled: Checkpoint } | undefined) =>
    following === undefined ? null : inSeconds(await lagMsOf(store, following.handled, now()));
  return [
    {
      name: "chatapi_reactor_lag_events",
      help: "Positions between the reactors' checkpoint and the log's end; without the role worker no value.",
      read: async () => (await status())?.reactors.lag ?? null,
    },
    {
      name: "chatapi_reactor_lag_seconds",
      help: "For how long the oldest event without its jobs is in the log; without the role worker no value.",
      read: async () => lagSecondsOf((await status())?.reactors),
    },
    {
      name: "chatapi_endpoint_lag_events",
      help: "Positions between the checkpoint of the fan-out to webhook endpoints and the log's end; role worker.",
      read: async () => (await status())?.endpoints.lag ?? null,
    },
    {
      name: "chatapi_endpoint_lag_seconds",
      help: "For how long the oldest event that was not handed to webhook endpoints is in the log; role worker.",
      read: async () => lagSecondsOf((await status())?.endpoints),
    },
    {
      name: "chatapi_endpoints_behind",
      help: "Active webhook endpoints of which events wait in the log; 0 but in the process that leads.",
      read: async () => (await status())?.endpoints.behind ?? null,
    },
    {
      name: "chatapi_jobs_waiting",
      help: "Jobs of all nodes that wait; without the role worker no value.",
      label: "queue",
      read: async () => mapValues(await waiting(), ({ jobs }) => jobs),
    },
    {
      name: "chatapi_jobs_oldest_seconds",
      help: "For how long the oldest job that waits has been due; without the role worker no value.",
      label: "queue",
      read: async () => mapValues(await waiting(), ({ oldestSeconds }) => oldestSeconds),
    },
  ];
};

const inSeconds = (ms: number | null): number | null => (ms === null ? null : ms / SECOND_MS);

const mapValues = <V>(
  values: Readonly<Record<string, V>>,
  map: (value: V) => number,
): Readonly<Record<string, number>> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, map(value)]));

type Parts = Pick<ComposeOptions, "config" | "logger" | "storage"> & {
  readonly positions: Positions;
  readonly guard: AddressGuard;
  readonly links: MailLinks;
  readonly email: EmailChannel;
  readonly mailbox: Mailbox | undefined;
};

/** What counts rate limits for all nodes; undefined without Redis. Its client is loaded only where it is configured. */
async function openCounters({ config, logger, storage }: Parts): Promise<SharedCounters | undefined> {
  if (config.redisUrl === undefined) return undefined;
  const { redisCounters } = await import("./platform/redis.ts");
  return redisCounters({ url: config.redisUrl, logId: storage.store.logId, logger });
}

async function apiServices(
  { config, logger, storage, guard, links, email, positions }: Parts,
  following: Live,
  made: Pick<Services, "keyUse" | "limits" | "fetchAmazon" | "presence" | "growth">,
): Promise<Services> {
  const { store, keyring, commands, readSide } = storage;
  const { directory, people } = following;
  const onReports: NonNullable<Services["onReports"]> = (type, outcome) => storage.metrics.reported(type, outcome);
  const secrets = new TokenSecrets(keyring);
  // Read, and the first one made, before a request needs it.
  await secrets.newest();
  const tokens = new Tokens({ secrets, keyring });
  const cursors = new EndpointCursors(storage.pool);
  const oneTimeSecrets = new OneTimeSecrets(storage.pool, randomBytes);
  await createGrowingTexts(storage.pool);
  const growing = new GrowingTexts({ pool: storage.pool, keyring, now });
  const parts = {
    store,
    keyring,
    commands,
    readSide,
    directory,
    tokens,
    oneTimeSecrets,
    ...made,
    people,
    positions,
    growing,
    links,
    onReports,
    onStage: storage.metrics.stagePassed,
    cursors,
    guard,
    email,
  };
  return { config, logger, now, newId, randomBytes, ...parts };
}

async function openWorkers({
  config,
  logger,
  storage,
  guard,
  links,
  email,
  mailbox,
  positions,
}: Parts): Promise<Workers> {
  await using open = new AsyncDisposableStack();
  const { pool, store, keyring, commands, readSide, alone, metrics } = storage;
  const webhook = open.use(createWebhookChannel({ guard }));
  const workers = open.use(
    await startWorkers({
      ...{ pool, store, keyring, commands, readSide, positions, webhook, email, links, logger, now, newId, alone },
      mailbox: mailbox === undefined ? null : { host: mailbox.host, port: mailbox.port },
      retryPolicy: config.retryPolicy,
      random: Math.random,
      onAttempt: (attempted) => metrics.attempted(attempted),
    }),
  );
  const moved = open.move();
  return {
    status: () => workers.status(),
    waiting: () => workers.waiting(),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

const workerProbes = (workers: Workers): Probes => ({
  workers: async () => {
    const status = await workers.status();
    return { ok: status.reactors.lastError === null, detail: { ...status } };
  },
});
