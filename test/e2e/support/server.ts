// A server as a newcomer starts it: its own process, an empty folder, nothing but the environment.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { inject } from "vitest";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 15_000;

export type Running = AsyncDisposable & {
  readonly url: string;
  readonly process: ChildProcess;
  /** Everything that it printed. */
  readonly output: () => string;
  /** How long it took from the start of the process until `/readyz` said yes. */
  readonly readyMs: number;
  /** SIGTERM, and the exit code. */
  readonly stop: () => Promise<number | null>;
  readonly kill: () => Promise<void>;
};

/** A folder that is gone at the end of the test, open to the account that PostgreSQL runs as. */
export async function dataFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "chatapi-e2e-"));
  await chmod(path, 0o755);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) };
}

/** The same with a cluster, as initdb leaves it: a first start in it is as any other, without the time that initdb takes. */
export async function folderWithCluster(): Promise<AsyncDisposable & { readonly path: string }> {
  const folder = await dataFolder();
  await putCluster(folder.path);
  return folder;
}

/** Puts a cluster into a data folder that has none yet. */
export async function putCluster(dataDir: string): Promise<void> {
  await promisify(execFile)("cp", ["-a", inject("emptyCluster"), join(dataDir, "postgres")]);
}

type Options = { readonly dataDir: string; readonly env?: Readonly<Record<string, string>>; readonly port?: number };

export function spawnServer({ dataDir, env = {}, port = 0 }: Options) {
  const {
    HOST: _host,
    PORT: _port,
    DATABASE_URL: _database,
    EVENTSTORE_URL: _eventStore,
    REDIS_URL: _redis,
    ROLES: _roles,
    NODE_ENV: _mode,
    VITEST: _vitest,
    ...inherited
  } = process.env;
  const child = spawn(process.execPath, ["src/cli/chatapi.ts", "serve"], {
    cwd: ROOT,
    env: { ...inherited, DATA_DIR: dataDir, PORT: String(port), LOG_LEVEL: "warn", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (output += String(bytes)));
  const exited = new Promise<number | null>((resolve) => child.on("exit", resolve));
  return { child, exited, output: () => output };
}

/** Starts a server that is expected to refuse: its exit code and what it printed. */
export async function startRefused(options: Options): Promise<{ code: number | null; output: string }> {
  const { exited, output } = spawnServer(options);
  const code = await exited;
  return { code, output: output() };
}

/** Starts a server and waits until it is ready. */
export async function startServer(options: Options): Promise<Running> {
  const begun = performance.now();
  const { child, exited, output } = spawnServer(options);
  let ended = false;
  void exited.then(() => (ended = true));
  const deadline = begun + START_TIMEOUT_MS;
  let url: string | undefined;
  while (url === undefined || !(await isReady(url))) {
    if (ended || performance.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`the server did not become ready (${url ?? "it does not listen"}):\n${output()}`);
    }
    url = /http:\/\/127\.0\.0\.1:\d+/.exec(output())?.[0];
    await sleep(20);
  }
  const stop = async () => {
    child.kill("SIGTERM");
    const code = await Promise.race([exited, sleep(STOP_TIMEOUT_MS, undefined, { ref: false })]);
    if (code === undefined) throw new Error(`the server did not stop:\n${output()}`);
    return code;
  };
  const kill = async () => {
    child.kill("SIGKILL");
    await exited;
  };
  const dispose = async () => {
    if (!ended) await stop();
  };
  return {
    url,
    process: child,
    output,
    readyMs: performance.now() - begun,
    stop,
    kill,
    [Symbol.asyncDispose]: dispose,
  };
}

export const isReady = async (url: string): Promise<boolean> =>
  fetch(`${url}/readyz`).then(
    (response) => response.ok,
    () => false,
  );
