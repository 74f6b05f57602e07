// What nodes tell each other, in one process: signals arrive at once, unless a node is cut off.
import type { Signals } from "../../src/platform/bus.ts";

export class SignalHub {
  readonly #listeners = new Map<string, Set<(text: string) => void>>();
  /** Nodes that are not heard and hear nothing. */
  readonly cut = new Set<string>();

  /** What a node has of the bus. */
  node(name: string): Signals {
    const own = new Set<(text: string) => void>();
    this.#listeners.set(name, own);
    return {
      signal: (text) => {
        if (this.cut.has(name)) return;
        for (const [other, listeners] of this.#listeners) {
          if (other !== name && !this.cut.has(other)) for (const listener of listeners) listener(text);
        }
      },
      onSignal: (listener) => {
        own.add(listener);
        return { [Symbol.dispose]: () => void own.delete(listener) };
      },
    };
  }
}
