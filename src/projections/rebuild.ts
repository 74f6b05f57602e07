// Rebuilding read models from the log: beside the live tables, while these go on, and swapped in one moment.
import type pg from "pg";
import { backoffMs, pause } from "../event-store/backoff.ts";
import { parsePosition } from "../event-store/event-store.ts";
import { type Checkpoint, GROUP, type GroupState, isAfter, openGroup, readGroup } from "./checkpoint.ts";
import { storedProjections } from "./group.ts";
import { type Projection, tableName } from "./projection.ts";
import type { RunnerParts } from "./runner.ts";
import { ShadowTables } from "./shadow-tables.ts";
import { createGroups, existingTables, LOCK_CLASS, replaceTable } from "./tables.ts";
import { type Comparison, compareTables, type Difference } from "./verify.ts";

const BUILD_LOCK = 31;
/** How long the swap waits for queries that still read the old tables, before it lets the live group go on and tries again. */
const SWAP_LOCK_TIMEOUT = "500ms";
const MAX_SWAP_TRIES = 60;
/** So few events are folded while the group is held. */
const NEARLY_CAUGHT_UP = 500;
const MAX_CATCH_UP_ROUNDS = 20;

/** How far a build is. `total` is where the log ended when it was last asked; both are positions, to be compared only. */
export type Progress = { readonly done: number; readonly total: number; readonly events: number };

export type RebuildOptions = {
  /** Names of read models, or all of them. */
  readonly names: readonly string[] | "all";
  /** Compare with the live tables before they are replaced. */
  readonly verify: boolean;
  readonly onProgress?: (progress: Progress) => void;
};

export type Rebuilt = {
  readonly tables: readonly string[];
  readonly events: number;
  readonly position: Checkpoint;
  /** With `verify`: of each table, how many rows differ; the first of them are in `differences`. */
  readonly compared: readonly Comparison[];
  readonly differences: readonly Difference[];
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

/** The old tables could not be had for a moment: somebody reads them all the time. The live ones are as they were. */
export class SwapFailed extends Error {
  override readonly name = "SwapFailed";
}

/**
 * Rebuilds read models and swaps them in, also when they differ. It publishes nothing and sends nothing. The group may
 * run meanwhile, in any process. Throws UnknownProjection, RebuildRunning, SwapFailed, ForeignCheckpoint.
 */
export async function rebuild(
  parts: RunnerParts,
  options: RebuildOptions,
  projections: readonly Projection[] = storedProjections,
): Promise<Rebuilt> {
  const chosen = choose(projections, options.names);
  await createGroups(parts.pool);
  const group = await openGroup(parts.pool, parts.store);
  return withBuildLock(parts.pool, "fail", async (client) => {
    const live = await existingTables(parts.pool, projections);
    const missing = projections.filter((one) => !isCurrent(one, group, live));
    const build = new Build(parts, client, projections, chosen, options.onProgress);
    // Without a group that goes on there is nothing to compare with or to wait for.
    return missing.length === projections.length ? build.found() : build.join(options.verify);
  });
}

/** Builds the read models that are not there, or that the checkpoint is not true of. Waits for others that build. */
export async function buildMissing(
  parts: RunnerParts,
  projections: readonly Projection[],
  onProgress?: (progress: Progress) => void,
): Promise<void> {
  const missing = async () => {
    const group = await openGroup(parts.pool, parts.store);
    const live = await existingTables(parts.pool, projections);
    return projections.filter((one) => !isCurrent(one, group, live));
  };
  if ((await missing()).length === 0) return;
  await withBuildLock(parts.pool, "wait", async (client) => {
    const chosen = await missing();
    if (chosen.length === 0) return;
    parts.logger.warn({ tables: chosen.map(tableName) }, "read models are built from the log");
    const build = new Build(parts, client, projections, chosen, onProgress);
    await (chosen.length === projections.length ? build.found() : build.join(false));
  });
}

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
  taken: "wait" | "fail",
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  try {
    if (taken === "wait") await client.query("select pg_advisory_lock($1, $2)", [LOCK_CLASS, BUILD_LOCK]);
    else {
      const lock = await client.query<{ got: boolean }>("select pg_try_advisory_lock($1, $2) as got", [
        LOCK_CLASS,
        BUILD_LOCK,
      ]);
      if (lock.rows[0]?.got !== true) throw new RebuildRunning("another process builds read models right now");
    }
    return await work(client);
  } finally {
    // Given back before the next one asks; when that fails, it goes with the connection.
    await client.query("select pg_advisory_unlock_all()").catch(() => undefined);
    client.release(true);
  }
}

