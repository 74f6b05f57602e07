// How far each follower of the log among the workers has come: a checkpoint that moves in the transaction of what it led to.
import { type EventStore, type Position, parsePosition } from "../event-store/event-store.ts";
import { holds, type LeaseTerm } from "../platform/leader.ts";
import { FenceLost } from "../projections/consumer.ts";
import { ForeignCheckpoint } from "../projections/group.ts";
import type { Sql } from "./queue.ts";

type CheckpointStore = { readonly sql: Sql; readonly store: Pick<EventStore, "logId" | "tail"> };

/** Begins at `first`, or else at the log's end, when there is none yet. Throws ForeignCheckpoint. */
export async function openCheckpoint(options: CheckpointStore, name: string, first?: Position): Promise<Position> {
  const begin = first ?? (await options.store.tail());
  await options.sql.executeSql(
    "insert into jobs.reactor_checkpoints (name, position) values ($1, $2) on conflict do nothing",
    [name, begin],
  );
  return (await readCheckpoint(options, name)) ?? begin;
}

/** Undefined when there is none. Throws ForeignCheckpoint when it is another log's. */
export async function readCheckpoint({ sql, store }: CheckpointStore, name: string): Promise<Position | undefined> {
  const { rows } = await sql.executeSql("select position from jobs.reactor_checkpoints where name = $1", [name]);
  const position: Position | undefined = rows[0]?.position;
  if (position !== undefined && parsePosition(position)?.logId !== store.logId) {
    throw new ForeignCheckpoint(`the schema jobs belongs to another log than ${store.logId}: drop it to start afresh`);
  }
  return position;
}

type Move = {
  readonly name: string;
  readonly term: LeaseTerm | undefined;
  readonly from: Position;
  readonly to: Position;
};

/** Throws FenceLost when it is not where it was, or the term is over. */
export async function moveCheckpoint(sql: Sql, { name, term, from, to }: Move): Promise<void> {
  const values: unknown[] = [name, from, to];
  const add = (value: unknown) => `$${values.push(value)}`;
  const text = `update jobs.reactor_checkpoints set position = $3 where name = $1
    and /* fence: reactors-checkpoint */ position = $2 /* end */
    ${term === undefined ? "" : `and /* fence: reactors-lease */ ${holds(term, add)}`} returning name`;
  const { rows } = await sql.executeSql(text, values);
  if (rows.length === 0) throw new FenceLost(`another process moved the checkpoint of the ${name}, or leads`);
}
