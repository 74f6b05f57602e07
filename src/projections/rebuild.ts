// Rebuilding read models from the log: beside the live tables, while these go on, and swapped in one moment.
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type EventStore, isFirstEvent } from "../event-store/event-store.ts";
import { failpoint } from "../platform/failpoint.ts";
import { LOCKS, lockSession, tryLockSession, unlockSession } from "../platform/locks.ts";
import { hasCode, transactionOn } from "../platform/postgres.ts";
import { backoffMs } from "../platform/supervise.ts";
import { type Checkpoint, isAfter, numberOf } from "./consumer.ts";
import { createGroups, GROUP, type GroupState, openGroup, readGroup } from "./group.ts";
import { type Projection, tableName, withDerived, withSources } from "./projection.ts";
import type { ProjectionDependencies } from "./projector.ts";
import { type Comparison, type Difference, ShadowTables } from "./shadow-tables.ts";
import { existingTables, replaceTable } from "./tables.ts";

/** How long the swap waits for queries that still read the old tables, before it lets the live group go on and tries again. */
const SWAP_LOCK_TIMEOUT = "500ms";
const MAX_SWAP_TRIES = 60;
/** So few events are folded while the group is held. */
const NEARLY_CAUGHT_UP = 500;
const MAX_CATCH_UP_ROUNDS = 20;

/** How far a build is. `total` is where the log ended when it was last asked; both are positions, to be compared only. */
type Progress = { readonly done: number; readonly total: number; readonly events: number };

type Rebuilt = {
  readonly tables: readonly string[];
  readonly events: number;
  readonly position: Checkpoint;
  /** With `verify`: of each table, how many rows differ; the first of them are in `differences`. */
  readonly compared: readonly Omit<Comparison, "differences">[];
  readonly differences: readonly Difference[];
};

/** The old tables could not be had for a moment: somebody reads them all the time. The live ones are as they were. */
export class SwapFailed extends Error {
  override readonly name = "SwapFailed";
}

type RebuildOptions = {
  /** Names of read models, or all of them. */
  readonly names: readonly string[] | "all";
  /** Compare with the live tables before they are replaced. */
  readonly verify: boolean;
  readonly onProgress?: (progress: Progress) => void;
};

/** No read model has this name; `known` are those that there are. */
export class UnknownProjection extends Error {
  override readonly name = "UnknownProjection";
  readonly known: readonly string[];
  constructor(name: string, known: readonly string[]) {
    super(`there is no projection ${name}; there are ${known.join(", ")}`);
    this.known = known;
  }
}

/** Another process builds read models of this database right now. */
export class RebuildRunning extends Error {
  override readonly name = "RebuildRunning";
}

/**
 * Rebuilds read models and swaps them in, also when they differ. It publishes nothing and sends nothing. The group may
 * run meanwhile, in any process. Throws UnknownProjection, RebuildRunning, SwapFailed, ForeignCheckpoint.
 */
export async function rebuild(parts: ProjectionDependencies, options: RebuildOptions): Promise<Rebuilt> {
  const { projections } = parts;
  const chosen = withSources(projections, choose(projections, options.names));
  await createGroups(parts.pool, projections);
  const group = await openGroup(parts.pool, parts.store);
  return withBuildLock(parts.pool, "fail", async (client) => {
    const live = await existingTables(parts.pool, projections);
    const missing = projections.filter((one) => !isCurrent(one, group, live));
    const build = new Build(parts, client, chosen, options.onProgress);
    // Without a group that goes on there is nothing to compare with or to wait for.
    return missing.length === projections.length ? build.found() : build.join(options.verify);
  });
}

/**
 * Builds the read models that are not there, or that the checkpoint is not true of, and what follows from them. Waits for
 * others that build.
 */
