// A place where a node may die and start again: its log and its data outlive it, and so do those who receive from it.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { runningEmbeddedPostgres } from "../../../src/embedded/postgres.ts";
import { findPostmaster, stopPostmaster } from "../../../src/embedded/postmaster.ts";
import type { RecordedEvent } from "../../../src/event-store/event-store.ts";
import { openEventStoreDb } from "../../../src/event-store/eventstoredb/log.ts";
import { openPostgresLog } from "../../../src/event-store/postgres/log.ts";
import { eventsOf } from "../../cli/moving.ts";
import { dataFolder, isReady, putCluster, spawnServer } from "../../e2e/support/server.ts";
import { ADMIN_KEY } from "../../e2e/support/setups.ts";
import { ownEventStore } from "../../support/eventstored.ts";
import { testDatabase } from "../../support/postgres.ts";
import { openReceivers, type Receivers } from "./failpoint-receivers.ts";

/** The Postgres log in a PostgreSQL of our own and in one that nodes share, and the log on EventStoreDB. */
export const SETUPS = ["embedded", "postgres", "eventstoredb"] as const;
export type SetupName = (typeof SETUPS)[number];

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 15_000;

/** How a process ended, and what it printed. */
export type Ended = { readonly code: number | null; readonly signal: NodeJS.Signals | null; readonly output: string };

/** Disposing kills it. */
export type Node = AsyncDisposable & {
  /** Resolves when it is ready; undefined when it ended before. Throws when neither comes about. */
  readonly ready: Promise<string | undefined>;
  readonly ended: Promise<Ended>;
  /** Aborted when it has ended. */
  readonly over: AbortSignal;
  readonly output: () => string;
  /** SIGTERM, and how it ended. */
  stop(): Promise<Ended>;
  /** SIGKILL. */
  kill(): Promise<Ended>;
};

export type Scene = AsyncDisposable & {
  readonly setup: SetupName;
  readonly dataDir: string;
  /** EventStoreDB's; undefined when the log is in PostgreSQL. */
  readonly eventStoreFolder: string | undefined;
  readonly receivers: Receivers;
  /** What every node is told by its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Starts a node that dies at this point, if any; `own` stands over its environment. */
  launch(failpoint?: string, own?: Readonly<Record<string, string>>): Node;
  /** Runs an operator's command to its end; it may die at a point as well. */
  command(args: readonly string[], failpoint?: string): Promise<Ended>;
  /** The database, while something has started it. */
  databaseUrl(): Promise<string>;
  /** Every event in the log but its own first. */
  events(): Promise<readonly RecordedEvent[]>;
};

/** Retries soon, so that what fails for good has failed within seconds. */
const COMMON = { RETRY_SCHEDULE: "1s,1s", RETRY_JITTER: "0", LOG_LEVEL: "warn", ADMIN_KEY };