/** One build: shadow tables, how far they are, and how they take their place. */
class Build {
  readonly #parts: RunnerParts;
  readonly #client: pg.PoolClient;
  /** The tables that this version of the code reads; any other is not kept up from the swap on. */
  readonly #own: ReadonlySet<string>;
  readonly #projections: readonly Projection[];
  readonly #shadow: ShadowTables;
  readonly #onProgress: (progress: Progress) => void;
  #position: Checkpoint = "start";
  #events = 0;

  constructor(
    parts: RunnerParts,
    client: pg.PoolClient,
    all: readonly Projection[],
    projections: readonly Projection[],
    onProgress: (progress: Progress) => void = () => {},
  ) {
    this.#parts = parts;
    this.#client = client;
    this.#own = new Set(all.map(tableName));
    this.#projections = projections;
    this.#onProgress = onProgress;
    this.#shadow = new ShadowTables(parts, client, projections);
  }

  /** Builds the group's first tables; it begins where they end. */
  async found(): Promise<Rebuilt> {
    return this.#dropOnFailure(async () => {
      await this.#catchUp(() => this.#parts.store.tail());
      await this.#swap(async () => this.#position);
      return this.#result([], []);
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
      return this.#result(
        compared.map(({ differences: _, ...comparison }) => comparison),
        compared.flatMap(({ differences }) => differences),
      );
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

  #result(compared: readonly Comparison[], differences: readonly Difference[]): Rebuilt {
    const tables = this.#projections.map(tableName);
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
      if (round === 0) await this.#shadow.index();
      else if (folded < NEARLY_CAUGHT_UP) return;
    }
  }

  /** Both tables at one position: what the transaction's snapshot has of the live ones, and what it folds itself. */
  async #compare() {
    const client = this.#client;
    await client.query("begin isolation level repeatable read");
    try {
      const { checkpoint } = await this.#group();
      const folded = await this.#shadow.foldWithin(this.#position, checkpoint);
      const live = await existingTables(client, this.#projections);
      const compared: Awaited<ReturnType<typeof compareTables>>[] = [];
      for (const one of this.#projections) {
        if (live.has(tableName(one))) compared.push(await compareTables(client, one));
      }
      await client.query("commit");
      if (isAfter(checkpoint, this.#position)) this.#position = checkpoint;
      this.#events += folded;
      return compared;
    } catch (error) {
      await client.query("rollback").catch(() => undefined);
      throw error;
    }
  }

  /**
   * In one transaction that holds the group: brings the shadows to the given position, puts them in place, raises the
   * generation. Runners lock the group before any table, so that the two never wait for each other.
   */
  async #swap(bringTo: (group: GroupState) => Promise<Checkpoint>): Promise<void> {
    const client = this.#client;
    for (let tries = 1; ; tries += 1) {
      const events = this.#events;
      await client.query("begin");
      try {
        await client.query(`set local lock_timeout = '${SWAP_LOCK_TIMEOUT}'`);
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
        await client.query("commit");
        this.#position = checkpoint;
        return;
      } catch (error) {
        this.#events = events;
        await client.query("rollback").catch(() => undefined);
        if (!isLockTimeout(error)) throw error;
        if (tries >= MAX_SWAP_TRIES) throw new SwapFailed("the tables are in use all the time", { cause: error });
        await pause(backoffMs(Math.min(tries, 3)), NEVER);
      }
    }
  }
}

const NEVER = new AbortController().signal;
const LOCK_NOT_AVAILABLE = "55P03";
const DEADLOCK = "40P01";
const isLockTimeout = (error: unknown): boolean =>
  error instanceof Error && "code" in error && (error.code === LOCK_NOT_AVAILABLE || error.code === DEADLOCK);

const numberOf = (position: Checkpoint): number =>
  position === "start" ? 0 : Number(parsePosition(position)?.value ?? 0n);
