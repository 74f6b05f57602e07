// The projector: keeps the stored read models up to date, rows and checkpoint of all of them in one statement.
import type pg from "pg";
import type { EventStore } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { Lease } from "../platform/leader.ts";
import type { WarnLogger } from "../platform/supervise.ts";
import { type Checkpoint, Consumer, FenceLost } from "./consumer.ts";
import { decodeFor, foldBatch } from "./fold.ts";
import { commitBatch, type Fence, openGroup } from "./group.ts";
import { type Projection, tableName } from "./projection.ts";

/** Events a batch. */
const MAX_BATCH = 500;
/** A batch of one event costs as much as the rows of some fifty events more, and under load there would be no end of them. */
const LINGER_MS = 20;

/** What read models are folded from and kept in, and which ones. */
export type ProjectionDependencies = {
  readonly pool: pg.Pool;
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly logger: WarnLogger & { info?(fields: object, message: string): void };
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
          failpoint("rows-committed/waiters-notified");
          fence = { ...fence, checkpoint: upTo };
          onMoved(upTo);
        },
      };
    },
  });
}
