// Rebuilding read models from the log: beside the live tables, while these go on, and swapped in one moment.
import type pg from "pg";
import { LOCKS, lockSession, tryLockSession, unlockSession } from "../platform/locks.ts";
import { Build, type Progress, type Rebuilt } from "./build.ts";
import { type Projection, tableName } from "./projection.ts";
import { type GroupState, openGroup, type ProjectionDependencies } from "./projector.ts";
import { createGroups, existingTables } from "./tables.ts";

export { SwapFailed } from "./build.ts";

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
  const chosen = choose(projections, options.names);
  await createGroups(parts.pool);
  const group = await openGroup(parts.pool, parts.store);
  return withBuildLock(parts.pool, "fail", async (client) => {
    const live = await existingTables(parts.pool, projections);
    const missing = projections.filter((one) => !isCurrent(one, group, live));
    const build = new Build(parts, client, chosen, options.onProgress);
    // Without a group that goes on there is nothing to compare with or to wait for.
    return missing.length === projections.length ? build.found() : build.join(options.verify);
  });
}

/** Builds the read models that are not there, or that the checkpoint is not true of. Waits for others that build. */
export async function buildMissing(
  parts: ProjectionDependencies,
  onProgress?: (progress: Progress) => void,
): Promise<void> {
  const { projections } = parts;
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
    const build = new Build(parts, client, chosen, onProgress);
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
