// The PostgreSQL server process: found when an earlier server left it running, started otherwise, and stopped.
import { type ChildProcess, spawn } from "node:child_process";
import { open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { commandLine, giveTo, isErrno, processIsAlive, spawnAs } from "./os.ts";
import { lastLines, type PostgresHome } from "./postgres-home.ts";

/** Crash recovery included, which `max_wal_size` keeps short. */
const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 10;
const START_ATTEMPTS = 5;
const RETRY_MS = 300;
const FAST_STOP_TIMEOUT_MS = 20_000;
const IMMEDIATE_STOP_TIMEOUT_MS = 5_000;
const STOP_POLL_MS = 20;
const LOG_TAIL_BYTES = 8_192;
/** The log collector writes its last lines just after the postmaster is gone. */
const LOG_SETTLE_MS = 150;

/** A running PostgreSQL server. `child` is undefined when an earlier ChatAPI started it. */
export type Postmaster = { readonly pid: number; readonly port: number; readonly child: ChildProcess | undefined };

/**
 * The postmaster of this cluster that an earlier server left behind, if it runs. A pid file whose process is gone or has
 * become another program is none: the latter is removed, since PostgreSQL itself would be taken in by it.
 */
export async function findPostmaster(cluster: string): Promise<Postmaster | undefined> {
  const file = await readPidFile(cluster);
  if (file === undefined || !processIsAlive(file.pid)) return undefined;
  if (await isPostmaster(file.pid, cluster)) return { pid: file.pid, port: file.port, child: undefined };
  await rm(join(cluster, "postmaster.pid"), { force: true });
  return undefined;
}

/** Whether this postmaster still runs. */
export async function isRunning({ pid, child }: Postmaster, cluster: string): Promise<boolean> {
  if (child !== undefined) return child.exitCode === null && child.signalCode === null;
  return processIsAlive(pid) && (await isPostmaster(pid, cluster));
}

/**
 * Starts PostgreSQL on the loopback port kept with the cluster, or on a new one when that is taken, in a session of its
 * own: neither Ctrl-C in our terminal nor kill -9 of this process ends it. Resolves when it accepts connections; throws
 * with the last lines of its log when it ends before.
 */
export async function startPostmaster(
  home: PostgresHome,
  settings: Readonly<Record<string, string>>,
): Promise<Postmaster> {
  let port = (await keptPort(home)) ?? (await freePort());
  for (let attempt = 1; ; attempt += 1) {
    const startedAt = Date.now();
    const postmaster = await launch(home, port, settings);
    if (await untilReady(home, postmaster)) {
      const portFile = join(home.dir, "port");
      await writeFile(portFile, `${port}\n`);
      await giveTo(home.owner, portFile);
      return postmaster;
    }
    await sleep(LOG_SETTLE_MS);
    const reason = await lastLogLines(home, startedAt);
    if (attempt === START_ATTEMPTS) throw ended(postmaster, reason);
    if (/address already in use|could not (bind|create any)/i.test(reason)) port = await freePort();
    // The backends of a killed postmaster end within moments; until then PostgreSQL refuses for safety.
    else if (/still in use|already exists/.test(reason)) await sleep(RETRY_MS);
    else throw ended(postmaster, reason);
  }
}

/** Stops PostgreSQL in its "fast" mode (sessions are ended, everything is flushed); resolves when it is gone. */
export async function stopPostmaster(postmaster: Postmaster, cluster: string): Promise<void> {
  postmaster.child?.ref();
  for (const [signal, timeoutMs] of [
    ["SIGINT", FAST_STOP_TIMEOUT_MS],
    ["SIGQUIT", IMMEDIATE_STOP_TIMEOUT_MS],
  ] as const) {
    if (!(await isRunning(postmaster, cluster))) return;
    try {
      process.kill(postmaster.pid, signal);
    } catch (error) {
      if (!isErrno(error, "ESRCH")) throw error;
    }
    const deadline = Date.now() + timeoutMs;
    while (Date.now() < deadline) {
      if (!(await isRunning(postmaster, cluster))) return;
      await sleep(STOP_POLL_MS);
    }
  }
  throw new Error(`PostgreSQL (pid ${postmaster.pid}) did not stop`);
}

/** What PostgreSQL logged last since `since`, as one line. */
export async function lastLogLines(home: PostgresHome, since: number): Promise<string> {
  const logs: { path: string; at: number }[] = [];
  for (const name of await readdir(home.logs)) {
    const path = join(home.logs, name);
    const { mtimeMs } = await stat(path);
    if (mtimeMs >= since - 1) logs.push({ path, at: mtimeMs });
  }
  let text = "";
  for (const { path } of logs.sort((a, b) => a.at - b.at)) text += `${await tail(path)}\n`;
  const isOfTheCollector = (line: string) =>
    line.includes("Future log output will appear") || line.includes("redirecting log output");
  return lastLines(
    text
      .split("\n")
      .filter((line) => !isOfTheCollector(line))
      .join("\n"),
  );
}

async function launch(home: PostgresHome, port: number, settings: Readonly<Record<string, string>>) {
  const all = { ...postgresSettings(home.logs), ...settings, port: String(port) };
  const args = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  // What is said before the log collector runs. Opened anew at each start, so it stays small.
  const startLogFile = join(home.logs, "start.log");
  await using startLog = await open(startLogFile, "w", 0o600);
  await giveTo(home.owner, startLogFile);
  const child = spawn(join(home.binaries.dir, "bin", "postgres"), ["-D", home.cluster, ...args], {
    ...spawnAs(home.owner, home.dir),
    detached: true,
    stdio: ["ignore", startLog.fd, startLog.fd],
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", reject);
  });
  child.on("error", () => {}); // a failed kill; the exit is what counts
  child.unref();
  return { pid: child.pid ?? 0, port, child };
}

/** False when it ended instead. */
async function untilReady(home: PostgresHome, postmaster: Postmaster): Promise<boolean> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (await isRunning(postmaster, home.cluster)) {
    const file = await readPidFile(home.cluster);
    if (file?.pid === postmaster.pid && file.ready) return true;
    if (Date.now() > deadline) {
      await stopPostmaster(postmaster, home.cluster);
      throw new Error(`PostgreSQL was not ready within ${READY_TIMEOUT_MS / 1000} s; its log is in ${home.logs}`);
    }
    await sleep(READY_POLL_MS);
  }
  return false;
}

