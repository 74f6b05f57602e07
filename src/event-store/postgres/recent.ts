// The events that this process wrote last, so that its subscriptions need not read them back.

import type { RecordedEvent } from "../event-store.ts";

/** The most bytes of events kept. */
const MAX_RECENT_BYTES = 16 * 1024 * 1024;
const EVENT_OVERHEAD_BYTES = 256;

/** Events without gaps, from the number `first` on. */
type Segment = { readonly first: number; readonly events: readonly RecordedEvent[]; readonly bytes: number };

/** Segments of the log in order. Between two of them may be what others wrote, or a flush that is still on its way. */
export class RecentEvents {
  readonly #segments: Segment[] = [];
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes = MAX_RECENT_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** Keeps what was committed: events without gaps, the first of which is the log's `first`-th. */
  add(first: number, events: readonly RecordedEvent[]): void {
    let bytes = 0;
    for (const event of events) bytes += event.data.byteLength + event.metadata.byteLength + EVENT_OVERHEAD_BYTES;
    let at = this.#segments.length;
    while (at > 0 && (this.#segments[at - 1]?.first ?? 0) > first) at -= 1;
    this.#segments.splice(at, 0, { first, events, bytes });
    this.#bytes += bytes;
    while (this.#bytes > this.#maxBytes) this.#bytes -= this.#segments.shift()?.bytes ?? this.#bytes;
  }

  /** At most `limit` events after the number `after`, without gaps; none when the next one is not here. */
  read(after: number, limit: number): readonly RecordedEvent[] {
    const found: RecordedEvent[] = [];
    let next = after + 1;
    for (let at = this.#segmentOf(next); found.length < limit; at += 1) {
      const segment = this.#segments[at];
      if (segment === undefined || next < segment.first || next >= segment.first + segment.events.length) break;
      const from = next - segment.first;
      for (const event of segment.events.slice(from, from + limit - found.length)) found.push(event);
      next = after + 1 + found.length;
    }
    return found;
  }

  /** The last segment that begins at or before it. */
  #segmentOf(number: number): number {
    let low = 0;
    let high = this.#segments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#segments[middle]?.first ?? 0) <= number) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
