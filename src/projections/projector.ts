// The projector: keeps the stored read models up to date, rows and checkpoint of all of them in one statement.
import type pg from "pg";
import { z } from "zod";
import { type EventStore, type Position, parsePosition } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import { holds, type Lease, type LeaseTerm } from "../platform/leader.ts";
import type { WarnLogger } from "../platform/supervise.ts";
import { type Checkpoint, Consumer, FenceLost, isAfter } from "./consumer.ts";
import { decodeFor, foldBatch } from "./fold.ts";
import { type Projection, tableName } from "./projection.ts";
import type { Queryable } from "./read-as.ts";
import { Parameters, type TableWrite, writeParts } from "./row-store.ts";

/** Events a batch. */
const MAX_BATCH = 500;
/** A batch of one event costs as much as the rows of some fifty events more, and under load there would be no end of them. */
const LINGER_MS = 20;

/** What read models are folded from and kept in, and which ones. */
export type ProjectionDependencies = {
  readonly pool: pg.Pool;
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly logger: WarnLogger;
  readonly projections: readonly Projection[];
};

type ProjectorOptions = {
  readonly lease?: Lease;
  /** Called with the checkpoint at which a run begins, and with each one that it writes. */
  readonly onMoved?: (checkpoint: Checkpoint) => void;
  /** Whether somebody waits for the next batch. */
  readonly isAwaited?: () => boolean;
};

/** A consumer that keeps the read models; any number of processes may run one. */
export function createProjector(dependencies: ProjectionDependencies, options: ProjectorOptions = {}): Consumer {
  const { pool, store, keyring, logger, projections } = dependencies;
  const { onMoved = () => {}, ...consumer } = options;
  return new Consumer({
    ...{ name: "projections", store, logger, maxBatch: MAX_BATCH, lingerMs: LINGER_MS, ...consumer },
    async open(term) {
      const group = await openGroup(pool, store);
      const missing = projections.map(tableName).filter((table) => !group.tables.has(table));
      if (missing.length > 0)
        throw new Error(`another version took over: the group no longer keeps ${missing.join(", ")}`);
      let fence: Fence = group;
      onMoved(group.checkpoint);
      return {
        after: group.checkpoint,
        async handle({ events, upTo }) {
          const decoded = await decodeFor(keyring, projections, events);
          const writes = await foldBatch(pool, projections, decoded);
          failpoint("rows-folded/rows-committed");
          const committed = await commitBatch(pool, fence, upTo, writes, term);
          if (!committed) throw new FenceLost("another process moved the checkpoint, swapped the tables or leads");
          failpoint("rows-committed/waiters-told");
          fence = { ...fence, checkpoint: upTo };
          onMoved(upTo);
        },
      };
    },
  });
}

export const GROUP = "stored";

/** What a writer must know to write: it writes nothing when this no longer holds. */
export type Fence = { readonly checkpoint: Checkpoint; readonly generation: number };
/** `tables`: those that the checkpoint is true of. */
export type GroupState = Fence & { readonly logId: string; readonly tables: ReadonlySet<string> };

/** The read models were made from another log, or from events that this log no longer has. */
export class ForeignCheckpoint extends Error {
  override readonly name = "ForeignCheckpoint";
}

const RowSchema = z.object({
  log_id: z.string(),
  checkpoint: z.custom<Position>((value) => typeof value === "string" && parsePosition(value) !== undefined).nullable(),
  generation: z.coerce.number(),
  tables: z.array(z.string()),
});

/** Where the group is; undefined when it was never begun. */
export async function readGroup(db: Queryable): Promise<GroupState | undefined> {
  const { rows } = await db.query("select log_id, checkpoint, generation, tables from read.groups where name = $1", [
    GROUP,
  ]);
  if (rows[0] === undefined) return undefined;
  const { log_id, checkpoint, generation, tables } = RowSchema.parse(rows[0]);
  return { logId: log_id, checkpoint: checkpoint ?? "start", generation, tables: new Set(tables) };
}

/** Where the group is, begun when it never was. Throws ForeignCheckpoint. */
export async function openGroup(pool: pg.Pool, store: EventStore): Promise<GroupState> {
  await pool.query(
    "insert into read.groups (name, log_id, generation, tables) values ($1, $2, 1, '{}') on conflict do nothing",
    [GROUP, store.logId],
  );
  const group = await readGroup(pool);
  if (group === undefined) throw new Error("the group of read models was removed while it was opened");
  await checkGroup(group, store);
  return group;
}

/** Throws ForeignCheckpoint when the group was not made from this log. */
export async function checkGroup(group: GroupState, store: EventStore): Promise<void> {
  // fence: projection-log-id
  if (group.logId !== store.logId) {
    throw new ForeignCheckpoint(
      `the read model is of log ${group.logId}, but the log is ${store.logId}; drop the schema "read" to build it anew`,
    );
  }
  if (isAfter(group.checkpoint, await store.tail())) {
    throw new ForeignCheckpoint(
      `the read model is at ${group.checkpoint}, beyond the log's end; drop the schema "read" to build it anew`,
    );
  }
}

/** Statements that PostgreSQL may keep planned, for each connection; planning one costs as much as writing a row or two. */
const MAX_PLANNED = 64;
const planned = new Map<string, string>();

/** A name for a statement that comes again with other values; undefined, so that it is planned anew, when there are too many. */
function planOf(text: string): string | undefined {
  const known = planned.get(text);
  if (known !== undefined || planned.size >= MAX_PLANNED) return known;
  const name = `chatapi-batch-${planned.size}`;
  planned.set(text, name);
  return name;
}

/**
 * Moves the checkpoint and writes the rows, in one statement. Returns false, and nothing is written, when the fence or the
 * lease no longer holds. The checkpoint's table is named, and so locked, first: a swap that waits for it meets no deadlock.
 * The commit is not waited for on disk: when the database dies, rows and checkpoint go back together, and the log has the rest.
 */
export async function commitBatch(
  db: Queryable,
  fence: Fence,
  upTo: Position,
  writes: readonly TableWrite[],
  term?: LeaseTerm,
): Promise<boolean> {
  const parameters = new Parameters();
  const add = (value: unknown) => parameters.add(value);
  const from = fence.checkpoint === "start" ? null : fence.checkpoint;
  const moved = `update read.groups set checkpoint = ${add(upTo)} where name = ${add(GROUP)}
    and /* fence: projection-checkpoint */ checkpoint is not distinct from ${add(from)} /* end */ and /* fence: projection-generation */ generation = ${add(fence.generation)}
    ${term === undefined ? "" : `and /* fence: projection-lease */ ${holds(term, add)}`} returning 1`;
  const parts = writes.flatMap((write) =>
    writeParts(write, parameters, /* fence: projection-rows */ "exists (select from moved)"),
  );
  const steps = [`moved as (${moved})`, ...parts.map((part, number) => `w${number} as (${part})`)];
  const text = `with ${steps.join(",\n")}
    select count(*)::int as moved, set_config('synchronous_commit', 'off', true) from moved`;
  const name = planOf(text);
  const plan = name === undefined ? {} : { name };
  const { rows } = await db.query<{ moved: number }>({ ...plan, text, values: parameters.values });
  return rows[0]?.moved === 1;
}
