// Which streams are written in turns now: those on which somebody lost a race, here or on another node.
import { LRUCache } from "lru-cache";
import { atMost } from "../platform/at-most.ts";
import type { StreamTurns } from "./stream-turns.ts";

/** For how long a stream is written in turns after a lost race. */
const CONTENDED_MS = 1_000;
/** How often who wins every race looks whether a loser waits its turn: without a look nobody would tell the winner. */
const LOOK_EVERY_MS = 50;
/** A stream that was not written for so long has no race to lose. */
const BUSY_MS = 200;
const MAX_STREAMS = 10_000;

type Entry = { until: number; wroteAt: number };

/** Shared by all writers of a process; outlives each of them. */
export class Contention {
  readonly #turns: StreamTurns;
  readonly #warn: (error: unknown, message: string) => void;
  readonly #streams = new LRUCache<string, Entry>(atMost(MAX_STREAMS));
  /** Those to look at next time. */
  #busy = new Set<string>();
  #looking = false;

  constructor(turns: StreamTurns, warn: (error: unknown, message: string) => void) {
    this.#turns = turns;
    this.#warn = warn;
  }

  /** A race was lost on the stream, here or by somebody who now waits a turn. */
  lost(stream: string): void {
    this.#entry(stream).until = performance.now() + CONTENDED_MS;
  }

  /** Whether the next append should wait for its turn. Call it before each. */
  inTurns(stream: string): boolean {
    const now = performance.now();
    const entry = this.#entry(stream);
    const isBusy = now - entry.wroteAt < BUSY_MS;
    entry.wroteAt = now;
    if (now < entry.until) return true;
    if (isBusy) this.#lookSoon(stream);
    return false;
  }

  /** All busy streams with one question, which no append waits for. */
  #lookSoon(stream: string): void {
    this.#busy.add(stream);
    if (this.#looking) return;
    this.#looking = true;
    setTimeout(() => void this.#look(), LOOK_EVERY_MS).unref();
  }

  async #look(): Promise<void> {
    const streams = this.#busy;
    this.#busy = new Set();
    try {
      for (const stream of await this.#turns.taken(streams)) this.lost(stream);
    } catch (error) {
      this.#warn(error, "nobody could say which streams are written in turns");
    }
    this.#looking = false;
  }

  #entry(stream: string): Entry {
    const known = this.#streams.get(stream);
    if (known !== undefined) return known;
    const entry = { until: 0, wroteAt: Number.NEGATIVE_INFINITY };
    this.#streams.set(stream, entry);
    return entry;
  }
}
