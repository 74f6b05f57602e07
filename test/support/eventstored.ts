// A real EventStoreDB for tests: the one named by EVENTSTORE_URL, or an `eventstored` command, started on loopback.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const COMMAND = "eventstored";
const START_TIMEOUT_MS = 30_000;

/** Why there is no server, in one line; undefined when there is one. */
export const missingEventStore: string | undefined =
  process.env.EVENTSTORE_URL !== undefined || spawnSync("sh", ["-c", `command -v ${COMMAND}`]).status === 0
    ? undefined
    : `skipped: no EventStoreDB (set EVENTSTORE_URL, or put ${COMMAND} on the PATH)`;

export type TestEventStore = AsyncDisposable & {
  readonly url: string;
  /** Ends it with SIGKILL; absent for a server that is not ours. */
  readonly kill?: () => Promise<void>;
  /** Starts it again on the same port and folder. */
  readonly restart?: () => Promise<void>;
};

/** Starts a server in a temporary folder, or gives the one that is there. */
export async function testEventStore(): Promise<TestEventStore> {
  const given = process.env.EVENTSTORE_URL;
  if (given !== undefined) return { url: given, [Symbol.asyncDispose]: async () => undefined };
  const folder = await mkdtemp(join(tmpdir(), "esdb-"));
  const port = await freePort();
  let child = await start(port, folder);
  const kill = async () => {
    child.kill("SIGKILL");
    await ended(child);
  };
  return {
    url: `esdb://127.0.0.1:${port}?tls=false`,
    kill,
    restart: async () => {
      child = await start(port, folder);
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

async function start(port: number, folder: string): Promise<ChildProcess> {
  const flags = ["--insecure", "--node-ip", "127.0.0.1", "--replication-ip", "127.0.0.1", "--node-port", String(port)];
  const child = spawn(COMMAND, [...flags, "--db", join(folder, "db"), "--log", join(folder, "log")], {
    stdio: "ignore",
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline && child.exitCode === null) {
    const live = await fetch(`http://127.0.0.1:${port}/health/live`)
      .then((answer) => answer.ok)
      .catch(() => false);
    if (live) return child;
    await sleep(50);
  }
  child.kill("SIGKILL");
  throw new Error(`${COMMAND} did not start on port ${port}`);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });
}
