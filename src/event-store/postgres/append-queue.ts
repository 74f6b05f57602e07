// The appends that wait for a flush, a line for each stream: an append never overtakes or meets one of its own stream.

import type { Appended, NewEvent } from "../event-store.ts";

/** A flush that has so many bytes, counting what surrounds each event, takes no further append. */
export const MAX_FLUSH_BYTES = 8 * 1024 * 1024;
/** The most appends of one flush. */
export const MAX_FLUSH_APPENDS = 2_000;
/** So many appends are worth sharing between two connections. */
const WORTH_SHARING = 128;
/** The most bytes that wait in lines; further appends are held at the door. */
export const MAX_WAITING_BYTES = 64 * 1024 * 1024;

export type WaitingAppend = {
  readonly stream: string;
  readonly expected: number;
  readonly events: readonly NewEvent[];
  /** What it counts towards the bounds. */
  readonly bytes: number;
  /** Answers the caller; the first answer counts. */
  readonly resolve: (appended: Appended) => void;
  readonly reject: (error: Error) => void;
  /** Whether the caller has its answer. */
  settled: boolean;
};

export type Flush = { readonly appends: readonly WaitingAppend[]; readonly lines: readonly Line[] };
type Line = { readonly stream: string; waiting: WaitingAppend[]; inFlight: boolean };

/** Lines by stream, and whose turn it is: first come, first served, by the line. */
export class AppendQueue {
  readonly #lines = new Map<string, Line>();
  /** Lines with something waiting and nothing in flight, in the order in which they became so. */
  readonly #ready = new Set<Line>();
  #waitingBytes = 0;
  #waitingAppends = 0;
  #flushesInFlight = 0;

  /** Whether another append may wait. */
  get hasRoom(): boolean {
    return this.#waitingBytes < MAX_WAITING_BYTES;
  }

  get isEmpty(): boolean {
    return this.#waitingAppends === 0;
  }

  /** Whether a flush could go now. */
  get hasReady(): boolean {
    return this.#ready.size > 0;
  }

  push(append: WaitingAppend): void {
    let line = this.#lines.get(append.stream);
    if (line === undefined) {
      line = { stream: append.stream, waiting: [], inFlight: false };
      this.#lines.set(append.stream, line);
    }
    line.waiting.push(append);
    this.#waitingBytes += append.bytes;
    this.#waitingAppends += 1;
    if (!line.inFlight) this.#ready.add(line);
  }

  /** Forgets an append whose time was up before it was sent. */
  remove(append: WaitingAppend): void {
    const line = this.#lines.get(append.stream);
    const at = line?.waiting.indexOf(append) ?? -1;
    if (line === undefined || at < 0) return;
    line.waiting.splice(at, 1);
    this.#waitingBytes -= append.bytes;
    this.#waitingAppends -= 1;
    this.#settle(line);
  }

  /** The next flush, undefined when nothing can go now. Its streams are in flight until `done`. */
  take(): Flush | undefined {
    const appends: WaitingAppend[] = [];
    const lines: Line[] = [];
    let bytes = 0;
    const most = this.#mostAppends();
    for (const line of this.#ready) {
      const room = most - appends.length;
      const chain = chainOf(line.waiting, room, MAX_FLUSH_BYTES - bytes);
      appends.push(...line.waiting.splice(0, chain.count));
      bytes += chain.bytes;
      line.inFlight = true;
      lines.push(line);
      this.#ready.delete(line);
      if (appends.length >= most || bytes >= MAX_FLUSH_BYTES) break;
    }
    if (appends.length === 0) return undefined;
    this.#waitingBytes -= bytes;
    this.#waitingAppends -= appends.length;
    this.#flushesInFlight += 1;
    return { appends, lines };
  }

  /** The flush is over, whatever came of it: its streams may go again. */
  done(flush: Flush): void {
    this.#flushesInFlight -= 1;
    for (const line of flush.lines) {
      line.inFlight = false;
      this.#settle(line);
    }
  }

  /**
   * Half of what waits when nothing is in flight, so that from then on one flush is encoded and answered while the
   * other commits; callers that come back together would otherwise always share one flush. (Measured: a fifth more.)
   */
  #mostAppends(): number {
    if (this.#flushesInFlight > 0 || this.#waitingAppends < WORTH_SHARING) return MAX_FLUSH_APPENDS;
    return Math.min(MAX_FLUSH_APPENDS, Math.ceil(this.#waitingAppends / 2));
  }

  #settle(line: Line): void {
    if (line.inFlight) return;
    if (line.waiting.length > 0) {
      this.#ready.add(line);
      return;
    }
    this.#ready.delete(line);
    this.#lines.delete(line.stream);
  }
}

/** How many from the front can go together: each expects what the one before leaves. */
function chainOf(waiting: readonly WaitingAppend[], room: number, bytesLeft: number): { count: number; bytes: number } {
  let count = 0;
  let bytes = 0;
  let leaves: number | undefined;
  for (const append of waiting) {
    if (count >= room || bytes >= bytesLeft) break;
    if (leaves !== undefined && append.expected !== leaves) break;
    leaves = append.expected + append.events.length;
    count += 1;
    bytes += append.bytes;
  }
  return { count, bytes };
}
