// Snapshots: a long stream's state as JSON, so that loading it does not mean reading it. Thrown away at will.
import type pg from "pg";
import { z } from "zod";
import type { Position } from "./event-store.ts";
import { CommandMemory, type Folded, MAX_BATCH } from "./folded.ts";

/** How states are kept. Both ways through JSON; `version` is the shape's. */
type SnapshotCodec<S> = {
  readonly version: number;
  readonly toJson: (state: S) => unknown;
  readonly fromJson: (json: unknown) => S;
};

/** Keeps the newest snapshot of each stream. Losing one costs time, never truth. */
export interface Snapshots {
  load<S>(stream: string, codec: SnapshotCodec<S>): Promise<Folded<S> | undefined>;
  save<S>(stream: string, codec: SnapshotCodec<S>, folded: Folded<S>): Promise<void>;
  discard(stream: string): Promise<void>;
}

const EnvelopeSchema = z.object({
  state: z.unknown(),
  revision: z.number(),
  at: z.number(),
  position: z.custom<Position>((value) => typeof value === "string"),
  forgotten: z.custom<Position>((value) => typeof value === "string").nullable(),
  commands: z.array(
    z.tuple([
      z.string(),
      z.object({ first: z.number(), last: z.number(), fingerprint: z.string() }),
      z.custom<Position>((value) => typeof value === "string"),
    ]),
  ),
});

/** Snapshots in the schema `read`, keyed by stream, log and state version; one of another log or version is not seen. */
export function postgresSnapshots(pool: pg.Pool, logId: string): Snapshots {
  const ready = pool.query(`
    create schema if not exists read;
    create table if not exists read.snapshots (
      stream text not null, log_id text not null, version int not null, body text not null,
      primary key (stream, log_id, version))`);
  ready.catch(() => undefined);
  return {
    async load(stream, codec) {
      await ready;
      const { rows } = await pool.query<{ body: string }>({
        name: "snapshot-load",
        text: "select body from read.snapshots where stream = $1 and log_id = $2 and version = $3",
        values: [stream, logId, codec.version],
      });
      const body = rows[0]?.body;
      if (body === undefined) return undefined;
      const { state, commands, forgotten, ...rest } = EnvelopeSchema.parse(JSON.parse(body));
      const memory = new CommandMemory(commands, forgotten);
      return {
        ...rest,
        state: codec.fromJson(state),
        commands: memory,
        snapshotAt: rest.revision,
        batchLimit: MAX_BATCH,
      };
    },
    async save(stream, codec, folded) {
      const { revision, at, position, commands } = folded;
      const body = JSON.stringify({
        state: codec.toJson(folded.state),
        ...{ revision, at, position },
        forgotten: commands.forgotten,
        commands: [...commands.entries()],
      });
      await ready;
      await pool.query({
        name: "snapshot-save",
        text: `insert into read.snapshots values ($1, $2, $3, $4)
               on conflict (stream, log_id, version) do update set body = excluded.body`,
        values: [stream, logId, codec.version, body],
      });
    },
    async discard(stream) {
      await ready;
      await pool.query("delete from read.snapshots where stream = $1", [stream]);
    },
  };
}
