// A stream's state at a revision, with the memory of the commands that led to it.

import type { Instant } from "../contract/time.ts";
import type { Decider, TimedCommand } from "../domain/decider.ts";
import type { StoredEvent } from "./envelope.ts";
import { NO_STREAM, type Position } from "./event-store.ts";

/** How many remembered commands a stream's state holds; older ones are asked of a projection. */
export const REMEMBERED_COMMANDS = 1_000;

/** The most commands that one append carries. */
export const MAX_BATCH = 500;

/** Where the events of a remembered command stand. */
export type RememberedCommand = { readonly first: number; readonly last: number; readonly fingerprint: string };

/** The remembered commands of a stream: its creation for ever, and the newest thousand. */
export class CommandMemory {
  readonly #recent: Map<string, RememberedCommand>;
  readonly #positions: Map<string, Position>;
  /** The position of the newest command that was forgotten: a miss says nothing about commands up to it. */
  forgotten: Position | null;

  constructor(
    entries: Iterable<readonly [string, RememberedCommand, Position]> = [],
    forgotten: Position | null = null,
  ) {
    this.#recent = new Map();
    this.#positions = new Map();
    this.forgotten = forgotten;
    for (const [id, command, position] of entries) this.#set(id, command, position);
  }

  get size(): number {
    return this.#recent.size;
  }

  find(commandId: string): RememberedCommand | undefined {
    return this.#recent.get(commandId);
  }

  /** Takes note of a recorded event's command, if it is one to be remembered. */
  note(commandId: string, fingerprint: string | undefined, revision: number, position: Position): void {
    if (fingerprint === undefined) return;
    const known = this.#recent.get(commandId);
    this.#set(commandId, { first: known?.first ?? revision, last: revision, fingerprint }, position);
    if (this.#recent.size > REMEMBERED_COMMANDS) this.#forgetOldest();
  }

  *entries(): IterableIterator<[string, RememberedCommand, Position]> {
    for (const [id, command] of this.#recent) {
      const position = this.#positions.get(id);
      if (position !== undefined) yield [id, command, position];
    }
  }

  #set(id: string, command: RememberedCommand, position: Position): void {
    this.#recent.set(id, command);
    this.#positions.set(id, position);
  }

  #forgetOldest(): void {
    for (const [id, command] of this.#recent) {
      if (command.first === 0) continue;
      this.forgotten = this.#positions.get(id) ?? this.forgotten;
      this.#recent.delete(id);
      this.#positions.delete(id);
      return;
    }
  }
}

/** `at` and `position` are those of the last event. */
export type Folded<S> = {
  readonly state: S;
  readonly revision: number;
  readonly at: Instant;
  readonly position: Position | null;
  /** Shared between the values of one stream and only added to. */
  readonly commands: CommandMemory;
  /** The revision of the newest snapshot. */
  readonly snapshotAt: number;
  /** How many commands the next batch may hold. */
  readonly batchLimit: number;
};

export const nothingFolded = <S>(initial: S): Folded<S> => ({
  state: initial,
  revision: NO_STREAM,
  at: 0,
  position: null,
  commands: new CommandMemory(),
  snapshotAt: NO_STREAM,
  batchLimit: MAX_BATCH,
});

/** Folds recorded events, in order, onto a state. */
export function foldRecorded<S, E extends { type: string; data: unknown }, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  from: Folded<S>,
  events: readonly StoredEvent<E>[],
): Folded<S> {
  let { state, revision, at, position } = from;
  for (const event of events) {
    state = decider.evolve(state, event, { seq: event.revision + 1, at: event.meta.at });
    ({ revision, position } = event);
    at = event.meta.at;
    from.commands.note(event.meta.command, event.meta.fingerprint, revision, position);
  }
  return { ...from, state, revision, at, position };
}
