// One build of read models: shadow tables, how far they are, and how they take the place of the live ones.
import type pg from "pg";
import { failpoint } from "../platform/failpoint.ts";
import { backoffMs, pause } from "../platform/supervise.ts";
import { type Checkpoint, isAfter, numberOf } from "./consumer.ts";
import { type Projection, tableName } from "./projection.ts";
import { GROUP, type GroupState, type ProjectionDependencies, readGroup } from "./projector.ts";
import { ShadowTables } from "./shadow-tables.ts";
import { existingTables, replaceTable } from "./tables.ts";
import { type Comparison, compareTables, type Difference } from "./verify.ts";

/** How long the swap waits for queries that still read the old tables, before it lets the live group go on and tries again. */
const SWAP_LOCK_TIMEOUT = "500ms";
const MAX_SWAP_TRIES = 60;
/** So few events are folded while the group is held. */
const NEARLY_CAUGHT_UP = 500;
const MAX_CATCH_UP_ROUNDS = 20;

/** How far a build is. `total` is where the log ended when it was last asked; both are positions, to be compared only. */
export type Progress = { readonly done: number; readonly total: number; readonly events: number };

export type Rebuilt = {
  readonly tables: readonly string[];
  readonly events: number;
  readonly position: Checkpoint;
  /** With `verify`: of each table, how many rows differ; the first of them are in `differences`. */
  readonly compared: readonly Comparison[];
  readonly differences: readonly Difference[];
};

/** The old tables could not be had for a moment: somebody reads them all the time. The live ones are as they were. */
export class SwapFailed extends Error {
  override readonly name = "SwapFailed";
}

/** Made for one build. Works on the given connection, which nobody else may use meanwhile. */
export class Build {
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
      failpoint("shadow-rows/indexes");
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
    failpoint("built/swap");
    for (let tries = 1; ; tries += 1) {
      const events = this.#events;
      await client.query("begin");
      try {
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
        await client.query("commit");
        failpoint("swap-committed/done");
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
