// The read side of a node: keeps the read models up to date, hands out handles for reading, and waits for positions.
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientId } from "../contract/ids.ts";
import { type Position, parsePosition } from "../event-store/event-store.ts";
import { failpoint } from "../platform/failpoint.ts";
import { Leader } from "../platform/leader.ts";
import { messageOf, pause } from "../platform/supervise.ts";
import { type Checkpoint, checkGroup, GROUP, type GroupState, isAfter, openGroup, readGroup } from "./checkpoint.ts";
import { tableName } from "./projection.ts";
import { type OperatorRead, type ReadAs, readAs, readAsOperator } from "./read-as.ts";
import { buildMissing } from "./rebuild.ts";
import { type ProjectionDependencies, Runner, type RunnerState } from "./runner.ts";
import { createGroups, existingTables } from "./tables.ts";
import { POLL_MS, Waiters } from "./waiters.ts";

export { ForeignCheckpoint } from "./checkpoint.ts";
export type { OperatorRead, ReadAs } from "./read-as.ts";

/** `standby`: another process keeps the read models, this one follows and may take over. `following`: it only follows. */
type ReadSideState = RunnerState | "building" | "standby" | "following";

type ReadSideStatus = {
  readonly name: string;
  readonly state: ReadSideState;
  readonly checkpoint: Checkpoint;
  /** How far the checkpoint is behind the log's end, in positions; null when the end cannot be read now. */
  readonly lag: number | null;
  readonly lastError: string | null;
};

export interface ReadSide extends AsyncDisposable {
  /**
   * Makes the tables that are missing, from the log, and stands for keeping them up; without the projector's role waits
   * until another process has made them. Throws ForeignCheckpoint, what the database or the log throw meanwhile, and the
   * signal's reason; from then on it is supervised and shows in `status`.
   */
  start(signal?: AbortSignal): Promise<void>;
  /**
   * Resolves when the read models have what was in the log at the time of the call. Throws when it is closed, and the
   * signal's reason.
   */
  caughtUp(signal?: AbortSignal): Promise<void>;
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

/** Carries the news that the read models have moved to other nodes, and theirs to this one. May lose any of it. */
type ReadWakeUps = {
  publish(topic: "read", position: Position): void;
  on(topic: "read", listener: () => void): Disposable;
};

type ReadSideOptions = {
  /** False: never builds nor writes, but follows what another process does. */
  readonly projector?: boolean;
  /** No other process works on this database: what a crashed one left is taken over at once. */
  readonly alone?: boolean;
  readonly wakeUps?: ReadWakeUps;
};

/** How often a node without the projector's role looks whether the tables have been made. */
const TABLES_POLL_MS = 250;

/** Opens the read side; nothing is read from the log before `start`. */
export async function openReadSide(parts: ProjectionDependencies, options: ReadSideOptions = {}): Promise<ReadSide> {
  const { pool, store, logger, projections } = parts;
  const { projector = true, alone = false, wakeUps } = options;
  await createGroups(pool);
  const waiters = new Waiters(async () => (await readGroup(pool))?.checkpoint ?? "start", logger);
  const following = wakeUps?.on("read", () => waiters.wake());
  const operator = readAsOperator(pool);
  const own = projections.map(tableName);
  const keepsOwn = (group: GroupState) => own.every((table) => group.tables.has(table));
  const fenced = async () => (await existingTables(pool, projections)).size === own.length;
  let building = false;
  let runner: Runner | undefined;
  let leader: Leader | undefined;
  const group = await readGroup(pool);
  if (group?.logId === store.logId) waiters.reached(group.checkpoint);

  function onMoved(checkpoint: Checkpoint): void {
    waiters.reached(checkpoint);
    failpoint("waiters-told/nodes-told");
    if (checkpoint !== "start") wakeUps?.publish("read", checkpoint);
  }

  async function build(): Promise<void> {
    await openGroup(pool, store);
    failpoint("group-opened/tables-built");
    building = true;
    try {
      await buildMissing(parts);
    } finally {
      building = false;
    }
    waiters.reached((await openGroup(pool, store)).checkpoint);
  }

  async function stand(): Promise<void> {
    const standing = new Leader({
      ...{ pool, logger, alone, table: "read.leases", name: leaseName(own) },
      lead: async (term) => {
        const leading = new Runner(parts, {
          ...{ onMoved, term, onFenceLost: () => standing.renewNow() },
          isAwaited: () => waiters.waiting,
        });
        leading.open();
        runner = leading;
        return leading;
      },
    });
    leader = standing;
    await standing.decided;
  }

  async function othersBuild(signal: AbortSignal | undefined): Promise<void> {
    for (let told = false; ; told = true) {
      signal?.throwIfAborted();
      const found = await readGroup(pool);
      if (found !== undefined) await checkGroup(found, store);
      if (found !== undefined && keepsOwn(found) && (await fenced())) return waiters.reached(found.checkpoint);
      if (!told) logger.warn({}, "waiting for a node with the role projector to build this version's read models");
      await pause(TABLES_POLL_MS, signal ?? NEVER);
    }
  }

  /** Of a process that does not keep the read models itself: what the table says. */
  async function othersState(): Promise<{ state: ReadSideState; lastError: string | null }> {
    const idle = projector ? "standby" : "following";
    try {
      const found = await readGroup(pool);
      if (found === undefined || !keepsOwn(found)) return { state: "superseded", lastError: null };
      waiters.reached(found.checkpoint);
      return { state: idle, lastError: leader?.lastError ?? null };
    } catch (error) {
      return { state: idle, lastError: messageOf(error) };
    }
  }

  const waitFor = async (position: Position, timeoutMs: number) => {
    const reached = waiters.waitFor(position, timeoutMs);
    if (waiters.waiting) runner?.hurry();
    return reached;
  };
  return {
    async start(signal) {
      if (!projector) return othersBuild(signal);
      await build();
      await stand();
    },
    async caughtUp(signal) {
      const tail = await store.tail();
      while (!(await waitFor(tail, CAUGHT_UP_LOOK_MS))) {
        signal?.throwIfAborted();
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
      const leading = leader?.leads === true ? runner : undefined;
      const started = leader !== undefined || !projector;
      const stopped = { state: "stopped", lastError: null } as const;
      const { state, lastError } = leading !== undefined ? leading.status() : started ? await othersState() : stopped;
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
      following?.[Symbol.dispose]();
      await leader?.[Symbol.asyncDispose]();
    },
  };
}

/** How long a start goes on waiting after it was told to stop. */
const CAUGHT_UP_LOOK_MS = 1_000;
const NEVER = new AbortController().signal;

/** A lease for each version: one that was taken over keeps its own, and the next one need not wait for it. */
const leaseName = (tables: readonly string[]): string =>
  `${GROUP}:${createHash("sha256").update(tables.toSorted().join()).digest("hex").slice(0, 16)}`;

const numberOf = (position: Checkpoint): number =>
  position === "start" ? 0 : Number(parsePosition(position)?.value ?? 0n);
