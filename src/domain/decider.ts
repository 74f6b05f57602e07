// The shape of an aggregate: pure functions that everything else is built around.

import type { FieldFault, ProblemCode } from "../contract/errors.ts";
import { MAX_META_BYTES, metaTooLarge } from "../contract/fields.ts";
import type { Subject } from "../contract/ids.ts";
import { faultsText } from "../contract/issues.ts";
import { type JsonObject, mergePatch } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import type { AnyEvent, EventCatalogue } from "./event.ts";

/** Where and when an event stands in its stream. `seq` is the revision + 1. */
export type EventContext = { readonly seq: number; readonly at: Instant };

/** What every command carries: the moment at which it is decided. */
export type TimedCommand = { readonly type: string; readonly at: Instant };

/** A command without what all of its kind are given alike. */
export type Bare<C, K extends PropertyKey> = C extends unknown ? Omit<C, K> : never;

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

/** The rules refuse the command; nothing is written. */
export class DomainError extends Error {
  override readonly name = "DomainError";
  readonly code: ProblemCode;
  /** Members added to the problem, such as `existing_id`. */
  readonly extra: Readonly<Record<string, string | number>>;
  constructor(code: ProblemCode, detail?: string, extra: Readonly<Record<string, string | number>> = {}) {
    super(detail ?? code);
    this.code = code;
    this.extra = extra;
  }
}

/** A field's value is against a rule that only the state can check; nothing is written. */
export class InvalidInput extends Error {
  override readonly name = "InvalidInput";
  readonly faults: readonly FieldFault[];
  constructor(faults: readonly FieldFault[]) {
    super(faultsText(faults));
    this.faults = faults;
  }
}

// Rules that several aggregates share.
/** The ETag that a change rests on, or several; null: whatever there is. */
export type IfMatch = number | readonly number[] | null;

/** Throws precondition_failed. */
export function requireMatch(ifMatch: IfMatch, etag: number): void {
  // fence: if-match
  if (ifMatch !== null && ![ifMatch].flat().includes(etag))
    throw new DomainError("precondition_failed", `the current ETag is "${etag}"`);
}

/** Throws precondition_failed for what exists already, where the command is to make something new. */
export function requireNew(onlyNew: boolean | undefined, exists: boolean): void {
  // fence: only-new
  if (onlyNew === true && exists) throw new DomainError("precondition_failed", "it exists already");
}

/** Throws InvalidInput when there is any fault. */
export function refuse(faults: readonly FieldFault[]): void {
  if (faults.length > 0) throw new InvalidInput(faults);
}

/** What is wrong with a meta that a patch was merged into. */
export const metaFaults = (meta: JsonObject): readonly FieldFault[] =>
  metaTooLarge(meta)
    ? [{ path: "meta", code: "too_long", message: `must have at most ${MAX_META_BYTES} bytes as JSON once merged` }]
    : [];

/** The meta with the changes of a merge patch; null clears it. Throws InvalidInput when it grows too large. */
export function mergeMeta(old: JsonObject, patch: JsonObject | null): JsonObject {
  const merged = patch === null ? {} : mergePatch(old, patch);
  refuse(metaFaults(merged));
  return merged;
}
