// Specifications of deciders that read as sentences: given(decider, ...events).when(command).then(...events).
import { expect } from "vitest";
import type { FaultCode, ProblemCode } from "../../src/contract/errors.ts";
import type { Instant } from "../../src/contract/time.ts";
import {
  type Decider,
  DomainError,
  InvalidInput,
  type PriorEvents,
  type TimedCommand,
} from "../../src/domain/decider.ts";
import type { AnyEvent } from "../../src/domain/event.ts";

/** When everything in a specification happens, unless it says otherwise. */
export const NOW: Instant = Date.UTC(2026, 0, 1);

/** An event at another time than NOW. */
export type Timed<E> = { readonly at: Instant; readonly event: E };
export const at = <E>(time: Instant, event: E): Timed<E> => ({ at: time, event });

export type History<E> = readonly (E | Timed<E>)[];

/** The state after the events, whose seqs count from 1. */
export function stateAfter<S, E extends AnyEvent, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  history: History<E>,
): S {
  return timed(history).reduce(
    (state, { event, at: time }, index) => decider.evolve(state, event, { seq: index + 1, at: time }),
    decider.initial,
  );
}

const timed = <E>(history: History<E>): readonly Timed<E>[] =>
  history.map((one) =>
    typeof one === "object" && one !== null && "event" in one ? (one as Timed<E>) : at(NOW, one as E),
  );

/** Decides as the command side does: with the events that the decider asks for, and no others. */
export function decideAfter<S, E extends AnyEvent, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  history: History<E>,
  command: C,
): readonly E[] {
  const state = stateAfter(decider, history);
  const events = timed(history);
  const priorEvents: PriorEvents<E> = new Map(
    (decider.priorEvents?.(state, command) ?? []).flatMap((seq) => {
      const found = events[seq - 1];
      return found === undefined ? [] : [[seq, found.event] as const];
    }),
  );
  const decided = decider.decide(state, command, priorEvents);
  for (const { type, data } of decided) {
    const definition = decider.events[type];
    if (definition === undefined) throw new Error(`${decider.name} decided ${type}, which is none of its events`);
    definition.data.parse(data);
  }
  return decided;
}

export function given<S, E extends AnyEvent, C extends TimedCommand>(
  decider: Decider<S, E, C>,
  ...history: History<E>
) {
  return {
    when(command: C) {
      const attempt = () => decideAfter(decider, history, command);
      const refusal = (): unknown => {
        try {
          attempt();
        } catch (error) {
          return error;
        }
        return undefined;
      };
      return {
        /** The command leads to exactly these events. */
        // biome-ignore lint/suspicious/noThenProperty: awaited by mistake, it fails, because what awaits is no event.
        then: (...events: E[]) => expect(attempt()).toEqual(events),
        /** What it asks already holds. */
        thenNothing: () => expect(attempt()).toEqual([]),
        /** The rules forbid it. */
        thenRejected(code: ProblemCode, extra: DomainError["extra"] = {}) {
          const error = refusal();
          expect(error).toBeInstanceOf(DomainError);
          expect(error).toMatchObject({ code, extra });
        },
        /** A field is against a rule that only the state can check. */
        thenInvalid(path: string, code: FaultCode) {
          const error = refusal();
          expect(error).toBeInstanceOf(InvalidInput);
          expect(error).toMatchObject({ faults: [{ path, code }] });
        },
      };
    },
    /** What the events alone say. */
    thenState: (expected: object) => expect(stateAfter(decider, history)).toMatchObject(expected),
  };
}
