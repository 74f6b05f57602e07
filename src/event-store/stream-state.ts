// The state of a stream at a revision, with the idempotency window of its commands: folded, kept as snapshots, loaded.

import type pg from "pg";
import { z } from "zod";
import { parseJson } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import type { Decider, TimedCommand } from "../domain/decider.ts";
import { failpoint } from "../platform/failpoint.ts";
import { LOCKS, setUpInTransaction } from "../platform/locks.ts";
import { decode, isForged, type StoredEvent } from "./envelope.ts";
import { type EventStore, NO_STREAM, type Position } from "./event-store.ts";
import type { Keyring } from "./sealing.ts";

/** Commands in a stream's idempotency window; older ones are looked up in a read model. */
const IDEMPOTENCY_WINDOW = 1_000;
/** The most commands of one append. */
export const MAX_BATCH = 500;

/** The events of a command that was done under an idempotency key: their first and last revision. */
export type PriorCommand = { readonly first: number; readonly last: number; readonly fingerprint: string };

/** The commands that a stream can answer again: its creation for ever, and the newest thousand. */
class IdempotencyWindow {
  readonly #commands: Map<string, PriorCommand & { readonly position: Position }>;
  /** The position of the newest command that left the window. A miss says nothing about commands up to it. */
  forgotten: Position | null;

  constructor(entries: Iterable<readonly [string, PriorCommand, Position]> = [], forgotten: Position | null = null) {
    this.#commands = new Map(Array.from(entries, ([id, command, position]) => [id, { ...command, position }]));
    this.forgotten = forgotten;
  }

  get size(): number {
    return this.#commands.size;
  }

  find(commandId: string): PriorCommand | undefined {
    return this.#commands.get(commandId);
  }

  /** Records the command of an event. Commands without a fingerprint came without an idempotency key and are left out. */
  record(commandId: string, fingerprint: string | undefined, revision: number, position: Position): void {
    if (fingerprint === undefined) return;
    const first = this.#commands.get(commandId)?.first ?? revision;
    this.#commands.set(commandId, { first, last: revision, fingerprint, position });
    if (this.#commands.size > IDEMPOTENCY_WINDOW) this.#forgetOldest();
  }

  /** As a snapshot keeps them: a storage format. */
  *entries(): IterableIterator<[string, PriorCommand, Position]> {
    for (const [id, { first, last, fingerprint, position }] of this.#commands) {
      yield [id, { first, last, fingerprint }, position];
    }
  }

  #forgetOldest(): void {
    for (const [id, { first, position }] of this.#commands) {
      if (first === 0) continue;
      this.forgotten = position;
      this.#commands.delete(id);
      return;
    }
  }
}

/** A stream's state after the event at `revision`, which has this time and position. */
export type StreamState<S> = {
  readonly state: S;
  readonly revision: number;
  readonly at: Instant;
  readonly position: Position | null;
  /** Shared by all states of one stream in memory, and only added to. */
  readonly idempotencyWindow: IdempotencyWindow;
  /** The revision of the newest snapshot. */
  readonly snapshotAt: number;
  /** The most commands that the next append may carry. */
  readonly batchLimit: number;
};

/** The state of a stream without events. */
export const emptyStream = <S>(initial: S): StreamState<S> => ({
  state: initial,
  revision: NO_STREAM,
  at: 0,
  position: null,
  idempotencyWindow: new IdempotencyWindow(),
  snapshotAt: NO_STREAM,
  batchLimit: MAX_BATCH,
});

export type AnyData = { type: string; data: unknown };

/** Folds the events that follow a state, in order. */
export function foldEvents<S, E extends AnyData, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  from: StreamState<S>,
  events: readonly StoredEvent<E>[],
): StreamState<S> {
  let { state, revision, at, position } = from;
  for (const event of events) {
    ({ revision, position } = event);
    // fence: forged-in-state
    if (isForged(event)) continue;
    state = decider.evolve(state, event, { seq: event.revision + 1, at: event.meta.at });
    at = event.meta.at;
    from.idempotencyWindow.record(event.meta.command, event.meta.fingerprint, revision, position);
  }
  return { ...from, state, revision, at, position };
}

