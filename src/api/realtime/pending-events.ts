// Events of a room that wait in memory for their turn, without gaps; and cutting what is read to what it weighs.
import type { RecordedEvent } from "../../event-store/event-store.ts";

/** What waits at most, in events and bytes. What comes beyond is read from the stream when its turn is. */
const MAX_PENDING = 2_000;
const MAX_PENDING_BYTES = 4 * 1024 * 1024;

export const weigh = ({ data, metadata }: RecordedEvent): number => data.byteLength + metadata.byteLength;

export class PendingEvents {
  #events: RecordedEvent[] = [];
  #bytes = 0;

  get size(): number {
    return this.#events.length;
  }

  /** Keeps an event that follows those that wait, when there is room for it. */
  offer(event: RecordedEvent): void {
    const bytes = weigh(event);
    if (this.#events.length >= MAX_PENDING || this.#bytes + bytes > MAX_PENDING_BYTES) return;
    this.#events.push(event);
    this.#bytes += bytes;
  }

  /** At most so many from the front, and about so many bytes; one in any case. */
  take(count: number, maxBytes: number): readonly RecordedEvent[] {
    return this.#left(this.#events.splice(0, upToBytes(this.#events.slice(0, count), maxBytes, weigh).length));
  }

  /** Forgets those up to a seq: they were read elsewhere. */
  forget(upToSeq: number): void {
    const end = this.#events.findIndex((event) => event.revision + 1 > upToSeq);
    this.#left(this.#events.splice(0, end === -1 ? this.#events.length : end));
  }

  #left(events: readonly RecordedEvent[]): readonly RecordedEvent[] {
    for (const event of events) this.#bytes -= weigh(event);
    return events;
  }
}

/** As many from the front as weigh no more together; the first one in any case. */
export function upToBytes<T>(all: readonly T[], maxBytes: number, bytesOf: (one: T) => number): readonly T[] {
  let bytes = 0;
  const end = all.findIndex((one, index) => {
    bytes += bytesOf(one);
    return index > 0 && bytes > maxBytes;
  });
  return end === -1 ? all : all.slice(0, end);
}
