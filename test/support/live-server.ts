// A node with everything live and nothing else: real log, keys, read models and gateway behind a real HTTP server.
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { pino } from "pino";
import { TIMINGS, type Timings } from "../../src/api/realtime/connection.ts";
import { Gateway } from "../../src/api/realtime/gateway.ts";
import { KeyUse } from "../../src/app/client-directory.ts";
import { keyData, makeApiKey, TokenSecrets, Tokens } from "../../src/app/credentials.ts";
import { GrowthFeed } from "../../src/app/growth-feed.ts";
import { MAIL_LINKS_SECRET, mailLinks } from "../../src/app/mail-links.ts";
import { Positions } from "../../src/app/positions.ts";
import { Presence } from "../../src/app/presence.ts";
import { createLimits, type Limits } from "../../src/app/rate-limit.ts";
import type { Services } from "../../src/app/services.ts";
import { createEmailChannel } from "../../src/channels/email/channel.ts";
import { createAddressGuard } from "../../src/channels/guard.ts";
import { readConfig } from "../../src/config.ts";
import { ALL_SCOPES, type Scope } from "../../src/contract/fields.ts";
import type { ClientId, KeyId, Subject } from "../../src/contract/ids.ts";
import { clientDecider, clientStream } from "../../src/domain/client.ts";
import { userDecider, userStream } from "../../src/domain/user.ts";
import { deriveTail } from "../../src/event-store/derived-ids.ts";
import { OneTimeSecrets } from "../../src/platform/one-time-secrets.ts";
import { EndpointCursors } from "../../src/projections/endpoint-cursors.ts";
import { createGrowingTexts, GrowingTexts } from "../../src/projections/growing-texts.ts";
import { openLive, openStorage } from "../../src/storage.ts";
import { databaseWithTables } from "./database-with-tables.ts";
import { contextOf } from "./live.ts";

export type LiveServer = AsyncDisposable & {
  readonly services: Services;
  readonly gateway: Gateway;
  /** `ws://127.0.0.1:<port>`. */
  readonly url: string;
  readonly port: number;
};

export type LiveServerOptions = {
  readonly timings?: Partial<Timings>;
  readonly environment?: Readonly<Record<string, string>>;
  readonly limits?: Limits;
};

/** Starts one on a database of its own. */
export async function startLiveServer(options: LiveServerOptions = {}): Promise<LiveServer> {
  await using open = new AsyncDisposableStack();
  const database = open.use(await databaseWithTables());
  const encryption = { ENCRYPTION_KEYS: randomBytes(32).toString("base64") };
  const config = readConfig({ ...encryption, ...options.environment });
  const logger = pino({ level: process.env.TEST_LOG ?? "silent" });
  const storage = open.use(await openStorage({ config, logger, databaseUrl: database.url }));
  await storage.readSide.start();
  const { feed, directory, people } = open.use(await openLive(storage, logger));
  const { store, keyring, commands, readSide } = storage;
  const guard = createAddressGuard({ allow: [], allowLoopback: true });
  const email = open.use(createEmailChannel({ guard }));
  const tokens = new Tokens({ secrets: new TokenSecrets(keyring), keyring });
  const links = mailLinks(await keyring.serverSecret(MAIL_LINKS_SECRET), () => null);
  const fetchAmazon = () => Promise.reject(new Error("nothing is fetched"));
  const positions = new Positions({ secret: await keyring.serverSecret("positions"), store });
  const clock = () => performance.now();
  const presence = open.use(new Presence({ node: "here", bus: storage.bus, now: Date.now, clock }));
  await createGrowingTexts(storage.pool);
  const keyUse = open.use(new KeyUse({ commands, logger, now: Date.now }));
  const limits = options.limits ?? createLimits({ rateLimits: {} });
  const services: Services = {
    ...{ config, logger, now: Date.now, newId: () => randomUUID(), randomBytes },
    ...{
      store,
      keyring,
      commands,
      readSide,
      directory,
      tokens,
      keyUse,
      limits,
      people,
      positions,
      presence,
      links,
      fetchAmazon,
      guard,
      email,
    },
    cursors: new EndpointCursors(storage.pool),
    oneTimeSecrets: new OneTimeSecrets(storage.pool, randomBytes),
    growing: new GrowingTexts({ pool: storage.pool, keyring, now: Date.now }),
    growth: open.use(new GrowthFeed(storage.bus)),
  };
  const { gateway, port } = open.use(await serve({ services, feed, timings: { ...TIMINGS, ...options.timings } }));
  feed.start();
  if (!(await feed.caughtUp(60_000))) throw new Error("the feed does not run");
  const moved = open.move();
  const close = () => moved.disposeAsync();
  return { services, gateway, url: `ws://127.0.0.1:${port}`, port, [Symbol.asyncDispose]: close };
}

/** Opens a gateway behind an HTTP server of its own, which answers nothing else. */
export async function serve(options: ConstructorParameters<typeof Gateway>[0]) {
  const gateway = new Gateway(options);
  const server = createServer((_request, response) => response.writeHead(404).end());
  server.on("upgrade", (request, socket, head) => gateway.handleUpgrade(request, socket, head));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    gateway,
    port,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      server.closeAllConnections();
      server.close();
    },
  };
}

export type TestClient = { readonly id: ClientId; readonly key: string; readonly keyId: KeyId };
let made = 0;

/** Registers a client; gives its key. */
export async function newClient({ services }: Pick<LiveServer, "services">): Promise<TestClient> {
  made += 1;
  const id: ClientId = `cli_${deriveTail("client", made)}`;
  const key = makeApiKey(randomBytes(32));
  const data = keyData(`key_${deriveTail("key", made)}`, "first", key);
  const command = { type: "Register", at: Date.now(), client: id, name: "Acme", description: null, key: data } as const;
  const secret = { webhookSecret: "whsec_test" };
  await services.commands.execute(clientDecider, clientStream(id), { ...command, ...secret }, contextOf(id));
  return { id, key, keyId: data.id };
}

/** Issues a user's token. `ttlSeconds` may be short, to see it expire. */
export async function issueToken(
  { services }: Pick<LiveServer, "services">,
  client: ClientId,
  user: string,
  options: { ttlSeconds?: number; revokePrevious?: boolean; scopes?: ReadonlySet<Scope> } = {},
): Promise<{ readonly token: string; readonly subject: Subject }> {
  const { ttlSeconds = 3_600, revokePrevious = false, scopes = ALL_SCOPES } = options;
  const subject = await services.keyring.subjectOfUser(client, user);
  const now = Date.now();
  const jti = randomUUID();
  const about = { at: now, subject, user, jti, expiresAt: now + ttlSeconds * 1_000, revokePrevious };
  const command = { type: "IssueToken", ...about } as const;
  const { state } = await services.commands.execute(userDecider, userStream(subject), command, contextOf(client));
  const { generation } = state;
  const { token } = await services.tokens.mint({ client, userId: user, generation, scopes, ttlSeconds, now, jti });
  return { token, subject };
}
