// Snapshots: the state of a long stream at some of its revisions, so that loading it does not mean reading all of it.
import type pg from "pg";
import { z } from "zod";
import { parseJson } from "../contract/json.ts";
import { LOCKS, setUpInTransaction } from "../platform/locks.ts";
import type { Position } from "./event-store.ts";
import { IdempotencyWindow, MAX_BATCH, type StreamState } from "./stream-state.ts";

/** The most snapshots kept of one stream. */
const MAX_SNAPSHOTS = 16;

// A stream had one snapshot before, in read.snapshots.
const SCHEMA = `
  create schema if not exists read;
  create table if not exists read.stream_snapshots (
    stream text not null, log_id text not null, version int not null, revision bigint not null, body text not null,
    primary key (stream, log_id, version, revision));
  drop table if exists read.snapshots;
`;

/** How a decider's state becomes JSON and comes back; `version` is that of the state's shape. */
type SnapshotCodec<S> = {
  readonly version: number;
  readonly toJson: (state: S) => unknown;
  readonly fromJson: (json: unknown) => S;
};

/** Keeps snapshots of streams. Losing them costs time, never truth. */
export type Snapshots = ReturnType<typeof postgresSnapshots>;

const PositionSchema = z.custom<Position>((value) => typeof value === "string");
const BodySchema = z.object({
  state: z.unknown(),
  revision: z.number(),
  at: z.number(),
  position: PositionSchema,
  forgotten: PositionSchema.nullable(),
  commands: z.array(
    z.tuple([z.string(), z.object({ first: z.number(), last: z.number(), fingerprint: z.string() }), PositionSchema]),
  ),
});

/**
 * Snapshots in the schema `read`, by stream, log, state version and revision. Those of another log or state version are not
 * seen. Each stream keeps its newest snapshot and up to fifteen earlier ones, spread over its length.
 */
export function postgresSnapshots(pool: pg.Pool, logId: string) {
  const ready = setUpInTransaction(pool, LOCKS.readSchema, (client) => client.query(SCHEMA));
  ready.catch(() => undefined); // load and save throw it
  return {
    /** The newest snapshot at or before a revision. */
    async load<S>(stream: string, codec: SnapshotCodec<S>, revision: number): Promise<StreamState<S> | undefined> {
      await ready;
      const { rows } = await pool.query<{ body: string }>({
        name: "snapshot-load",
        text: `select body from read.stream_snapshots where stream = $1 and log_id = $2 and version = $3 and revision <= $4
               order by revision desc limit 1`,
        values: [stream, logId, codec.version, revision],
      });
      const body = rows[0]?.body;
      if (body === undefined) return undefined;
      const { state, commands, forgotten, ...event } = BodySchema.parse(parseJson(body));
      const idempotencyWindow = new IdempotencyWindow(commands, forgotten);
      const restored = { state: codec.fromJson(state), idempotencyWindow };
      return { ...event, ...restored, snapshotAt: event.revision, batchLimit: MAX_BATCH };
    },

    /** Saves a snapshot. Beyond MAX_SNAPSHOTS it deletes the one that leaves the smallest gap, never the newest. */
    async save<S>(stream: string, codec: SnapshotCodec<S>, { state, ...event }: StreamState<S>): Promise<void> {
      const { revision, at, position, idempotencyWindow } = event;
      const body = JSON.stringify({
        state: codec.toJson(state),
        ...{ revision, at, position },
        forgotten: idempotencyWindow.forgotten,
        commands: [...idempotencyWindow.entries()],
      });
      await ready;
      await pool.query({
        name: "snapshot-save",
        text: `insert into read.stream_snapshots (stream, log_id, version, revision, body) values ($1, $2, $3, $4, $5)
               on conflict (stream, log_id, version, revision) do update set body = excluded.body`,
        values: [stream, logId, codec.version, revision, body],
      });
      await pool.query({
        name: "snapshot-thin",
        text: `delete from read.stream_snapshots where stream = $1 and log_id = $2 and version = $3 and revision = (
                 select revision from (
                   select revision, count(*) over () as kept,
                     lead(revision) over by_revision - coalesce(lag(revision) over by_revision, 0) as gap
                   from read.stream_snapshots where stream = $1 and log_id = $2 and version = $3
                   window by_revision as (order by revision)) as spaced
                 where kept > $4 and gap is not null order by gap, revision limit 1)`,
        values: [stream, logId, codec.version, MAX_SNAPSHOTS],
      });
    },

    /** Deletes all snapshots of a stream. */
    async discard(stream: string): Promise<void> {
      await ready;
      await pool.query("delete from read.stream_snapshots where stream = $1", [stream]);
    },
  };
}
