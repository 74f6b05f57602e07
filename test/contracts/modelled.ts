// The contract by model: random appends, some sent again, some in parallel, leave what a few arrays would hold.

import { expect, test } from "vitest";
import { type EventStore, type NewEvent, NO_STREAM, WrongExpectedRevision } from "../../src/event-store/event-store.ts";
import fc from "../support/seed.ts";
import { sized } from "../support/size.ts";
import { ids, newEvents, newStream } from "./subject.ts";

type Step =
  | { readonly kind: "append"; readonly stream: number; readonly off: number; readonly count: number }
  | { readonly kind: "again"; readonly which: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      stream: fc.nat({ max: 2 }),
      // How far from the stream's end the append expects it: mostly right.
      off: fc.oneof(
        { weight: 4, arbitrary: fc.constant(0) },
        { weight: 1, arbitrary: fc.integer({ min: -2, max: 2 }) },
      ),
      count: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("again" as const), which: fc.nat({ max: 20 }) }) },
);

type Sent = { readonly stream: string; readonly expected: number; readonly events: readonly NewEvent[] };

/**
 * `pipelined`: appends of one stream go out without waiting for each other, for adapters that keep their order. The
 * port does not promise that; different streams are always written at once.
 */
export function modelled(store: () => EventStore, { pipelined = false } = {}): void {
  test("leaves the events of the model in each stream and in the log", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { maxLength: 8 }), async (bursts) => {
        const names = [newStream(), newStream(), newStream()];
        const model = new Map(names.map((name) => [name, [] as string[]]));
        const sent: Sent[] = [];
        const after = await store().tail();
        for (const burst of bursts) {
          // What is decided against the model is sent at once; the model says what must come of it, in this order.
          const expectations = burst.map((next) => {
            const send = toSend(next, names, model, sent);
            return { send, outcome: apply(model, send) };
          });
          const pending = new Map<string, Promise<unknown>>();
          const results = await Promise.allSettled(
            expectations.map(({ send }) => {
              const previous = pipelined ? undefined : pending.get(send.stream);
              const append = () => store().append(send.stream, send.expected, send.events);
              const appended = previous === undefined ? append() : previous.then(append, append);
              pending.set(send.stream, appended);
              return appended;
            }),
          );
          for (const [index, { outcome }] of expectations.entries()) {
            const result = results[index];
            if (outcome === "refused") {
              expect(result).toMatchObject({ status: "rejected", reason: expect.any(WrongExpectedRevision) });
            } else {
              expect(result).toMatchObject({ status: "fulfilled", value: { revision: outcome } });
            }
          }
        }
        for (const [name, held] of model) {
          expect(ids(await store().readStream(name, { limit: 1_000 }))).toEqual(held);
        }
        const log = await store().readAll({ after, limit: 1_000 });
        expect(ids(log).toSorted()).toEqual([...model.values()].flat().toSorted());
        for (const [name, held] of model) {
          expect(ids(log.filter((event) => event.stream === name))).toEqual(held);
        }
      }),
      { numRuns: sized(20, 60) },
    );
  });
}

function toSend(next: Step, names: readonly string[], model: Map<string, string[]>, sent: Sent[]): Sent {
  const again = next.kind === "again" ? sent[next.which % Math.max(1, sent.length)] : undefined;
  if (again !== undefined) return again;
  const { stream: index, off, count } = next.kind === "append" ? next : { stream: 0, off: 0, count: 1 };
  const stream = names[index] ?? "";
  const end = (model.get(stream)?.length ?? 0) - 1;
  const send = { stream, expected: Math.max(NO_STREAM, end + off), events: newEvents(count) };
  sent.push(send);
  return send;
}

/** The revision that the append answers with, or that it is refused; changes the model. */
function apply(model: Map<string, string[]>, { stream, expected, events }: Sent): number | "refused" {
  const held = model.get(stream) ?? [];
  const after = expected + 1;
  if (after === held.length) held.push(...ids(events));
  const there = held.slice(after, after + events.length);
  return there.join() === ids(events).join() ? expected + events.length : "refused";
}
