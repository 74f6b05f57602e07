// The data folder of one server: the lock that keeps others out, and the wrapping key of development mode.

import { randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { failpoint } from "../platform/failpoint.ts";
import { absent, giveTo, processIsAlive, syncFolder } from "./os.ts";

const LOCK_FILE = "server.lock";
const PID_FILE = "server.pid";
const SQLITE_BUSY = 5;
/** Two that try at the very same moment can refuse each other, so each tries again, after 10 to 30 ms. */
const ATTEMPTS = 10;
const RETRY_MS = 10;
const RETRY_SPREAD_MS = 20;

/** The data folder belongs to another running server. Its message is one line for the operator; exit code 78. */
export class DataFolderInUse extends Error {
  override readonly name = "DataFolderInUse";
  /** The other server's process id; undefined when it could not be found out (another container, say). */
  readonly pid: number | undefined;

  constructor(dataDir: string, pid: number | undefined) {
    super(`another ChatAPI server (pid ${pid ?? "unknown"}) is using the data folder ${dataDir}`);
    this.pid = pid;
  }
}

/**
 * Locks an existing data folder until disposed or until this process ends, even by kill -9, so that it is never stale.
 * It also holds between containers that share a volume, where process ids and loopback ports mean nothing. Throws
 * `DataFolderInUse`, within half a second, when another process (or another call in this one) has it.
 */
export async function lockFolder(dataDir: string): Promise<AsyncDisposable> {
  const lockPath = join(dataDir, LOCK_FILE);
  const pidPath = join(dataDir, PID_FILE);
  const held = await acquire(dataDir, lockPath, pidPath);
  try {
    await chmod(lockPath, 0o600); // whoever may open it for reading may hold up the server's lock
    await writeFile(pidPath, `${process.pid}\n`);
    await giveToFolderOwner(dataDir, [lockPath, pidPath]);
  } catch (error) {
    held.close();
    throw error;
  }
  let released = false;
  return {
    async [Symbol.asyncDispose]() {
      if (released) return;
      released = true;
      await rm(pidPath, { force: true });
      held.close();
    },
  };
}

async function acquire(dataDir: string, lockPath: string, pidPath: string): Promise<DatabaseSync> {
  for (let attempt = 1; ; attempt += 1) {
    // SQLite is here for the one thing Node lacks: a file lock of the operating system. Nothing is ever written in it.
    // Danger: no other code may open this file, since closing any descriptor of it would drop the lock.
    let lock: DatabaseSync | undefined;
    try {
      lock = new DatabaseSync(lockPath, { timeout: 0 });
      // fence: folder-lock
      lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
      return lock;
    } catch (error) {
      lock?.close();
      if (!(error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY)) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new Error(`the data folder ${dataDir} cannot be locked for this server: ${reason}`, { cause: error });
      }
      if (attempt === ATTEMPTS) throw new DataFolderInUse(dataDir, await holderPid(pidPath));
      await sleep(RETRY_MS + Math.random() * RETRY_SPREAD_MS);
    }
  }
}

async function holderPid(pidPath: string): Promise<number | undefined> {
  const text = await readFile(pidPath, "utf8").catch(() => "");
  const pid = Number(text.trim());
  return Number.isInteger(pid) && pid > 0 && processIsAlive(pid) ? pid : undefined;
}

/** A start as root must not leave files behind that shut out the folder's owner on the next, ordinary start. */
async function giveToFolderOwner(dataDir: string, paths: readonly string[]): Promise<void> {
  const { uid, gid } = await stat(dataDir);
  if (process.getuid?.() === 0 && uid !== 0) await giveTo({ uid, gid }, ...paths);
}

/** The ring that is kept in the data folder, made when it is not there. Complete and on disk when this returns. */
export async function ownEncryptionKeys(dataDir: string): Promise<readonly string[]> {
  const file = join(dataDir, "encryption-keys");
  await mkdir(dataDir, { recursive: true });
  const there = await readFile(file, "utf8").catch(absent);
  return (there ?? (await make(file, dataDir))).trim().split(/[\s,]+/);
}

/** Under another name first: a process that is killed meanwhile must not leave a file without a key. */
async function make(file: string, dataDir: string): Promise<string> {
  const made = `${randomBytes(32).toString("base64")}\n`;
  await writeFile(`${file}.new`, made, { mode: 0o600, flush: true });
  failpoint("own-key-written/in-place");
  await rename(`${file}.new`, file);
  await syncFolder(dataDir);
  return made;
}
