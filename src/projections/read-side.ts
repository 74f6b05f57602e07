// The read side of a node: keeps the read models up to date, hands out handles for reading, and waits for positions.
import { createHash } from "node:crypto";
import type { ClientId } from "../contract/ids.ts";
import { type Position, parsePosition } from "../event-store/event-store.ts";
import { SharedSlots } from "../platform/bounded.ts";
import type { Bus } from "../platform/bus.ts";
import { failpoint } from "../platform/failpoint.ts";
import { IDLE_MS, Loop, messageOf, pause } from "../platform/supervise.ts";
import { type Checkpoint, type Consumer, isAfter, lagOf, PositionTracker } from "./consumer.ts";
import { checkGroup, createGroups, GROUP, type GroupState, openGroup, readGroup } from "./group.ts";
import { tableName } from "./projection.ts";
import { createProjector, type ProjectionDependencies } from "./projector.ts";
import { type OperatorRead, type Queryable, type ReadAs, readAs, readAsOperator, readSnapshotAs } from "./read-as.ts";
import { buildMissing } from "./rebuild.ts";
import { existingTables } from "./tables.ts";

export type { OperatorRead, ReadAs } from "./read-as.ts";

/** Connections for clients' queries, of the 20 of a node's pool: what is left is for the read models, jobs and keys. */
const READ_SLOTS = { total: 15, perKey: 6, maxWaiting: 1_000 };
/** How often the checkpoint's row is read while somebody waits: another process may be the one that moves it. */
const POLL_MS = 50;
/** After a failed read. Whoever waits gives up in time. */
const MAX_POLL_BACKOFF_MS = 1_000;
/** How often a node without the projector's role looks whether the tables have been made. */
const TABLES_POLL_MS = 250;
/** How long `caughtUp` goes on after it was told to stop. */
const CAUGHT_UP_STEP_MS = 1_000;

/**
 * `standby`: another process keeps the read models, this one may take over. `following`: this one only follows.
 * `superseded`: another version of this program has taken the tables over.
 */
type ReadSideState = ReturnType<Consumer["status"]>["state"] | "building" | "following" | "superseded";

type ReadSideStatus = {
  readonly name: string;
  readonly state: ReadSideState;
  readonly checkpoint: Checkpoint;
  /** How far the checkpoint is behind the log's end, in positions; null when the end cannot be read now. */
  readonly lag: number | null;
  readonly lastError: string | null;
};

type ReadSideOptions = {
  /** False: never builds nor writes, but follows what another process does. Default true. */
  readonly projector?: boolean;
  /** No other process works on this database: what a crashed one left is taken over at once. Default false. */
  readonly alone?: boolean;
  /** Tells other nodes that the read models have moved, or that somebody here waits for them. May lose any of it. */
  readonly wakeUps?: Bus;
};

/** Opens the read side; nothing is read from the log before `start`. */
export async function openReadSide(
  dependencies: ProjectionDependencies,
  options: ReadSideOptions = {},
): Promise<ReadSide> {
  const { pool, store } = dependencies;
  await createGroups(pool, dependencies.projections);
  const group = await readGroup(pool);
  return new ReadSide(dependencies, options, group?.logId === store.logId ? group.checkpoint : "start");
}

export class ReadSide implements AsyncDisposable {
  readonly #dependencies: ProjectionDependencies;
  readonly #tables: readonly string[];
  readonly #operator: OperatorRead;
  readonly #positions: PositionTracker;
  readonly #polling: Loop;
  readonly #slots = new SharedSlots(READ_SLOTS);
  readonly #wakeUps: Bus | undefined;
  readonly #listening = new DisposableStack();
  /** Undefined without the projector's role. */
  readonly #projector: Consumer | undefined;
  /** The newest position that another node waits for. */
  #awaited: Checkpoint = "start";
  #building = false;

