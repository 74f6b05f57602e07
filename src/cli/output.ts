// What commands print, and the exit codes that scripts can rely on.
import cliProgress from "cli-progress";
import { ConfigError } from "../config.ts";
import { DataFolderInUse } from "../embedded/folder-lock.ts";
import { WrongExpectedRevision } from "../event-store/event-store.ts";
import { KeyConflict } from "../event-store/keyring-moving.ts";
import { ImportError } from "./events-import.ts";

/** Exit codes, in the manner of sysexits. */
export const EXIT = { ok: 0, failed: 1, different: 2, notFound: 3, usage: 64, config: 78 } as const;

/** One line on standard output. */
export const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** One line on standard error; gives the exit code. */
export function fail(line: string, code: number = EXIT.usage): number {
  process.stderr.write(`${line}\n`);
  return code;
}

/** Runs a command and ends the process with its exit code. What an operator can act on is one line, without a stack. */
export async function run(command: () => Promise<number> | number): Promise<void> {
  try {
    process.exitCode = await command();
  } catch (error) {
    if (error instanceof ConfigError || error instanceof DataFolderInUse)
      process.exitCode = fail(error.message, EXIT.config);
    else if (error instanceof ImportError || error instanceof KeyConflict || error instanceof WrongExpectedRevision) {
      process.exitCode = fail(error.message, EXIT.failed);
    } else {
      process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
      process.exitCode = EXIT.failed;
    }
  }
}

type Progress = { update(done: number, total?: number): void; stop(): void };

/** A bar on standard error, where a person watches; nothing for scripts. */
export function progress(unit: string, quiet: boolean): Progress {
  if (quiet || !process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  const format = `{bar} {percentage}% | {value}/{total} ${unit} | {duration_formatted}`;
  const bar = new cliProgress.SingleBar({ format, hideCursor: true, stream: process.stderr, etaBuffer: 100 });
  bar.start(0, 0);
  return {
    update(done, total) {
      if (total !== undefined) bar.setTotal(total);
      else if (done > bar.getTotal()) bar.setTotal(done);
      bar.update(done);
    },
    stop: () => bar.stop(),
  };
}