// Snapshots: the state of a long stream at some of its revisions, so that loading it does not mean reading all of it.

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

// Loads the state of a stream: from the newest snapshot that can be used, and what follows it in the log.

const PAGE = 1_000;
/** A small first page: most reads find nothing new or load a short stream, and stores batch small reads of many streams. */
const FIRST_PAGE = 10;

export type LoaderDependencies = {
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly snapshots: Snapshots | undefined;
  readonly warn: (error: unknown, message: string) => void;
};

/** Reads one stream and folds it. */
export class StreamLoader<S, E extends AnyData, C extends TimedCommand> {
  readonly #dependencies: LoaderDependencies;
  readonly #decider: Decider<S, E, C>;
  readonly #stream: string;

  constructor(dependencies: LoaderDependencies, decider: Decider<S, E, C>, stream: string) {
    this.#dependencies = dependencies;
    this.#decider = decider;
    this.#stream = stream;
  }

  /** The state after `revision`, or at the stream's end: the newest snapshot up to there, and what follows it. */
  async load(revision = Number.MAX_SAFE_INTEGER): Promise<StreamState<S>> {
    return this.catchUp((await this.#snapshot(revision)) ?? emptyStream(this.#decider.initial), revision);
  }

  /** Folds what follows `from`, up to the revision `last` or the stream's end. */
  async catchUp(from: StreamState<S>, last = Number.MAX_SAFE_INTEGER): Promise<StreamState<S>> {
    let current = from;
    for (let page = FIRST_PAGE; current.revision < last; page = PAGE) {
      const limit = Math.min(page, last - current.revision);
      const events = await this.read(current.revision + 1, limit);
      current = foldEvents(this.#decider, current, events);
      if (events.length < limit) break;
    }
    return current;
  }

  /** At most `limit` events from a revision on. */
  async read(from: number, limit: number): Promise<readonly StoredEvent<E>[]> {
    const recorded = await this.#dependencies.store.readStream(this.#stream, { from, limit });
    return (await decode(this.#dependencies.keyring, recorded)) as unknown as readonly StoredEvent<E>[];
  }

  /** All events from a revision on. */
  async readToEnd(from: number): Promise<readonly StoredEvent<E>[]> {
    const events: StoredEvent<E>[] = [];
    for (;;) {
      const page = await this.read(from + events.length, PAGE);
      events.push(...page);
      if (page.length < PAGE) return events;
    }
  }

  /** Saves a snapshot of this state. A failure is logged and costs only time later. */
  async saveSnapshot(state: StreamState<S>): Promise<void> {
    const codec = this.#decider.snapshot;
    if (codec === undefined || state.position === null) return;
    failpoint("snapshot-due/written");
    await this.#dependencies.snapshots?.save(this.#stream, codec, state).catch((error: unknown) => {
      this.#dependencies.warn(error, "snapshot could not be saved; the next one is due in a thousand events");
    });
    failpoint("snapshot-written/next-command");
  }

  /** Deletes the stream's snapshots. */
  async discardSnapshots(): Promise<void> {
    await this.#dependencies.snapshots?.discard(this.#stream).catch((error: unknown) => {
      this.#dependencies.warn(error, "wrong snapshot could not be deleted; the stream is loaded again");
    });
  }

  async #snapshot(revision: number): Promise<StreamState<S> | undefined> {
    const codec = this.#decider.snapshot;
    if (codec === undefined) return undefined;
    return this.#dependencies.snapshots?.load(this.#stream, codec, revision).catch((error: unknown) => {
      this.#dependencies.warn(error, "snapshot could not be read; the stream is folded from its start");
      return undefined;
    });
  }
}
