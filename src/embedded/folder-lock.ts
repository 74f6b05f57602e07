// One server a data folder: a lock that the kernel holds and drops with the process, however it ends.

import { chown, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { isErrno, processIsAlive } from "./os.ts";

const LOCK_FILE = "server.lock";
const PID_FILE = "server.pid";
const SQLITE_BUSY = 5;
/** How often, and at what distance, a refused start looks for the pid of a holder that has only just begun. */
const HOLDER_LOOKS = 10;
const HOLDER_LOOK_MS = 20;

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
 * `DataFolderInUse` at once when another process (or another call in this one) has it.
 */
export async function lockFolder(dataDir: string): Promise<AsyncDisposable> {
  const lockPath = join(dataDir, LOCK_FILE);
  const pidPath = join(dataDir, PID_FILE);
  // SQLite is here for the one thing Node lacks: a file lock of the operating system. Nothing is ever written in it.
  // Danger: no other code may open this file, since closing any descriptor of it would drop the lock.
  let lock: DatabaseSync | undefined;
  try {
    lock = new DatabaseSync(lockPath, { timeout: 0 });
    lock.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    lock?.close();
    if (error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY) {
      throw new DataFolderInUse(dataDir, await holderPid(pidPath));
    }
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`the data folder ${dataDir} cannot be locked for this server: ${reason}`, { cause: error });
  }
  const held = lock;
  try {
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

async function holderPid(pidPath: string): Promise<number | undefined> {
  for (let look = 0; look < HOLDER_LOOKS; look += 1) {
    try {
      const pid = Number((await readFile(pidPath, "utf8")).trim());
      if (Number.isInteger(pid) && pid > 0 && processIsAlive(pid)) return pid;
    } catch (error) {
      if (!isErrno(error, "ENOENT")) return undefined;
    }
    await new Promise((resolve) => setTimeout(resolve, HOLDER_LOOK_MS));
  }
  return undefined;
}

/** A start as root must not leave files behind that shut out the folder's owner on the next, ordinary start. */
async function giveToFolderOwner(dataDir: string, paths: readonly string[]): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = await stat(dataDir);
  if (uid === 0) return;
  for (const path of paths) await chown(path, uid, gid);
}
