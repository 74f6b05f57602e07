// A real EventStoreDB for tests: the one named by EVENTSTORE_URL, or an `eventstored` command, started on loopback.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { closedPort } from "../channels/servers.ts";

const COMMAND = "eventstored";
const START_TIMEOUT_MS = 120_000;

const hasCommand = (): boolean => spawnSync("sh", ["-c", `command -v ${COMMAND}`]).status === 0;

/** Why there is no server, in one line; undefined when there is one. */
export const missingEventStore: string | undefined =
  process.env.EVENTSTORE_URL !== undefined || hasCommand()
    ? undefined
    : `skipped: no EventStoreDB (set EVENTSTORE_URL, or put ${COMMAND} on the PATH)`;

/** The same for tests that kill their server: it must be one of their own. */
export const missingOwnEventStore: string | undefined = hasCommand()
  ? undefined
  : `skipped: no EventStoreDB that may be killed (put ${COMMAND} on the PATH)`;

export type TestEventStore = AsyncDisposable & { readonly url: string };

export type OwnEventStore = TestEventStore & {
  readonly port: number;
  /** Where it keeps its files. */
  readonly folder: string;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again on the same port and folder. */
  restart(): Promise<void>;
  /** Stops it in the middle of whatever it does (SIGSTOP); disposing what comes back lets it go on. */
  freeze(): Disposable;
};

/** The server that is there, or one started in a temporary folder. */
export const testEventStore = async (): Promise<TestEventStore> => {
  const url = process.env.EVENTSTORE_URL;
  return url === undefined ? ownEventStore() : { url, [Symbol.asyncDispose]: async () => undefined };
};

/** Starts a server in a temporary folder, on a loopback port. `flags` are the server's own: `--insecure`, or certificates. */
export async function ownEventStore(flags: readonly string[] = ["--insecure"]): Promise<OwnEventStore> {
  const folder = await mkdtemp(join(tmpdir(), "esdb-"));
  const port = await closedPort();
  let child = await start(port, folder, flags);
  const kill = async () => {
    child.kill("SIGKILL");
    await ended(child);
  };
  return {
    url: `esdb://127.0.0.1:${port}?tls=false`,
    port,
    folder,
    kill,
    restart: async () => {
      child = await start(port, folder, flags);
    },
    freeze() {
      const frozen = child;
      frozen.kill("SIGSTOP");
      return { [Symbol.dispose]: () => void frozen.kill("SIGCONT") };
    },
    async [Symbol.asyncDispose]() {
      await kill();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

const ended = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once("exit", () => resolve()));

async function start(port: number, folder: string, more: readonly string[]): Promise<ChildProcess> {
  const address = ["--node-ip", "127.0.0.1", "--replication-ip", "127.0.0.1", "--node-port", String(port)];
  const folders = ["--db", join(folder, "db"), "--log", join(folder, "log")];
  // Variables that begin like its own options, as EVENTSTORE_URL does, make the server refuse to start.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("EVENTSTORE_")));
  const child = spawn(COMMAND, [...more, ...address, ...folders], { stdio: "ignore", env });
  const abandon = () => child.kill("SIGKILL");
  process.once("exit", abandon);
  child.once("exit", () => process.off("exit", abandon));
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline && child.exitCode === null) {
    if (await isLive(port, more.includes("--insecure"))) return child;
    await sleep(50);
  }
  child.kill("SIGKILL");
  throw new Error(`${COMMAND} did not start on port ${port}`);
}

/** Over TLS without looking at the certificate, which is the test's own. */
function isLive(port: number, isInsecure: boolean): Promise<boolean> {
  const { get } = isInsecure ? http : https;
  const target = { host: "127.0.0.1", port, path: "/health/live", rejectUnauthorized: false };
  return new Promise((resolve) => {
    const asked = get(target, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200 || answer.statusCode === 204);
    });
    asked.on("error", () => resolve(false));
  });
}
