// A real Redis for tests: `redis-server` from the PATH, on a free loopback port, without a file of its own.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { closedPort } from "../channels/servers.ts";

const COMMAND = "redis-server";
const START_TIMEOUT_MS = 60_000;

/** Why there is no server, in one line; undefined when there is one. */
export const missingRedis: string | undefined =
  spawnSync("sh", ["-c", `command -v ${COMMAND}`]).status === 0
    ? undefined
    : `skipped: no Redis (put ${COMMAND} on the PATH)`;

export type TestRedis = AsyncDisposable & {
  readonly url: string;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again on the same port. */
  restart(): Promise<void>;
};

export async function testRedis(): Promise<TestRedis> {
  const port = await closedPort();
  let child = await start(port);
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  };
  return {
    url: `redis://127.0.0.1:${port}`,
    kill,
    restart: async () => {
      child = await start(port);
    },
    [Symbol.asyncDispose]: kill,
  };
}

async function start(port: number): Promise<ChildProcess> {
  const flags = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  const child = spawn(COMMAND, flags, { stdio: "ignore", cwd: tmpdir() });
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline && child.exitCode === null) {
    if (await answers(port)) return child;
    await sleep(20);
  }
  child.kill("SIGKILL");
  throw new Error(`${COMMAND} did not start on port ${port}`);
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
