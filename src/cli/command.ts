// What commands share: the stores they open, the progress they show, and how their errors end the process.

import pino from "pino";
import { ConfigError, readConfig } from "../config.ts";
import { DataFolderInUse } from "../embedded/data-folder.ts";
import { runningEmbeddedPostgres } from "../embedded/postgres.ts";
import { findPostgresHome } from "../embedded/postgres-home.ts";
import { OutcomeUnknown, StoreUnavailable, WrongExpectedRevision } from "../event-store/event-store.ts";
import { KeyConflict } from "../event-store/key-transfer.ts";
import { StoresDiffer } from "../event-store/keyring.ts";
import { WrongEncryptionKeys } from "../event-store/wrapped-keys.ts";
import { createLogger } from "../platform/logger.ts";
import { NoFence } from "../projections/fence.ts";
import { ForeignCheckpoint } from "../projections/group.ts";
import { openStorage, type Storage } from "../storage.ts";
import { ImportError } from "./events-import.ts";

// How commands end: the exit codes that scripts rely on, and what is printed on the way.

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

/** Set-up errors: nothing was done. Exit code 78. */
const SETUP_ERRORS = [ConfigError, DataFolderInUse, ForeignCheckpoint, NoFence, StoresDiffer];
/** Errors whose message is enough for an operator: printed without a stack. */
const EXPECTED_ERRORS = [
  ImportError,
  KeyConflict,
  OutcomeUnknown,
  StoreUnavailable,
  WrongEncryptionKeys,
  WrongExpectedRevision,
];

/** An error of the operating system or of PostgreSQL: a missing file, a full disk, an unreachable server. */
const isEnvironmental = (error: Error): boolean =>
  "code" in error && typeof error.code === "string" && /^(E(?!RR_)[A-Z]+|[0-9A-Z]{5})$/.test(error.code);

const FILE_FAULTS: Readonly<Record<string, string>> = {
  EEXIST: "exists already; name a new file",
  ENOENT: "is not there",
  EACCES: "may not be opened by this user",
  EISDIR: "is a folder",
  ENOSPC: "does not fit: the disk is full",
};

/** The message; of a file what is wrong with it; of several attempts in one (a name with two addresses) those of each. */
function messageOf(error: Error): string {
  const { code, path } = error as NodeJS.ErrnoException;
  const fault = FILE_FAULTS[code ?? ""];
  if (fault !== undefined && path !== undefined) return `${path} ${fault}`;
  return error.message !== "" || !(error instanceof AggregateError)
    ? error.message
    : error.errors.map(String).join("; ");
}

/** Runs a command and ends the process with its exit code. What an operator can act on is one line, without a stack. */
export async function run(command: () => Promise<number> | number): Promise<void> {
  try {
    process.exitCode = await command();
  } catch (error) {
    process.exitCode = failure(error);
  }
}

function failure(error: unknown): number {
  if (!(error instanceof Error)) return fail(String(error), EXIT.failed);
  if (SETUP_ERRORS.some((kind) => error instanceof kind)) return fail(error.message, EXIT.config);
  if (EXPECTED_ERRORS.some((kind) => error instanceof kind) || isEnvironmental(error))
    return fail(messageOf(error), EXIT.failed);
  return fail(error.stack ?? error.message, EXIT.failed);
}

type Progress = { update(done: number, total?: number): void; stop(): void };

/** A bar on standard error, where a person watches; nothing for scripts. */
export async function progress(unit: string, quiet: boolean): Promise<Progress> {
  if (quiet || !process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  const format = `{bar} {percentage}% | {value}/{total} ${unit} | {duration_formatted}`;
  const { default: cliProgress } = await import("cli-progress");
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

/** Opens the stores, runs the command, closes them. Without a running server it starts the embedded PostgreSQL itself. */
export async function withStorage(
  command: (storage: Storage) => Promise<number>,
  { importing = false } = {},
): Promise<number> {
  const config = readConfig(process.env);
  const logger = createLogger(config.logLevel === "info" ? "warn" : config.logLevel, pino.destination(2));
  if (config.databaseUrl === undefined && !importing && (await findPostgresHome(config.dataDir)) === undefined) {
    throw new ConfigError(`DATA_DIR: there is no database in ${config.dataDir}`);
  }
  const running =
    config.databaseUrl === undefined ? await runningEmbeddedPostgres(config.dataDir).catch(() => undefined) : undefined;
  await using storage = await openStorage({
    config,
    logger,
    importing,
    ...(running === undefined ? {} : { databaseUrl: running }),
  });
  return await command(storage);
}
