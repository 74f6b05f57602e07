// Bounds on what is on its way to servers: past them the client breaks in ways that it does not report.

import { setTimeout as sleep } from "node:timers/promises";

/** Appends and bytes that may be under way at once: a burst over the client's buffer ends in unhandled rejections. */
const MAX_APPENDS = 512;
const MAX_BYTES = 4 * 1024 * 1024;
/** What an event costs on the wire beside its bytes. */
export const EVENT_OVERHEAD_BYTES = 128;
/** Appends that may wait for a place; the next is told at once to send again. */
const MAX_WAITING = 20_000;
const QUIET_POLL_MS = 10;

/** A gate for appends, first come, first served. */
export class InFlight {
  #appends = 0;
  #bytes = 0;
  #shut = 0;
  readonly #waiting: { readonly bytes: number; readonly start: () => void }[] = [];

  /** Waits for a place; false when too many wait, or the time is up. */
  enter(bytes: number, timeoutMs: number): boolean | Promise<boolean> {
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#take(bytes);
      return true;
    }
    if (this.#waiting.length >= MAX_WAITING) return false;
    return new Promise((resolve) => {
      const waiting = {
        bytes,
        start: () => {
          clearTimeout(timer);
          resolve(true);
        },
      };
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        resolve(false);
        this.#letIn();
      }, timeoutMs);
      this.#waiting.push(waiting);
    });
  }

  /** Gives the place back. */
  leave(bytes: number): void {
    this.#appends -= 1;
    this.#bytes -= bytes;
    this.#letIn();
  }

  /** Does something while nothing is under way; after `patienceMs` also when something is. */
  async alone(patienceMs: number, work: () => Promise<unknown>): Promise<void> {
    this.#shut += 1;
    try {
      const deadline = performance.now() + patienceMs;
      while (this.#appends > 0 && performance.now() < deadline) await sleep(QUIET_POLL_MS);
      await work();
    } finally {
      this.#shut -= 1;
      this.#letIn();
    }
  }

  #letIn(): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#take(next.bytes);
      next.start();
    }
  }

  #fits(bytes: number): boolean {
    if (this.#shut > 0) return false;
    return this.#appends === 0 || (this.#appends < MAX_APPENDS && this.#bytes + bytes <= MAX_BYTES);
  }

  #take(bytes: number): void {
    this.#appends += 1;
    this.#bytes += bytes;
  }
}

/**
 * One for the process, because the client keeps what all its instances await in one table: the end of one rejects
 * what another has under way, and the late reply to that leaves the other deaf for good.
 */
export const inFlight = new InFlight();
