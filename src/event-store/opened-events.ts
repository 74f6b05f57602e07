// The events that this process sealed a moment ago, in the open: who follows the log need not decipher them again.

/** An event's data as its schema gives it, and its metadata. Shared by all who ask: nobody may change it. */
export type Opened = { readonly data: unknown; readonly meta: unknown };

/** By the array that holds an event's sealed data, which passes through this process's memory as the very same one. */
class OpenedByBytes {
  readonly #events = new WeakMap<Uint8Array, () => Opened>();

  /** `open` is called when the event is first asked for. */
  add(sealed: Uint8Array, open: () => Opened): void {
    this.#events.set(sealed, once(open));
  }

  /** Throws what `open` throws. */
  find(sealed: Uint8Array): Opened | undefined {
    return this.#events.get(sealed)?.();
  }
}

function once<T>(make: () => T): () => T {
  let pending: (() => T) | undefined = make; // let go of when it is done, with all that it holds
  let made: T;
  return () => {
    if (pending !== undefined) made = pending();
    pending = undefined;
    return made;
  };
}

/** How long they are kept at most: another process that destroys a key cannot reach this one's memory. */
export const OPENED_MS = 5_000;

/** Belongs to a keyring, which has it forget all when a key is destroyed. An event goes with the bytes it belongs to. */
export class OpenedEvents {
  #kept = new OpenedByBytes();
  #since = performance.now();

  /**
   * What is known now. Whoever adds to it asks for it before asking for keys: what is added under a key that was
   * destroyed meanwhile is then found by nobody.
   */
  kept(): OpenedByBytes {
    if (performance.now() - this.#since > OPENED_MS) this.forget();
    return this.#kept;
  }

  forget(): void {
    this.#kept = new OpenedByBytes();
    this.#since = performance.now();
  }
}
