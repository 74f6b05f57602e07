// Data folders and server processes for the tests of the embedded PostgreSQL.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import pg from "pg";
import { z } from "zod";

const SaidSchema = z.object({
  url: z.string().optional(),
  adopted: z.boolean().optional(),
  error: z.string().optional(),
});

/** An empty folder that PostgreSQL's own account can enter, or, `hidden`, one that it cannot. */
export async function dataFolder(options?: { hidden: boolean }): Promise<{ path: string } & AsyncDisposable> {
  const parent = await mkdtemp(join(tmpdir(), "chatapi-test-"));
  await chmod(parent, options?.hidden === true ? 0o700 : 0o711);
  return {
    path: join(parent, "data"),
    [Symbol.asyncDispose]: async () => await rm(parent, { recursive: true, force: true }),
  };
}

/** Starts a server in a process of its own; resolves when it holds the folder or has given up. */
export async function childServer(dataDir: string) {
  const child: ChildProcess = spawn(process.execPath, [join(import.meta.dirname, "child-server.ts"), dataDir], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  if (child.stdout === null) throw new Error("no stdout");
  const exit = once(child, "exit");
  const [line] = await once(createInterface(child.stdout), "line");
  const ended = async () => {
    await exit;
    return child.exitCode;
  };
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    return await ended();
  };
  return {
    pid: child.pid,
    said: SaidSchema.parse(JSON.parse(String(line))),
    ended,
    end,
    async [Symbol.asyncDispose]() {
      child.stdin?.end();
      await exit;
    },
  };
}

/** The pid of the PostgreSQL on this data folder, from its pid file. */
export async function postmasterPid(home: string): Promise<number> {
  return Number((await readFile(join(home, "cluster", "postmaster.pid"), "utf8")).split("\n")[0]);
}

/** One statement over a connection of its own; the rows. */
export async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}
