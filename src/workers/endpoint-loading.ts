// Where the fan-out begins: at its checkpoint, with the endpoints, their cursors and their open deliveries.

import { SECOND_MS } from "../contract/time.ts";
import { type EventStore, type Position, positionBefore } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { allCursors, FAN_OUT, furthest, putCursors } from "../projections/endpoint-cursors.ts";
import { allEndpoints, latestBatches, openEndpointDeliveries } from "../projections/models/endpoints.ts";
import { openCheckpoint, readCheckpoint } from "./checkpoints.ts";
import type { FanOutOptions, Following } from "./endpoint-requests.ts";
import { cursorOf, EndpointRoster } from "./endpoint-roster.ts";
import { inTransaction, onPool } from "./queue.ts";

const READS_AT_ONCE = 16;
/** How long it waits for the read model. */
const READ_WAIT_MS = 5 * SECOND_MS;

type LoadingOptions = Pick<FanOutOptions, "pool" | "readSide"> & {
  readonly store: Pick<EventStore, "logId" | "tail" | "readStream">;
};

/**
 * The checkpoint of the fan-out. When there is none, as on a fresh schema `jobs`, it begins at the log's end, and each
 * endpoint goes on behind the last delivery that it had. What comes meanwhile follows: an endpoint that is made now is
 * not among those with a cursor. Throws ForeignCheckpoint.
 */
export async function openFanOut(options: LoadingOptions): Promise<Position> {
  const { pool, store, readSide } = options;
  const known = await readCheckpoint({ sql: onPool(pool), store }, FAN_OUT);
  if (known !== undefined) return known;
  const tail = await store.tail();
  await awaitReadModel(options, tail);
  const operator = readSide.operator();
  const [rows, latest] = await Promise.all([allEndpoints(operator), latestBatches(operator)]);
  const requested = new Map(
    await mapBounded(latest, READS_AT_ONCE, async ({ id, batch_start: { stream, revision } }) => {
      const [event] = await store.readStream(stream, { from: revision, limit: 1 });
      return [id, event && positionBefore(event.position)] as const;
    }),
  );
  return inTransaction(pool, async (sql) => {
    const at = await openCheckpoint({ sql, store }, FAN_OUT, /* fence: fan-out-begin */ tail);
    const position = ({ id, start }: (typeof rows)[number]) => furthest(start, requested.get(id));
    await putCursors(
      sql,
      rows.map((row) => ({ endpoint: row.id, generation: row.generation, position: position(row) })),
    );
    return at;
  });
}

/**
 * What there is to follow from the checkpoint on. Deliveries that were requested, or have ended, behind the checkpoint are
 * known: what follows the log may have come further than it, and no event says so again.
 */
export async function loadRoster(options: LoadingOptions, at: Position): Promise<Following> {
  await awaitReadModel(options, await options.store.tail());
  const operator = options.readSide.operator();
  const [rows, known, open] = await Promise.all([
    allEndpoints(operator),
    allCursors(options.pool),
    openEndpointDeliveries(operator),
  ]);
  const roster = new EndpointRoster();
  const following: Following = { roster, pushed: at, cursors: new Map(), forgotten: new Set() };
  for (const row of rows) {
    const { id, generation } = row;
    const cursor = known.get(id);
    const { cursor: position } = roster.add(row, cursorOf(row, cursor, at));
    if (position !== null && cursor?.generation !== generation) {
      following.cursors.set(id, { endpoint: id, generation, position });
    }
  }
  for (const { endpoint_id, ...delivery } of open) {
    const followed = roster.get(endpoint_id);
    if (followed !== undefined) roster.opened(followed, delivery);
  }
  return following;
}

async function awaitReadModel({ readSide }: LoadingOptions, position: Position): Promise<void> {
  if (!(await readSide.waitFor(position, READ_WAIT_MS))) throw new Error("the read model is behind the fan-out");
}
