// A real store at the other end of a network: what is asked of it is a step, so is each answer, and some answers are lost.
import {
  type Appended,
  type EventStore,
  NO_STREAM,
  OutcomeUnknown,
  StoreUnavailable,
  WrongExpectedRevision,
} from "../../../src/event-store/event-store.ts";
import fc from "../../support/seed.ts";
import type { Interleaving } from "./interleaving.ts";

/**
 * What becomes of a request. `lost`: it is carried out, and nobody hears of it. `dropped`: it never arrives. `late`: its
 * sender is told that it failed, and it is carried out at some moment afterwards. `strange`: one that was carried out
 * before is not known again and refused, as by a store that keeps less than the port promises.
 */
export type Fate = "well" | "lost" | "dropped" | "late" | "strange";

/** Draws what goes wrong: appends often, reads now and then. */
export const fates = (): fc.Arbitrary<Fates> =>
  fc.record({
    appends: fc.array(fc.constantFrom<Fate>("well", "well", "well", "lost", "dropped", "late", "strange"), {
      maxLength: 20,
    }),
    reads: fc.array(fc.constantFrom<Fate>("well", "well", "well", "well", "well", "dropped"), { maxLength: 20 }),
  });

export type RacingStore = EventStore & {
  /** Resolves when nothing is on its way any more. */
  quiet(): Promise<unknown>;
};

/** What becomes of the first requests, one each; then all goes well. Of a read that does not go well nobody hears. */
export type Fates = { readonly appends: readonly Fate[]; readonly reads: readonly Fate[] };

export function racingStore(store: EventStore, interleaving: Interleaving, fates: Fates): RacingStore {
  const nextAppend = fates.appends.values();
  const nextRead = fates.reads.values();
  const late: Promise<unknown>[] = [];

  async function append(...request: Parameters<EventStore["append"]>): Promise<Appended> {
    const carryOut = () => store.append(...request);
    const { value: fate = "well" } = nextAppend.next();
    if (fate === "well") return interleaving.remotely("append", carryOut);
    if (fate === "strange") return interleaving.remotely("strange append", () => unlessMoved(...request));
    await interleaving.step(`append ${fate}`);
    if (fate === "late")
      late.push(
        interleaving
          .step("late append")
          .then(carryOut)
          .catch(() => undefined),
      );
    if (fate === "lost") await carryOut().catch(() => undefined);
    if (fate === "lost") await interleaving.step("append's answer lost");
    throw new OutcomeUnknown(`the append was ${fate}`);
  }

  async function unlessMoved(...request: Parameters<EventStore["append"]>): Promise<Appended> {
    const [stream, expected] = request;
    const [last] = await store.readStream(stream, { direction: "backward", limit: 1 });
    const actual = last?.revision ?? NO_STREAM;
    if (actual !== expected) throw new WrongExpectedRevision(stream, expected, actual);
    return store.append(...request);
  }

  async function read<T>(what: string, carryOut: () => Promise<T>): Promise<T> {
    const { value: fate = "well" } = nextRead.next();
    if (fate === "well") return interleaving.remotely(what, carryOut);
    await interleaving.step(`${what} failed`);
    throw new StoreUnavailable(`the ${what} failed`);
  }

  return {
    logId: store.logId,
    append,
    readStream: (...request) => read("read", () => store.readStream(...request)),
    readAll: (...request) => interleaving.remotely("read of all", () => store.readAll(...request)),
    tail: () => interleaving.remotely("tail", () => store.tail()),
    subscribe: (options) =>
      store.subscribe({
        ...options,
        async handle(batch) {
          await interleaving.step(`${options.name} told`);
          await options.handle(batch);
        },
      }),
    ping: () => store.ping(),
    quiet: () => Promise.all(late),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}