function ended({ child }: Postmaster, reason: string): Error {
  const how = child?.signalCode ?? `exit code ${child?.exitCode}`;
  return new Error(`PostgreSQL ended at its start (${how}): ${reason || "it said nothing"}`);
}

/** Lines of postmaster.pid: 1 pid, 4 port, 8 status. Undefined when absent or only half written. */
async function readPidFile(cluster: string): Promise<{ pid: number; port: number; ready: boolean } | undefined> {
  const text = await readFile(join(cluster, "postmaster.pid"), "utf8").catch((error: unknown) => {
    if (!isErrno(error, "ENOENT")) throw error;
    return "";
  });
  const lines = text.split("\n");
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  if (!(pid > 0) || !(port > 0)) return undefined;
  return { pid, port, ready: lines[7]?.trim() === "ready" };
}

async function isPostmaster(pid: number, cluster: string): Promise<boolean> {
  return (await commandLine(pid)).includes(`-D ${cluster}`);
}

async function keptPort(home: PostgresHome): Promise<number | undefined> {
  const text = await readFile(join(home.dir, "port"), "utf8").catch(() => "");
  const port = Number(text.trim());
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : undefined;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no free loopback port");
  return address.port;
}

async function tail(path: string): Promise<string> {
  await using file = await open(path);
  const { size } = await file.stat();
  const length = Math.min(size, LOG_TAIL_BYTES);
  const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
  return buffer.toString("utf8");
}

/** Settings for one server process with modest memory and the full promise of durability. */
function postgresSettings(logs: string): Readonly<Record<string, string>> {
  return {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "100",
    shared_buffers: "128MB",
    fsync: "on",
    synchronous_commit: "on",
    full_page_writes: "on",
    // There is no replica. Little WAL also bounds how long recovery after a crash takes.
    wal_level: "minimal",
    max_wal_senders: "0",
    max_wal_size: "256MB",
    // Short statements gain nothing from either, and workers need shared memory that containers ration.
    jit: "off",
    max_parallel_workers_per_gather: "0",
    max_parallel_maintenance_workers: "0",
    timezone: "UTC",
    log_timezone: "UTC",
    // A week of files, each overwritten when its weekday comes again.
    logging_collector: "on",
    log_destination: "stderr",
    log_directory: logs,
    log_filename: "postgresql-%a.log",
    log_rotation_age: "1d",
    log_rotation_size: "0",
    log_truncate_on_rotation: "on",
    log_line_prefix: "%m [%p] %a ",
    log_checkpoints: "off",
    // Statements and row values carry people's messages, which must not be logged.
    log_min_error_statement: "panic",
    // fence: embedded-log-terse
    log_error_verbosity: "terse",
  };
}
