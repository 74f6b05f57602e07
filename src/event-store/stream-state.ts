// The state of a stream at a revision, with the idempotency window of its commands.

import type { Instant } from "../contract/time.ts";
import type { Decider, TimedCommand } from "../domain/decider.ts";
import { isForged, type StoredEvent } from "./envelope.ts";
import { NO_STREAM, type Position } from "./event-store.ts";

/** Commands in a stream's idempotency window; older ones are looked up in a read model. */
const IDEMPOTENCY_WINDOW = 1_000;
/** The most commands of one append. */
export const MAX_BATCH = 500;

/** The events of a command that was done under an idempotency key: their first and last revision. */
export type PriorCommand = { readonly first: number; readonly last: number; readonly fingerprint: string };

/** The commands that a stream can answer again: its creation for ever, and the newest thousand. */
export class IdempotencyWindow {
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
