// Which processes work on the jobs: whoever starts alone takes back what a crashed one had in hand.
import type pg from "pg";
import type { Logger } from "pino";
import { LOCKS, lockSession, tryLockSession, unlockSession } from "../platform/locks.ts";

/**
 * Registers this process. When there is no other, every job that looks taken was left behind by a crash, and waits
 * again at once; else it waits until its time with its worker is over. Nothing rests on the lock: a job done twice is
 * harmless.
 */
export async function enterWorkers(pool: pg.Pool, logger: Logger): Promise<Disposable> {
  const connection = await pool.connect();
  connection.on("error", (error) => logger.warn({ err: error }, "the workers' lock was lost"));
  try {
    const alone = await tryLockSession(connection, LOCKS.workers);
    if (alone) {
      // `retry_count` is what settling is fenced by: should one of these workers live after all, it settles nothing.
      const { rowCount } = await connection.query(
        `update jobs.job set state = 'retry', retry_count = retry_count + 1, start_after = now()
         where state = 'active'`,
      );
      if (rowCount !== null && rowCount > 0) logger.info({ jobs: rowCount }, "took back the jobs of a crashed worker");
    }
    await lockSession(connection, LOCKS.workers, "shared");
    if (alone) await unlockSession(connection, LOCKS.workers);
  } catch (error) {
    connection.release(true);
    throw error;
  }
  // Destroyed, not handed back: the lock is the session's.
  return { [Symbol.dispose]: () => connection.release(true) };
}
