// Read models on which a missed event, one folded twice and one out of order show; and who moved their checkpoint.
import type { DomainEvent } from "../../../src/domain/catalogue.ts";
import { decode } from "../../../src/event-store/envelope.ts";
import type { EventStore } from "../../../src/event-store/event-store.ts";
import type { Keyring } from "../../../src/event-store/sealing.ts";
import { foldRows } from "../../../src/projections/fold.ts";
import { createGroups } from "../../../src/projections/group.ts";
import {
  change,
  integer,
  type Projection,
  projection,
  put,
  type Row,
  tableName,
  text,
} from "../../../src/projections/projection.ts";
import type { ProjectionDependencies } from "../../../src/projections/projector.ts";
import { buildMissing } from "../../../src/projections/rebuild.ts";
import { CLIENT, roomCreated, type Writer } from "../../projections/log.ts";
import type { TestDatabase } from "../../support/postgres.ts";

/** Of each stream, the revisions in the order in which they were folded. */
const trails = projection({
  name: "trails",
  version: 1,
  key: ["stream"],
  columns: { stream: text(), client: text(), trail: text() },
  indexes: [],
  personal: [],
  on: {
    RoomCreated: (e) => [put([e.stream], { client: CLIENT, trail: "0" })],
    RoomDeactivated: (e) => [change([e.stream], (row) => ({ ...row, trail: `${row.trail} ${e.revision}` }))],
    RoomActivated: (e) => [change([e.stream], (row) => ({ ...row, trail: `${row.trail} ${e.revision}` }))],
  },
});

/** Of each event, that it was there. */
const entries = projection({
  name: "entries",
  version: 1,
  key: ["stream", "revision"],
  columns: { stream: text(), revision: integer(), client: text(), position: text() },
  indexes: ["(client, position)"],
  personal: [],
  on: {},
  each: (e) => [put([e.stream, e.revision], { client: CLIENT, position: e.position })],
});

export const ledger: readonly Projection[] = [trails, entries];

/** The next event of a room: each is folded differently from the one before. */
export function nextEvent(written: number): DomainEvent {
  if (written === 0) return roomCreated();
  return { type: written % 2 === 1 ? "RoomDeactivated" : "RoomActivated", data: {} };
}

/** Writes the next events of one of some rooms. */
export function roomWriter(write: Writer): (room: number) => Promise<void> {
  const written = new Map<number, number>();
  return async (room) => {
    const before = written.get(room) ?? 0;
    written.set(room, before + 1);
    await write(`room-${room}`, [nextEvent(before)]);
  };
}

/** An empty schema with the ledger built from the log, in which each move of a checkpoint and each lease is noted. */
export async function newLedger(parts: ProjectionDependencies): Promise<void> {
  const { pool } = parts;
  await pool.query("drop schema if exists read cascade; drop schema if exists noted cascade");
  await createGroups(pool);
  await buildMissing(parts);
  await pool.query(`
    create schema noted;
    create table noted.leases (generation bigint primary key, process text, was_free boolean);
    create table noted.moves (id serial, before text, after text, process text, leader text);
    create function noted.lease() returns trigger language plpgsql as $$ begin
      insert into noted.leases
        values (new.generation, current_setting('application_name'),
                tg_op = 'INSERT' or old.expires_at <= clock_timestamp())
        on conflict do nothing;
      return null;
    end $$;
    create function noted.move() returns trigger language plpgsql as $$ begin
      insert into noted.moves (before, after, process, leader)
        values (old.checkpoint, new.checkpoint, current_setting('application_name'),
                (select process from noted.leases order by generation desc limit 1));
      return null;
    end $$;
    create trigger note after insert or update on read.leases for each row execute function noted.lease();
    create trigger note after update on read.groups for each row execute function noted.move();
  `);
}

export type Move = {
  readonly before: string | null;
  readonly after: string;
  readonly process: string;
  readonly leader: string | null;
};

/** Every move of the checkpoint, in order, with who made it and who led then. */
export async function movesOf({ pool }: TestDatabase): Promise<readonly Move[]> {
  return (await pool.query<Move>("select before, after, process, leader from noted.moves order by id")).rows;
}

type Lease = { readonly process: string; readonly wasFree: boolean };

/** Who led, one after the other, and whether the lease was free when each took it. */
export async function leasesOf({ pool }: TestDatabase): Promise<readonly Lease[]> {
  return (await pool.query<Lease>('select process, was_free as "wasFree" from noted.leases order by generation')).rows;
}

const sorted = (rows: readonly Row[]) => rows.map((row) => JSON.stringify(row)).toSorted();

/** What the tables hold, beside what a fold of the log from nothing gives. */
export async function bothLedgers(database: TestDatabase, store: EventStore, keyring: Keyring) {
  const recorded = await store.readAll({ after: "start", limit: 10_000 });
  const stored = await decode(keyring, recorded);
  const kept: Record<string, readonly string[]> = {};
  const folded: Record<string, readonly string[]> = {};
  for (const one of ledger) {
    kept[one.name] = sorted((await database.pool.query<Row>(`select * from read.${tableName(one)}`)).rows);
    folded[one.name] = sorted(foldRows(one, stored));
  }
  return { kept, folded };
}
