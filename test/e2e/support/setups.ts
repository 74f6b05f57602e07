// The set-ups that the product runs in, to try the same things in each: embedded, on servers, and on several nodes.
import { randomBytes } from "node:crypto";
import { type Mailbox, startMailbox } from "../../../src/embedded/mailbox.ts";
import { databaseWithTables } from "../../support/database-with-tables.ts";
import {
  missingEventStore,
  type OwnEventStore,
  ownEventStore,
  type TestEventStore,
  testEventStore,
} from "../../support/eventstored.ts";

import { missingRedis, type TestRedis, testRedis } from "../../support/redis.ts";
import { isLong } from "../../support/size.ts";
import { type Api, apiOf, type Body, mails, newClient } from "./api.ts";
import { dataFolder, folderWithCluster, type Running, startServer } from "./server.ts";

/** How long a set-up may take to start. */
export const START_TIMEOUT_MS = 180_000;

export const ADMIN_KEY = "admin-key-of-the-tests-0123456789abcdef";

export type SetupName = "embedded" | "servers" | "nodes";
/** `nodes` has all that `servers` has and more, which runs in the long form alone. */
export const SETUPS: readonly SetupName[] = isLong ? ["embedded", "servers", "nodes"] : ["embedded", "nodes"];

/** Why a set-up cannot be had here, in one line; undefined when it can. */
export const missing = (name: SetupName): string | undefined =>
  name === "embedded" ? undefined : (missingEventStore ?? missingRedis);

/** Those that can be had here; says which cannot, and why. */
export function available(names: readonly SetupName[] = SETUPS): readonly SetupName[] {
  return names.filter((name) => {
    const reason = missing(name);
    if (reason !== undefined) console.log(`${name}: ${reason}`);
    return reason === undefined;
  });
}

export type TestClient = Api & { readonly id: string; readonly secret: string };

/** A running set-up. Disposing stops what it started, in reverse order. */
export type Setup = AsyncDisposable & {
  readonly name: SetupName;
  /** Of an API node; `other` is another one where there are two. */
  readonly url: string;
  readonly other: string;
  /** A client whose mails go to `mails`. */
  newClient(name?: string): Promise<TestClient>;
  /** The mails that were sent, newest first. */
  mails(to?: string): Promise<readonly Body[]>;
};

/** A set-up that tests share, and a client of it; both are there once it has started. */
export type Opened = { readonly name: SetupName; setup: Setup; api: TestClient };

type Env = Readonly<Record<string, string>>;

export async function openSetup(name: SetupName, env: Env = {}): Promise<Setup> {
  return name === "embedded" ? openEmbedded(env) : openServers(name, env);
}

async function openEmbedded(env: Env): Promise<Setup> {
  await using open = new AsyncDisposableStack();
  const folder = open.use(await folderWithCluster());
  const { url } = open.use(await startServer({ dataDir: folder.path, env }));
  const moved = open.move();
  return {
    ...{ name: "embedded", url, other: url },
    newClient: (client) => newClient(url, client),
    mails: (to) => mails(url, to),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

async function openServers(name: "servers" | "nodes", env: Env): Promise<Setup> {
  await using open = new AsyncDisposableStack();
  const servers = open.use(await openTestServers(env));
  const roles = name === "servers" ? [ALL_ROLES] : ["api", "api", "projector", "worker", "worker"];
  const nodes = await Promise.all(roles.map(async (role) => open.use(await servers.start(role))));
  const apis = nodes.filter((_, index) => roles[index]?.includes("api")).map((node) => node.url);
  const [url = "", other = url] = apis;
  const { mailbox } = servers;
  const moved = open.move();
  return {
    ...{ name, url, other },
    newClient: (client) => registeredClient(url, mailbox, client),
    mails: async (to) => mailbox.list({ to }),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

export const ALL_ROLES = "api,projector,worker";

/** EventStoreDB, PostgreSQL, Redis and a mail server, and nodes on them. */
export type TestServers = AsyncDisposable & {
  readonly databaseUrl: string;
  /** One of our own can be killed and started again. */
  readonly eventStore: TestEventStore | OwnEventStore;
  readonly redis: TestRedis;
  readonly mailbox: Mailbox;
  /** Starts a node with these roles and waits until it is ready. The caller disposes it. */
  start(roles: string, env?: Env): Promise<Running>;
};

/** Starts the servers; `databaseUrl` in place of a database of the run's PostgreSQL. */
export async function openTestServers(env: Env = {}, databaseUrl?: string): Promise<TestServers> {
  await using open = new AsyncDisposableStack();
  const [database, eventStore, redis, mailbox] = await Promise.all([
    databaseUrl === undefined ? databaseWithTables().then((one) => open.use(one)) : { url: databaseUrl },
    (process.env.EVENTSTORE_URL === undefined ? ownEventStore() : testEventStore()).then((one) => open.use(one)),
    testRedis().then((one) => open.use(one)),
    startMailbox({ log: () => {} }).then((one) => open.use(one)),
  ]);
  const folder = open.use(await dataFolder());
  const common = {
    DATABASE_URL: database.url,
    EVENTSTORE_URL: eventStore.url,
    EVENTSTORE_STREAM_PREFIX: `test${randomBytes(6).toString("hex")}-`,
    REDIS_URL: redis.url,
    ADMIN_KEY,
    ENCRYPTION_KEYS: randomBytes(32).toString("base64"),
    OUTBOUND_ALLOW: "127.0.0.0/8",
    ...env,
  };
  const moved = open.move();
  return {
    ...{ databaseUrl: database.url, eventStore, redis, mailbox },
    start: (roles, more) => startServer({ dataDir: folder.path, env: { ...common, ROLES: roles, ...more } }),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** Registers a client with the operator's key, and sets the mailbox as its provider. */
export async function registeredClient(url: string, mailbox: Mailbox, name = "My App"): Promise<TestClient> {
  const { status, body } = await apiOf(url, ADMIN_KEY).post("/clients", { name });
  if (status !== 201) throw new Error(`registration: ${status} ${JSON.stringify(body)}`);
  const api = apiOf(url, body.api_key);
  const config = { host: mailbox.host, port: mailbox.port, security: "none" };
  // A mail whose worker dies is begun again once it can no longer be under way.
  const options = { timeout_seconds: 5 };
  const provider = { type: "smtp", config, from_email: "app@example.com", options };
  const set = await api.put("/email-providers/test", provider);
  if (set.status !== 201) throw new Error(`provider: ${set.status} ${JSON.stringify(set.body)}`);
  return { ...api, id: body.id, secret: body.webhook_secret };
}
