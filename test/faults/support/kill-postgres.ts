// Killing a node and the PostgreSQL that it runs, one just after the other.
import { execFileSync } from "node:child_process";
import pg from "pg";
import type { Node, Scene } from "./failpoint-scene.ts";

export async function killBoth(scene: Scene, node: Node, serverFirst: boolean): Promise<void> {
  const postmaster = await postmasterOf(await scene.databaseUrl());
  if (serverFirst) await node.kill();
  process.kill(postmaster, "SIGKILL");
  await node.kill();
}

/** The PostgreSQL behind a URL: the parent of any of its processes. */
async function postmasterOf(url: string): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  client.on("error", () => undefined);
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  const parent = Number(execFileSync("ps", ["-o", "ppid=", "-p", String(rows[0]?.pid)]).toString());
  await client.end();
  if (!(parent > 1)) throw new Error("the PostgreSQL has no process");
  return parent;
}
