// Operating system calls of the embedded parts: processes, accounts, and access to paths.

import { type SpawnOptions, spawn } from "node:child_process";
import { chown, lstat, open, readFile, realpath, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** An unprivileged account to run PostgreSQL as; undefined means the current account. */
export type Owner = { readonly uid: number; readonly gid: number };

const OUTPUT_KEPT = 16_384;
/** Accounts to run PostgreSQL as when we are root and nothing else says who, best first. */
const ACCOUNTS = ["postgres", "_postgres", "nobody"];
const PROGRAM_TIMEOUT_MS = 5_000;
const OVERFLOW_ID = 65_534;

/** Whether an error of Node's carries this system code. */
export function isErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}

/** Of a file that is not there: undefined; throws every other error. */
export function absent(error: unknown): undefined {
  if (!isErrno(error, "ENOENT")) throw error;
  return undefined;
}

/** Whether there is something at the path, if only a broken link. */
export async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(absent)) !== undefined;
}

/** Flushes a folder's entries to disk (fsync). */
export async function syncFolder(dir: string): Promise<void> {
  await using handle = await open(dir);
  await handle.sync();
}

/** Whether a process with this id exists, a dead one that nobody has waited for included. */
export function processIsAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return isErrno(error, "EPERM");
  }
}

/** The command line of a process; empty when there is none, or only its unburied remains. */
export async function commandLine(pid: number): Promise<string> {
  if (process.platform === "linux") {
    return await readFile(`/proc/${pid}/cmdline`, "utf8").then(
      (text) => text.replaceAll("\0", " "),
      () => "",
    );
  }
  const { code, output } = await run("ps", ["-o", "args=", "-p", String(pid)], { timeoutMs: PROGRAM_TIMEOUT_MS });
  return code === 0 ? output : "";
}

/**
 * The account for PostgreSQL in a fresh folder when we are root: the folder's owner, or a system account. It has a name,
 * since initdb refuses one that has none (as containers often run).
 */
export async function unprivilegedOwner(folder: string): Promise<Owner> {
  const { uid, gid } = await stat(folder);
  if (uid !== 0 && (await accountInfo("-un", String(uid))) !== undefined) return { uid, gid };
  for (const account of ACCOUNTS) {
    const accountUid = Number(await accountInfo("-u", account));
    const accountGid = Number(await accountInfo("-g", account));
    if (accountUid > 0 && accountGid > 0) return { uid: accountUid, gid: accountGid };
  }
  return { uid: OVERFLOW_ID, gid: OVERFLOW_ID };
}

/** What `id` says of an account, wherever the system keeps its accounts; undefined when there is none. */
async function accountInfo(option: string, account: string): Promise<string | undefined> {
  const lookup = run("id", [option, account], { timeoutMs: PROGRAM_TIMEOUT_MS });
  const { code, output } = await lookup.catch(() => ({ code: 1, output: "" }));
  return code === 0 ? output.trim() : undefined;
}

/** Whether this account may enter every folder from the root down to `path`, an existing folder, itself included. */
export async function canAccess(path: string, { uid, gid }: Owner): Promise<boolean> {
  for (let folder = await realpath(path); ; folder = dirname(folder)) {
    const found = await stat(folder);
    const searchBit = found.uid === uid ? 0o100 : found.gid === gid ? 0o010 : 0o001;
    if ((found.mode & searchBit) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

/** Lets a file that we made as root belong to `owner`, who may start ChatAPI itself later on. */
export async function giveTo(owner: Owner | undefined, ...paths: readonly string[]): Promise<void> {
  if (owner === undefined) return;
  for (const path of paths) await chown(path, owner.uid, owner.gid);
}

/**
 * The environment and account for a program of PostgreSQL: nothing of ours that could change its mind (`PGDATA`,
 * `PGPORT`, a locale) or that it has no need to know.
 */
export function spawnAs(owner: Owner | undefined, cwd: string): SpawnOptions {
  const env = { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };
  return owner === undefined ? { cwd, env } : { cwd, env, uid: owner.uid, gid: owner.gid };
}

/** Runs a program to its end; the last of its output. A program that cannot be started, or takes too long, throws. */
export async function run(
  program: string,
  args: readonly string[],
  options: SpawnOptions & { timeoutMs: number },
): Promise<{ code: number | null; output: string }> {
  const { timeoutMs, ...spawnOptions } = options;
  return await new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...spawnOptions, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString("utf8")).slice(-OUTPUT_KEPT);
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`${program} did not finish within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    child.once("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once("close", (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}
