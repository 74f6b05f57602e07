// The shape of an aggregate: pure functions that everything else is built around.

import type { Subject } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import type { AnyEvent, EventCatalogue } from "./event.ts";

/** Where and when an event stands in its stream. `seq` is the revision + 1. */
export type EventContext = { readonly seq: number; readonly at: Instant };

/** What every command carries: the moment at which it is decided. */
export type TimedCommand = { readonly type: string; readonly at: Instant };

/** Events of the same stream that a decision needs besides the state, by seq. */
export type PriorEvents<E> = ReadonlyMap<number, E>;

export type Decider<S, E extends AnyEvent, C extends TimedCommand> = {
  /** The aggregate's name, also the prefix of its streams. */
  readonly name: string;
  readonly events: EventCatalogue;
  readonly initial: S;
  readonly evolve: (state: S, event: E, context: EventContext) => S;
  /** The events that the command leads to; none when what it asks already holds. Throws DomainError. */
  readonly decide: (state: S, command: C, priorEvents: PriorEvents<E>) => readonly E[];
  /** The seqs of events that `decide` must be given for this command in this state. */
  readonly priorEvents?: (state: S, command: C) => readonly number[];
  /** Roughly what a state weighs in memory, in kilobytes, where it can be much more than one. */
  readonly weigh?: (state: S) => number;
  /** For streams that grow long: how their state is kept as JSON. Raise `version` whenever the state's shape changes. */
  readonly snapshot?: {
    readonly version: number;
    readonly toJson: (state: S) => unknown;
    readonly fromJson: (json: unknown) => S;
  };
};

/**
 * Who acts: a user by subject, an API key by its id, an operator by name, the system by the part of it. A user may do
 * what the rules allow that user; all others may do everything inside the client.
 */
export type Actor =
  | { readonly type: "user"; readonly id: Subject }
  | { readonly type: "key" | "operator" | "system"; readonly id: string };
