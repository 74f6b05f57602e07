// Runs commands one after another as the command side does, and checks what holds for every decider.
import { expect } from "vitest";
import type { Instant } from "../../src/contract/time.ts";
import {
  type Decider,
  DomainError,
  type EventContext,
  InvalidInput,
  type TimedCommand,
} from "../../src/domain/decider.ts";
import type { AnyEvent } from "../../src/domain/event.ts";
import { PersistentMap } from "../../src/domain/persistent-map.ts";
import { NOW } from "../support/given.ts";
import fc from "../support/seed.ts";

export type Recorded<E> = { readonly event: E; readonly context: EventContext };
/** A step of a random run: how long it waits, and the command it makes of what happened so far. */
export type Step<E, C> = { readonly pause: number; readonly command: (at: Instant, log: readonly Recorded<E>[]) => C };
export type Decided<S, E, C> = {
  readonly command: C;
  readonly before: S;
  readonly after: S;
  readonly events: readonly E[];
  /** All events up to and with this command's. */
  readonly log: readonly Recorded<E>[];
};

/** Decides one command against a log; a refusal writes nothing. Neither `decide` nor `evolve` may change what they get. */
export function decideOne<S, E extends AnyEvent, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  before: S,
  log: readonly Recorded<E>[],
  command: C,
): Decided<S, E, C> {
  const wanted = decider.priorEvents?.(before, command) ?? [];
  const priorEvents = new Map(
    wanted.flatMap((seq) => {
      const found = log[seq - 1];
      return found === undefined ? [] : [[seq, found.event] as const];
    }),
  );
  let events: readonly E[] = [];
  try {
    events = decider.decide(frozen(before), frozen(command), priorEvents);
  } catch (error) {
    if (!(error instanceof DomainError) && !(error instanceof InvalidInput)) throw error;
  }
  const added = events.map((event, index) => ({ event, context: { seq: log.length + index + 1, at: command.at } }));
  for (const { event } of added) expect(decider.events[event.type]?.data.safeParse(event.data).success).toBe(true);
  return { command, before, after: fold(decider, before, added), events, log: [...log, ...added] };
}

export const fold = <S, E extends AnyEvent, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  from: S,
  log: readonly Recorded<E>[],
): S => log.reduce((state, { event, context }) => decider.evolve(frozen(state), frozen(event), context), from);

/** Runs the steps; time never goes back. */
export function simulate<S, E extends AnyEvent, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  steps: readonly Step<E, C>[],
): readonly Decided<S, E, C>[] {
  const decided: Decided<S, E, C>[] = [];
  let at = NOW;
  for (const { pause, command } of steps) {
    at += pause;
    const last = decided.at(-1);
    const log = last?.log ?? [];
    decided.push(decideOne(decider, last?.after ?? decider.initial, log, command(at, log)));
  }
  return decided;
}

/** Checks every run of `steps`: `invariant` after each command, and what every decider promises. */
export function holds<S, E extends AnyEvent, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  steps: fc.Arbitrary<readonly Step<E, C>[]>,
  /** The commands that are meant to write again when they come again. */
  meantToRepeat: readonly C["type"][],
  invariant: (decided: Decided<S, E, C>) => void,
): void {
  fc.assert(
    // Without bias towards small values: they make short runs of refusals.
    fc.property(fc.noBias(steps), fc.nat(), (list, cut) => {
      const decided = simulate(decider, list);
      for (const [index, done] of decided.entries()) {
        invariant(done);
        const again = list[index]?.command(done.command.at, done.log);
        if (again === undefined || meantToRepeat.includes(again.type)) continue;
        expect(decideOne(decider, done.after, done.log, again).events, `${again.type} sent again`).toEqual([]);
      }
      const log = decided.at(-1)?.log ?? [];
      foldsInParts(decider, log, cut % (log.length + 1));
    }),
    { numRuns: 200 },
  );
}

/** Folding a prefix, putting it away as a snapshot where there are any, and then folding the rest gives the whole. */
function foldsInParts<S, E extends AnyEvent, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  log: readonly Recorded<E>[],
  cut: number,
): void {
  const prefix = fold(decider, decider.initial, log.slice(0, cut));
  const { snapshot } = decider;
  const kept = snapshot === undefined ? prefix : snapshot.fromJson(JSON.parse(JSON.stringify(snapshot.toJson(prefix))));
  expect(plain(kept)).toEqual(plain(prefix));
  expect(plain(fold(decider, kept, log.slice(cut)))).toEqual(plain(fold(decider, decider.initial, log)));
}

/** A state in which persistent maps are maps, so that it can be compared. */
export const plain = (value: unknown): unknown => {
  if (value instanceof PersistentMap) return new Map([...value.entries()].map(([key, one]) => [key, plain(one)]));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).map(([name, member]) => [name, plain(member)] as const);
  return members.toSorted(([one], [other]) => (one < other ? -1 : 1)); // the order of names means nothing
};

function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) frozen(member);
  }
  return value;
}
