// Appending to the Postgres log: against an INSERT a commit, and against the most that the table can take.
import { randomUUID } from "node:crypto";
import pg from "pg";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { interleave, perSecond } from "../harness/measure.ts";
import { type Goal, ratioRow } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import { appendsPerSecond } from "../support/appending.ts";
import { someEvent } from "../support/events.ts";

const ratio = { direction: "at least", unit: "x" } as const;
const against32: Goal = {
  ...ratio,
  name: "1 append to the Postgres log, 32 in flight, over one INSERT a commit",
  goal: 3,
};
const against256: Goal = { ...against32, name: "1 append, 256 in flight, over one INSERT a commit", goal: 6 };
const ceiling: Goal = { ...ratio, name: "2 append, 256 in flight, over multi-row inserts of 1,000", goal: 0.6 };

const CONNECTIONS = 32;
const MANY = 1_000;

/** The log's table and nothing else: what a table of events costs when nobody groups commits. */
const TABLE = `
  create table events (
    position bigint generated always as identity primary key,
    stream text collate "C" not null, revision integer not null, id uuid not null, type text collate "C" not null,
    data bytea not null, metadata bytea not null, recorded_at timestamptz(3) not null default clock_timestamp(),
    unique (stream, revision))`;
const INSERT = "insert into events (stream, revision, id, type, data, metadata)";

function oneInsertACommit(pool: pg.Pool, ms: number): Promise<number> {
  const lanes = Array.from({ length: CONNECTIONS }, () => ({ stream: `room-${randomUUID()}`, revision: 0 }));
  return perSecond(CONNECTIONS, ms, async (number) => {
    const lane = lanes[number];
    if (lane === undefined) return 0;
    const { id, type, data, metadata } = someEvent();
    const values = [lane.stream, lane.revision, id, type, data, metadata];
    await pool.query({ name: "insert-one", text: `${INSERT} values ($1, $2, $3, $4, $5, $6)`, values });
    lane.revision += 1;
    return 1;
  });
}

function manyRowsACommit(pool: pg.Pool, ms: number): Promise<number> {
  const text = `${INSERT} select * from unnest($1::text[], $2::int[], $3::uuid[], $4::text[], $5::bytea[], $6::bytea[])`;
  const revision = [0, 0];
  const streams = revision.map(() => Array.from({ length: MANY }, () => `room-${randomUUID()}`));
  return perSecond(revision.length, ms, async (lane) => {
    const events = Array.from({ length: MANY }, someEvent);
    const revisions = events.map(() => revision[lane] ?? 0);
    const values = [
      ...[streams[lane], revisions, events.map(({ id }) => id), events.map(({ type }) => type)],
      ...[events.map(({ data }) => data), events.map(({ metadata }) => metadata)],
    ];
    await pool.query({ name: "insert-many", text, values });
    revision[lane] = (revision[lane] ?? 0) + 1;
    return MANY;
  });
}

export const append: Subject = {
  name: "append",
  about: "appending to the Postgres log",
  goals: [against32, against256, ceiling],
  async run({ rounds, turnMs, postgres }) {
    await using database = await postgres.database();
    await using other = await postgres.database();
    await using store = await openPostgresLog({ url: database.url });
    const pool = new pg.Pool({ connectionString: other.url, max: CONNECTIONS });
    try {
      await pool.query(TABLE);
      const ours32 = "appends, 32 in flight";
      const ours256 = "appends, 256 in flight";
      const naive = "one INSERT a commit, 32 connections";
      const many = "inserts of 1,000 rows, 2 connections";
      const reached = await interleave(
        [
          { name: naive, turn: () => oneInsertACommit(pool, turnMs) },
          { name: ours32, turn: () => appendsPerSecond(store, 32, turnMs) },
          { name: ours256, turn: () => appendsPerSecond(store, 256, turnMs) },
          { name: many, turn: () => manyRowsACommit(pool, turnMs) },
        ],
        rounds,
      );
      return [
        ratioRow(against32, reached, ours32, naive),
        ratioRow(against256, reached, ours256, naive),
        ratioRow(ceiling, reached, ours256, many),
      ];
    } finally {
      await pool.end();
    }
  },
};