/** `more` stands over what every node is told by its environment. `empty`: the first node makes its cluster itself. */
export async function openScene(
  setup: SetupName,
  more: Readonly<Record<string, string>> = {},
  { empty = false } = {},
): Promise<Scene> {
  await using open = new AsyncDisposableStack();
  const receivers = open.use(await openReceivers());
  const folder = open.use(await dataFolder());
  const dataDir = join(folder.path, "data");
  if (setup === "embedded" && !empty) {
    await mkdir(dataDir, { mode: 0o711 });
    await putCluster(dataDir);
  }
  const place = setup === "embedded" ? embedded(dataDir, open) : await servers(setup, open);
  const env = { ...COMMON, ...place.env, ...more };
  const nodes = new Set<ReturnType<typeof spawnServer>>();
  open.defer(async () => {
    for (const { child, exited } of nodes) {
      child.kill("SIGKILL");
      await exited;
    }
  });

  function launch(failpoint?: string, own: Readonly<Record<string, string>> = {}): Node {
    const dies = failpoint === undefined ? {} : { CHATAPI_FAILPOINT: failpoint };
    const spawned = spawnServer({ dataDir, env: { ...env, ...own, ...dies } });
    nodes.add(spawned);
    const over = new AbortController();
    const ended = new Promise<Ended>((resolve) => {
      spawned.child.once("close", (code, signal) => {
        nodes.delete(spawned);
        over.abort();
        resolve({ code, signal, output: spawned.output() });
      });
    });
    const stop = async () => {
      spawned.child.kill("SIGTERM");
      const timer = setTimeout(() => spawned.child.kill("SIGABRT"), STOP_TIMEOUT_MS);
      const end = await ended;
      clearTimeout(timer);
      return end;
    };
    const kill = async () => {
      spawned.child.kill("SIGKILL");
      return ended;
    };
    const ready = readiness(spawned.output, over.signal);
    const dispose = async () => void (await kill());
    const { signal } = over;
    return { ready, ended, over: signal, output: spawned.output, stop, kill, [Symbol.asyncDispose]: dispose };
  }

  const moved = open.move();
  return {
    ...{ setup, dataDir, eventStoreFolder: place.eventStoreFolder, receivers, env, launch },
    command: (args, failpoint) =>
      run(args, { ...env, DATA_DIR: dataDir, ...(failpoint === undefined ? {} : { CHATAPI_FAILPOINT: failpoint }) }),
    databaseUrl: place.databaseUrl,
    async events() {
      await using store = await place.openLog();
      return await eventsOf(store);
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

function embedded(dataDir: string, open: AsyncDisposableStack) {
  const cluster = join(dataDir, "postgres", "cluster");
  open.defer(async () => {
    // Left running by the last node that was killed.
    const postmaster = await findPostmaster(cluster).catch(() => undefined);
    if (postmaster !== undefined) await stopPostmaster(postmaster, cluster);
    await rm(dataDir, { recursive: true, force: true, maxRetries: 5 });
  });
  const databaseUrl = async () => {
    const url = await runningEmbeddedPostgres(dataDir);
    if (url === undefined) throw new Error("the embedded PostgreSQL does not run");
    return url;
  };
  const openLog = async () => openPostgresLog({ url: await databaseUrl() });
  return { env: {}, databaseUrl, openLog, eventStoreFolder: undefined };
}

async function servers(setup: "postgres" | "eventstoredb", open: AsyncDisposableStack) {
  const database = open.use(await testDatabase());
  const common = {
    DATABASE_URL: database.url,
    ENCRYPTION_KEYS: randomBytes(32).toString("base64"),
    OUTBOUND_ALLOW: "127.0.0.0/8",
  };
  const databaseUrl = async () => database.url;
  if (setup === "postgres") {
    const openLog = () => openPostgresLog({ url: database.url });
    return { env: common, databaseUrl, openLog, eventStoreFolder: undefined };
  }
  const { url, folder } = open.use(await ownEventStore());
  const prefix = `test${randomBytes(6).toString("hex")}-`;
  const env = { ...common, EVENTSTORE_URL: url, EVENTSTORE_STREAM_PREFIX: prefix };
  return { env, databaseUrl, openLog: () => openEventStoreDb({ url, prefix }), eventStoreFolder: folder };
}

async function readiness(output: () => string, over: AbortSignal): Promise<string | undefined> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!over.aborted) {
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(output())?.[0];
    if (url !== undefined && (await isReady(url))) return url;
    if (performance.now() > deadline) throw new Error(`the server did not become ready:\n${output()}`);
    await sleep(20);
  }
  return undefined;
}

async function run(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Ended> {
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  const child = spawn(process.execPath, ["src/cli/chatapi.ts", ...args], {
    cwd: ROOT,
    env: { PATH, NODE_COMPILE_CACHE, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (output += String(bytes)));
  return new Promise((resolve) => {
    child.once("close", (code, signal) => resolve({ code, signal, output }));
  });
}
