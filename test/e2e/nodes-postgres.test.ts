// PostgreSQL ends at once (`-m immediate`) under several nodes, and is started again: everything goes on by itself.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, readlink, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { notificationUntil, tokenOf } from "./support/api.ts";
import {
  faithful,
  headOnceAt,
  makeRooms,
  openCluster,
  readiness,
  timeUntil,
  WAIT_MS,
  writers,
} from "./support/cluster.ts";
import { folderWithCluster } from "./support/server.ts";
import { available } from "./support/setups.ts";

/** SIGQUIT is `pg_ctl stop -m immediate`. Starts the same command again in the same folder, as the same account. */
async function restartAtOnce(url: string): Promise<ChildProcess> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  const status = await readFile(`/proc/${rows[0]?.pid}/status`, "utf8");
  const pid = Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1]);
  const [command = "", ...args] = (await readFile(`/proc/${pid}/cmdline`, "utf8"))
    .split("\0")
    .filter((one) => one !== "");
  const [cwd, executable, { uid, gid }] = await Promise.all([
    readlink(`/proc/${pid}/cwd`),
    readlink(`/proc/${pid}/exe`),
    stat(`/proc/${pid}`),
  ]);
  expect(command).toContain("postgres");
  process.kill(pid, "SIGQUIT");
  await timeUntil(async () => !(await alive(pid)), WAIT_MS, "PostgreSQL ended");
  return spawn(executable, args, { cwd, uid, gid, stdio: "ignore" });
}

const alive = (pid: number): Promise<boolean> =>
  readFile(`/proc/${pid}/stat`, "utf8").then(
    (text) => !text.includes(") Z "),
    () => false,
  );

describe.skipIf(available(["nodes"]).length === 0).each(["nodes"] as const)("PostgreSQL: %s", () => {
  test("ended at once under load, and started again", async () => {
    await using folder = await folderWithCluster();
    // Adopted by nobody: what this one watches over ends in the middle of the test.
    const postgres = await startEmbeddedPostgres({ dataDir: folder.path, log: () => {}, onExit: () => {} });
    const cluster = await openCluster({}, { databaseUrl: postgres.url });
    let again: ChildProcess | undefined;
    try {
      const api = await cluster.newClient();
      const rooms = await makeRooms(api, 3);
      const token = await tokenOf(api, "bob");
      const nodes = [cluster.first.url, cluster.second.url];
      const sockets = await Promise.all(nodes.map((url) => faithful(url, token, rooms)));
      const posting = nodes.map((url) => writers(api, url, rooms, 5));
      await sleep(1_000);
      again = await restartAtOnce(postgres.url);
      const all = [cluster.first, cluster.second, ...cluster.projectors, ...cluster.workers];
      const ready = async () => (await Promise.all(all.map(readiness))).every(({ status }) => status === 200);
      console.log(
        `recovered: PostgreSQL: every node ready: ${Math.round(await timeUntil(ready, WAIT_MS, "ready"))} ms`,
      );
      await sleep(1_000);
      await Promise.all(posting.map((one) => one.stop()));
      const { body: asked } = await api.post("/notifications", {
        ...{ type: "email", to_email: "after@example.com", subject: "After", content: "Hello" },
      });
      const sent = await notificationUntil(api, asked.id, (body) => body.status === "sent", WAIT_MS);
      expect(sent.status).toBe("sent");
      const acknowledged = posting.flatMap((one) => one.posted.acknowledged);
      for (const room of rooms) {
        const own = acknowledged.filter((one) => one.room === room).map((one) => one.seq);
        const seq = await headOnceAt(api, room, Math.max(0, ...own));
        const every = Array.from({ length: seq }, (_, n) => n + 1);
        for (const socket of sockets) {
          await timeUntil(async () => socket.seqs(room).length >= seq, WAIT_MS, "every frame");
          expect(socket.seqs(room)).toEqual(every);
        }
        expect(new Set(own).size).toBe(own.length);
        expect(every).toEqual(expect.arrayContaining(own));
      }
      await Promise.all(sockets.map((one) => one.close()));
    } finally {
      await cluster[Symbol.asyncDispose]();
      if (again?.exitCode === null) {
        const ended = once(again, "exit");
        again.kill("SIGINT");
        await ended;
      }
      await postgres[Symbol.asyncDispose]().catch(() => undefined);
    }
  }, 300_000);
});