export async function buildMissing(
  parts: ProjectionDependencies,
  onProgress?: (progress: Progress) => void,
): Promise<void> {
  const { projections } = parts;
  const missing = async () => {
    const group = await openGroup(parts.pool, parts.store);
    const live = await existingTables(parts.pool, projections);
    const absent = projections.filter((one) => !isCurrent(one, group, live));
    return withDerived(projections, absent);
  };
  if ((await missing()).length === 0) return;
  await withBuildLock(parts.pool, "wait", async (client) => {
    const needed = await missing();
    if (needed.length === 0) return;
    const chosen = withSources(projections, needed);
    const about = { tables: chosen.map(tableName) };
    const message = "read models are built from the log";
    if (await isNew(parts.store)) parts.logger.info?.(about, message);
    else parts.logger.warn(about, message);
    const build = new Build(parts, client, chosen, onProgress);
    await (needed.length === projections.length ? build.found() : build.join(false));
  });
}

/** Whether the log has only its first event: a first start has nothing to warn of. */
const isNew = async (store: EventStore): Promise<boolean> =>
  (await store.readAll({ after: "start", limit: 2 })).every(isFirstEvent);

const isCurrent = (projection: Projection, group: GroupState, live: ReadonlySet<string>): boolean =>
  group.tables.has(tableName(projection)) && live.has(tableName(projection));

function choose(projections: readonly Projection[], names: RebuildOptions["names"]): readonly Projection[] {
  if (names === "all") return projections;
  return names.map((name) => {
    const found = projections.find((one) => one.name === name || tableName(one) === name);
    if (found !== undefined) return found;
    throw new UnknownProjection(
      name,
      projections.map((one) => one.name),
    );
  });
}

/** One build at a time in a database: shadows have names of their own, but only one set of them. */
async function withBuildLock<T>(
  pool: pg.Pool,
  whenTaken: "wait" | "fail",
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  try {
    if (whenTaken === "wait") await lockSession(client, LOCKS.build);
    else {
      const taken = await tryLockSession(client, LOCKS.build);
      // fence: build-lock
      if (!taken) throw new RebuildRunning("another process builds read models right now");
    }
    return await work(client);
  } finally {
    // Before the next process asks; when that fails, the lock goes with the connection.
    await unlockSession(client, LOCKS.build).catch(() => undefined);
    client.release(true);
  }
}

/** Made for one build. Works on the given connection, which nobody else may use meanwhile. */
class Build {
  readonly #parts: ProjectionDependencies;
  readonly #client: pg.PoolClient;
  /** The tables that this version of the code reads; any other is not kept up from the swap on. */
  readonly #own: ReadonlySet<string>;
  readonly #projections: readonly Projection[];
  readonly #shadow: ShadowTables;
  readonly #onProgress: (progress: Progress) => void;
  #position: Checkpoint = "start";
  #events = 0;

  constructor(
    parts: ProjectionDependencies,
    client: pg.PoolClient,
    projections: readonly Projection[],
    onProgress: (progress: Progress) => void = () => {},
  ) {
    this.#parts = parts;
    this.#client = client;
    this.#own = new Set(parts.projections.map(tableName));
    this.#projections = projections;
    this.#onProgress = onProgress;
    this.#shadow = new ShadowTables(parts, client, projections);
  }

