// Wake-ups between nodes: "the log has grown", "the read models have moved". Nothing rests on one: all who wait also poll.
import type { Position } from "../event-store/event-store.ts";

/** `log`: the log reaches at least this position. `read`: the read models do. */
export type Topic = "log" | "read";
export const TOPICS: readonly Topic[] = ["log", "read"];

type BusStatus = {
  readonly kind: "process" | "postgres" | "redis";
  /** False: nodes go on by polling until it is back. */
  readonly connected: boolean;
  readonly lastError: string | null;
};

/** Carries wake-ups to every node, this one included or not. Lossy: late ones are told once, with the newest position. */
export interface Bus extends AsyncDisposable {
  /** Never throws and never waits; what cannot be sent is dropped. */
  publish(topic: Topic, position: Position): void;
  /** Called with what any node published. It must neither throw nor take long. */
  on(topic: Topic, listener: (position: Position) => void): Disposable;
  status(): BusStatus;
}

/** Who listens on this node. */
export class Listeners {
  readonly #by: Readonly<Record<Topic, Set<(position: Position) => void>>> = { log: new Set(), read: new Set() };

  add(topic: Topic, listener: (position: Position) => void): Disposable {
    this.#by[topic].add(listener);
    return { [Symbol.dispose]: () => void this.#by[topic].delete(listener) };
  }

  tell(topic: Topic, position: Position): void {
    for (const listener of this.#by[topic]) listener(position);
  }
}

/** The bus of a node that is alone. */
export function processBus(): Bus {
  const listeners = new Listeners();
  return {
    publish: (topic, position) => listeners.tell(topic, position),
    on: (topic, listener) => listeners.add(topic, listener),
    status: () => ({ kind: "process", connected: true, lastError: null }),
    [Symbol.asyncDispose]: async () => undefined,
  };
}
