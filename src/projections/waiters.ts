// Waiting until the read model has reached a position: one loop for all who wait on this node.

import type { Position } from "../event-store/event-store.ts";
import { messageOf, pause, type WarnLogger } from "../platform/supervise.ts";
import { type Checkpoint, isAfter } from "./checkpoint.ts";

/** How often the checkpoint's row is looked at while somebody waits: another process may be the one that moves it. */
export const POLL_MS = 50;
/** How many may wait at once; one more is told at once that it was not reached. */
const MAX_WAITERS = 10_000;

type Waiter = { readonly position: Position; readonly done: (reached: boolean) => void };

/** What this process knows of the checkpoint, and who waits for it to move. */
export class Waiters implements Disposable {
  readonly #read: () => Promise<Checkpoint>;
  readonly #logger: WarnLogger;
  readonly #waiting = new Set<Waiter>();
  #checkpoint: Checkpoint = "start";
  #polling = false;
  #closed = false;
  #rest = new AbortController();

  constructor(read: () => Promise<Checkpoint>, logger: WarnLogger) {
    this.#read = read;
    this.#logger = logger;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get waiting(): boolean {
    return this.#waiting.size > 0;
  }

  get checkpoint(): Checkpoint {
    return this.#checkpoint;
  }

  /** The group has come this far; never goes back, for what was shown once stays reached. */
  reached(checkpoint: Checkpoint): void {
    if (!isAfter(checkpoint, this.#checkpoint)) return;
    this.#checkpoint = checkpoint;
    for (const waiter of this.#waiting) if (!isAfter(waiter.position, checkpoint)) waiter.done(true);
  }

  /** It may have moved: looks at once when somebody waits. */
  wake(): void {
    this.#rest.abort();
  }

  /** Whether it was reached within the time. */
  waitFor(position: Position, timeoutMs: number): Promise<boolean> {
    if (!isAfter(position, this.#checkpoint)) return Promise.resolve(true);
    if (this.#closed || timeoutMs <= 0 || this.#waiting.size >= MAX_WAITERS) return Promise.resolve(false);
    return new Promise((resolve) => {
      const done = (reached: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(waiter);
        resolve(reached);
      };
      const waiter: Waiter = { position, done };
      const timer = setTimeout(() => done(false), timeoutMs);
      this.#waiting.add(waiter);
      void this.#poll();
    });
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const waiter of this.#waiting) waiter.done(false);
    this.#rest.abort();
  }

  /** Runs while somebody waits. */
  async #poll(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    for (let failed = false; this.#waiting.size > 0; ) {
      this.#rest = new AbortController();
      await pause(POLL_MS, this.#rest.signal);
      if (this.#waiting.size === 0) break;
      try {
        this.reached(await this.#read());
        failed = false;
      } catch (error) {
        // Whoever waits gives up in time; one line says why.
        if (!failed) this.#logger.warn({ err: error }, `the checkpoint could not be read: ${messageOf(error)}`);
        failed = true;
      }
    }
    this.#polling = false;
  }
}