  constructor(dependencies: ProjectionDependencies, options: ReadSideOptions, checkpoint: Checkpoint) {
    const { pool, logger, projections } = dependencies;
    const { projector = true, alone = false, wakeUps } = options;
    this.#dependencies = dependencies;
    this.#tables = projections.map(tableName);
    this.#operator = readAsOperator(pool);
    this.#positions = new PositionTracker(checkpoint);
    const poll = { name: "checkpoint poll", step: () => this.#poll(), maxBackoffMs: MAX_POLL_BACKOFF_MS };
    this.#polling = new Loop({ ...poll, logger });
    this.#wakeUps = wakeUps;
    if (wakeUps !== undefined) {
      this.#listening.use(wakeUps.on("moved", () => this.#polling.wake()));
      this.#listening.use(wakeUps.on("awaited", (position) => this.#awaitedElsewhere(position)));
    }
    if (!projector) return;
    this.#projector = createProjector(dependencies, {
      lease: { pool, table: "read.leases", name: leaseName(this.#tables), alone },
      onMoved: (position) => this.#moved(position),
      isAwaited: () => this.#positions.isAwaited || isAfter(this.#awaited, this.#positions.position),
    });
  }

  /**
   * Makes the tables that are missing, from the log, and competes for keeping them up; without the projector's role waits
   * until another process has made them. Throws ForeignCheckpoint, what the database or the log throw meanwhile, and the
   * signal's reason; from then on it is supervised and shows in `status`.
   */
  async start(signal?: AbortSignal): Promise<void> {
    if (this.#projector === undefined) return this.#othersBuild(signal);
    await this.#build();
    await this.#projector.start();
  }

  /**
   * Resolves when the read models have what was in the log at the time of the call. Throws when it is closed, and the
   * signal's reason.
   */
  async caughtUp(signal?: AbortSignal): Promise<void> {
    const tail = await this.#dependencies.store.tail();
    while (!(await this.waitFor(tail, CAUGHT_UP_STEP_MS))) {
      signal?.throwIfAborted();
      if (this.#positions.closed) throw new Error("the read side is closed");
      await pause(POLL_MS, signal ?? NEVER);
    }
  }

  /** How far the read models are known to be on this node. */
  checkpoint(): Checkpoint {
    return this.#positions.position;
  }

  /** Whether they reached the position within the time; at once when they have. It must be one of this log. */
  waitFor(position: Position, timeoutMs: number): Promise<boolean> {
    const arrival = this.#positions.waitFor(position, timeoutMs);
    if (!this.#positions.isAwaited) return arrival;
    if (this.#projector?.leads === true) {
      this.#projector.flushNow();
      this.#polling.wakeIn(POLL_MS);
    } else {
      // fence: look-first
      this.#polling.wake();
      this.#wakeUps?.publish("awaited", position);
    }
    return arrival;
  }

  /**
   * Compares a position that somebody sent: reached; ahead of the read models; beyond the log's end; foreign: of another
   * log, or none at all. Throws StoreUnavailable.
   */
  async compare(text: string): Promise<"reached" | "ahead" | "beyond" | "foreign"> {
    const { store } = this.#dependencies;
    const parsed = parsePosition(text);
    if (parsed === undefined || parsed.logId !== store.logId) return "foreign";
    const position = text as Position; // parsed just now
    if (!isAfter(position, this.#positions.position)) return "reached";
    if (this.#projector?.leads !== true) await this.#look();
    if (!isAfter(position, this.#positions.position)) return "reached";
    return isAfter(position, await store.tail()) ? "beyond" : "ahead";
  }

  async status(): Promise<ReadSideStatus> {
    const { state, lastError } = await this.#state();
    const { position } = this.#positions;
    const lag = await lagOf(this.#dependencies.store, position);
    return { name: GROUP, state: this.#building ? "building" : state, checkpoint: position, lag, lastError };
  }

  /** The only way for requests to read: knows its client. Once the signal is aborted, nobody reads the answers any more. */
  readAs(client: ClientId, signal?: AbortSignal): ReadAs {
    return readAs(this.#dependencies.pool, client, { slots: this.#slots, signal });
  }

  /** As `readAs`, but all answers are of one moment: the read models as they were at `upTo`. */
  snapshotAs<T>(client: ClientId, work: (read: ReadAs, upTo: Checkpoint) => Promise<T>): Promise<T> {
    const { pool } = this.#dependencies;
    const checkpoint = async (db: Queryable) => (await readGroup(db))?.checkpoint ?? "start";
    return readSnapshotAs(pool, client, { slots: this.#slots }, checkpoint, work);
  }

  /** Across clients: for workers, the directory and operators' tools. */
  operator(): OperatorRead {
    return this.#operator;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#positions[Symbol.dispose]();
    this.#listening.dispose();
    await Promise.all([this.#projector?.[Symbol.asyncDispose](), this.#polling[Symbol.asyncDispose]()]);
  }

  #awaitedElsewhere(position: Position): void {
    if (isAfter(position, this.#awaited)) this.#awaited = position;
    this.#projector?.flushNow();
  }

  #moved(checkpoint: Checkpoint): void {
    this.#positions.advance(checkpoint);
    failpoint("waiters-notified/nodes-notified");
    if (checkpoint !== "start") this.#wakeUps?.publish("moved", checkpoint);
  }

  async #poll(): Promise<number> {
    if (!this.#positions.isAwaited) return IDLE_MS;
    await this.#look();
    return POLL_MS;
  }

  async #look(): Promise<void> {
    const group = await readGroup(this.#dependencies.pool);
    this.#positions.advance(group?.checkpoint ?? "start");
  }

  async #build(): Promise<void> {
    const { pool, store } = this.#dependencies;
    await openGroup(pool, store);
    failpoint("group-opened/tables-built");
    this.#building = true;
    try {
      await buildMissing(this.#dependencies);
    } finally {
      this.#building = false;
    }
    this.#positions.advance((await openGroup(pool, store)).checkpoint);
  }

  async #othersBuild(signal: AbortSignal | undefined): Promise<void> {
    const { pool, store, logger, projections } = this.#dependencies;
    for (let warned = false; ; warned = true) {
      signal?.throwIfAborted();
      const group = await readGroup(pool);
      if (group !== undefined) await checkGroup(group, store);
      const kept = group !== undefined && this.#isKept(group);
      const fenced = kept && (await existingTables(pool, projections)).size === this.#tables.length;
      if (fenced) return this.#positions.advance(group.checkpoint);
      if (!warned) logger.warn({}, "waiting for a node with the role projector to build this version's read models");
      await pause(TABLES_POLL_MS, signal ?? NEVER);
    }
  }

  #isKept(group: GroupState): boolean {
    return this.#tables.every((table) => group.tables.has(table));
  }

  /** A process that does not keep the read models now learns from the group's row who does. */
  async #state(): Promise<Pick<ReadSideStatus, "state" | "lastError">> {
    const { state, lastError } = this.#projector?.status() ?? { state: "following" as const, lastError: null };
    if (state === "stopped" || state === "catching_up" || state === "live") return { state, lastError };
    try {
      const group = await readGroup(this.#dependencies.pool);
      if (group === undefined || !this.#isKept(group)) return { state: "superseded", lastError };
      this.#positions.advance(group.checkpoint);
      return { state, lastError };
    } catch (error) {
      return { state, lastError: messageOf(error) };
    }
  }
}

const NEVER = new AbortController().signal;

/** A lease for each version: one that was taken over keeps its own, and the next one need not wait for it. */
const leaseName = (tables: readonly string[]): string =>
  `${GROUP}:${createHash("sha256").update(tables.toSorted().join()).digest("hex").slice(0, 16)}`;
