// The read side of a node: keeps the read models up to date, hands out handles for reading, and waits for positions.
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientId } from "../domain/ids.ts";
import type { OlderCommands } from "../event-store/decide-batch.ts";
import { type Position, parsePosition } from "../event-store/event-store.ts";
import { type Checkpoint, GROUP, isAfter, openGroup, readGroup } from "./checkpoint.ts";
import { findCommand } from "./command-ids.ts";
import { storedProjections } from "./group.ts";
import type { Projection } from "./projection.ts";
import { type OperatorRead, type ReadAs, readAs, readAsOperator } from "./read-as.ts";
import { buildMissing } from "./rebuild.ts";
import { Runner, type RunnerParts, type RunnerState } from "./runner.ts";
import { createGroups } from "./tables.ts";
import { POLL_MS, Waiters } from "./waiters.ts";

export { ForeignCheckpoint } from "./checkpoint.ts";
export type { OperatorRead, ReadAs } from "./read-as.ts";

/** How long a command's answer waits for the projection that knows older commands. */
const OLDER_COMMANDS_WAIT_MS = 5_000;

type ReadSideStatus = {
  readonly name: string;
  readonly state: RunnerState | "building";
  readonly checkpoint: Checkpoint;
  /** How far the checkpoint is behind the log's end, in positions; null when the end cannot be read now. */
  readonly lag: number | null;
  readonly lastError: string | null;
};

export interface ReadSide extends AsyncDisposable {
  /**
   * Makes the tables that are missing, from the log, and goes on from the checkpoint. Throws ForeignCheckpoint, and
   * what the database or the log throw while tables are made; from then on it is supervised and shows in `status`.
   */
  start(): Promise<void>;
  /** Resolves when the read models have what was in the log at the time of the call. Throws when it is closed. */
  caughtUp(): Promise<void>;
  /** How far they are known to be on this node. */
  checkpoint(): Checkpoint;
  /** Whether they reached the position within the time; at once when they have. It must be one of this log. */
  waitFor(position: Position, timeoutMs: number): Promise<boolean>;
  /**
   * Where a position stands that somebody sent: reached; ahead of the read models; beyond the log's end; foreign: of
   * another log, or none at all. Throws StoreUnavailable.
   */
  compare(position: string): Promise<"reached" | "ahead" | "beyond" | "foreign">;
  status(): Promise<ReadSideStatus>;
  /** The only way for requests to read: knows its client. */
  readAs(client: ClientId): ReadAs;
  /** Across clients: for workers, the directory and operators' tools. */
  operator(): OperatorRead;
}

/** Opens the read side; nothing is read from the log before `start`. `projections` is for tests. */
export async function openReadSide(
  parts: RunnerParts,
  projections: readonly Projection[] = storedProjections,
): Promise<ReadSide> {
  const { pool, store, logger } = parts;
  await createGroups(pool);
  const waiters = new Waiters(async () => (await readGroup(pool))?.checkpoint ?? "start", logger);
  const runner = new Runner(parts, projections, (checkpoint) => waiters.reached(checkpoint));
  const operator = readAsOperator(pool);
  let building = false;
  const group = await readGroup(pool);
  if (group?.logId === store.logId) waiters.reached(group.checkpoint);

  const waitFor = async (position: Position, timeoutMs: number) => waiters.waitFor(position, timeoutMs);
  return {
    async start() {
      await openGroup(pool, store);
      building = true;
      try {
        await buildMissing(parts, projections);
      } finally {
        building = false;
      }
      runner.start(await openGroup(pool, store));
    },
    async caughtUp() {
      const tail = await store.tail();
      while (!(await waiters.waitFor(tail, CAUGHT_UP_WAIT_MS))) {
        if (waiters.closed) throw new Error("the read side is closed");
        await sleep(POLL_MS);
      }
    },
    checkpoint: () => waiters.checkpoint,
    waitFor,
    async compare(text) {
      const parsed = parsePosition(text);
      if (parsed === undefined || parsed.logId !== store.logId) return "foreign";
      const position = text as Position; // parsed just now
      if (!isAfter(position, waiters.checkpoint)) return "reached";
      return isAfter(position, await store.tail()) ? "beyond" : "ahead";
    },
    async status() {
      const { state, lastError } = runner.status();
      const { checkpoint } = waiters;
      const lag = await store.tail().then(
        (tail) => Math.max(0, numberOf(tail) - numberOf(checkpoint)),
        () => null,
      );
      return { name: GROUP, state: building ? "building" : state, checkpoint, lag, lastError };
    },
    readAs: (client) => readAs(pool, client),
    operator: () => operator,
    async [Symbol.asyncDispose]() {
      waiters[Symbol.dispose]();
      await runner[Symbol.asyncDispose]();
    },
  };
}

const CAUGHT_UP_WAIT_MS = 60_000;

const numberOf = (position: Checkpoint): number =>
  position === "start" ? 0 : Number(parsePosition(position)?.value ?? 0n);

/**
 * Where commands are found that a stream's state has forgotten: only once the read model has come as far as the newest
 * forgotten one, for until then it could miss it.
 */
export function olderCommandsOf(readSide: Pick<ReadSide, "waitFor" | "operator">): OlderCommands {
  return async (commandId, folded, stream) => {
    const { forgotten } = folded.commands;
    if (forgotten === null) return undefined;
    if (!(await readSide.waitFor(forgotten, OLDER_COMMANDS_WAIT_MS))) {
      throw new Error("the read model that knows older commands is behind");
    }
    const found = await findCommand(readSide.operator(), commandId, stream);
    return found === undefined ? undefined : { first: found.first, last: found.last, fingerprint: found.fingerprint };
  };
}
