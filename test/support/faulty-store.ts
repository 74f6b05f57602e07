// A real store behind a gate: tests hold appends back, fail them before, or lose their answers after.
import type { Appended, EventStore, NewEvent, StreamRead } from "../../src/event-store/event-store.ts";

type Fate = (append: () => Promise<Appended>) => Promise<Appended>;

export type FaultyStore = EventStore & {
  /** What becomes of the next appends, one each; then they pass. */
  fates: Fate[];
  readonly appends: { stream: string; expected: number; events: readonly NewEvent[] }[];
  readonly reads: { stream: string; read: StreamRead }[];
};

/** Wraps a store; what it does not interfere with is the store's own. */
export function faultyStore(store: EventStore): FaultyStore {
  const faulty: FaultyStore = {
    fates: [],
    appends: [],
    reads: [],
    logId: store.logId,
    append(stream, expected, events) {
      faulty.appends.push({ stream, expected, events });
      const fate = faulty.fates.shift();
      const append = () => store.append(stream, expected, events);
      return fate === undefined ? append() : fate(append);
    },
    readStream(stream, read) {
      faulty.reads.push({ stream, read });
      return store.readStream(stream, read);
    },
    readAll: (read) => store.readAll(read),
    tail: () => store.tail(),
    subscribe: (options) => store.subscribe(options),
    ping: () => store.ping(),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
  return faulty;
}