  /** Builds the group's first tables; it begins where they end. */
  async found(): Promise<Rebuilt> {
    return this.#dropOnFailure(async () => {
      await this.#catchUp(() => this.#parts.store.tail());
      await this.#swap(async () => this.#position);
      return this.#result([]);
    });
  }

  /** Builds tables of a group that goes on; they take their place where its checkpoint is then. */
  async join(verify: boolean): Promise<Rebuilt> {
    return this.#dropOnFailure(async () => {
      await this.#catchUp(async () => (await this.#group()).checkpoint);
      const compared = verify ? await this.#compare() : [];
      await this.#swap(async ({ checkpoint }) => {
        this.#events += await this.#shadow.foldWithin(this.#position, checkpoint);
        return checkpoint;
      });
      return this.#result(compared);
    });
  }

  async #dropOnFailure(work: () => Promise<Rebuilt>): Promise<Rebuilt> {
    try {
      return await work();
    } catch (error) {
      await this.#shadow.drop().catch(() => undefined); // the next build drops them too
      throw error;
    }
  }

  #result(comparisons: readonly Comparison[]): Rebuilt {
    const tables = this.#projections.map(tableName);
    const differences = comparisons.flatMap((one) => one.differences);
    const compared = comparisons.map(({ table, rows, differing }) => ({ table, rows, differing }));
    return { tables, events: this.#events, position: this.#position, compared, differences };
  }

  async #group(): Promise<GroupState> {
    const group = await readGroup(this.#client);
    if (group === undefined) throw new Error("the group of read models was removed while it was rebuilt");
    return group;
  }

  /** Until little is left to fold. Indexes are made when most rows are there. */
  async #catchUp(target: () => Promise<Checkpoint>): Promise<void> {
    await this.#shadow.create();
    for (let round = 0; round < MAX_CATCH_UP_ROUNDS; round += 1) {
      const to = await target();
      const folded = await this.#shadow.fold(this.#position, to, (upTo, events) => {
        this.#position = upTo;
        this.#events += events;
        this.#onProgress({ done: numberOf(upTo), total: numberOf(to), events: this.#events });
      });
      failpoint("shadow-rows/indexes");
      if (round === 0) await this.#shadow.index();
      else if (folded < NEARLY_CAUGHT_UP) return;
    }
  }

  /** Both tables at one position: what the transaction's snapshot has of the live ones, and what it folds itself. */
  async #compare(): Promise<readonly Comparison[]> {
    const work = async () => {
      const { checkpoint } = await this.#group();
      const folded = await this.#shadow.foldWithin(this.#position, checkpoint);
      return { checkpoint, folded, compared: await this.#shadow.compare() };
    };
    const options = { isolation: "repeatable read", silenceMs: 0 } as const;
    const { checkpoint, folded, compared } = await transactionOn(this.#client, work, options);
    if (isAfter(checkpoint, this.#position)) this.#position = checkpoint;
    this.#events += folded;
    return compared;
  }

  /**
   * In one transaction that holds the group: brings the shadows to the given position, puts them in place, raises the
   * generation. Runners lock the group before any table, so that the two never wait for each other.
   */
  async #swap(bringTo: (group: GroupState) => Promise<Checkpoint>): Promise<void> {
    const client = this.#client;
    failpoint("built/swap");
    for (let tries = 1; ; tries += 1) {
      const events = this.#events;
      try {
        this.#position = await transactionOn(client, () => this.#replace(bringTo), { silenceMs: 0 });
        failpoint("swap-committed/done");
        return;
      } catch (error) {
        this.#events = events;
        if (!isLockTimeout(error)) throw error;
        if (tries >= MAX_SWAP_TRIES) throw new SwapFailed("the tables are in use all the time", { cause: error });
        await sleep(backoffMs(Math.min(tries, 3)));
      }
    }
  }

  async #replace(bringTo: (group: GroupState) => Promise<Checkpoint>): Promise<Checkpoint> {
    const client = this.#client;
    await client.query(`set local lock_timeout = '${SWAP_LOCK_TIMEOUT}'`);
    // fence: swap-lock
    await client.query("lock table read.groups in share row exclusive mode");
    const group = await this.#group();
    const checkpoint = await bringTo(group);
    for (const projection of this.#projections) {
      for (const statement of replaceTable(projection)) await client.query(statement);
    }
    const kept = [...group.tables].filter((table) => this.#own.has(table));
    const tables = [...new Set([...kept, ...this.#projections.map(tableName)])].sort();
    await client.query(
      "update read.groups set checkpoint = $2, generation = generation + 1, tables = $3 where name = $1",
      [GROUP, checkpoint === "start" ? null : checkpoint, tables],
    );
    failpoint("swap/commit");
    return checkpoint;
  }
}

const LOCK_NOT_AVAILABLE = "55P03";
const DEADLOCK = "40P01";
const isLockTimeout = (error: unknown): boolean => hasCode(error, LOCK_NOT_AVAILABLE, DEADLOCK);
