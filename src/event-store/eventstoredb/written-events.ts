// What this process wrote last, so that what comes back from the server is known by the writer's own bytes.

import { LRUCache } from "lru-cache";
import { type NewEvent, type RecordedEvent, sizeOf } from "../event-store.ts";

const MAX_BYTES = 8 * 1024 * 1024;

export class WrittenEvents {
  readonly #byId = new LRUCache<string, NewEvent>({ maxSize: MAX_BYTES, sizeCalculation: sizeOf });

  add(events: readonly NewEvent[]): void {
    for (const event of events) this.#byId.set(event.id, event);
  }

  /**
   * The event with the writer's own arrays, when it has the same bytes: what is known of those (`PlaintextCache`) need not
   * be found out again. Of two events that were sent under one id only one is in the log, and it need not be the last.
   */
  sameBytes(recorded: RecordedEvent): RecordedEvent {
    const own = this.#byId.get(recorded.id);
    if (
      own === undefined ||
      /* fence: written-data */ !isSame(own.data, recorded.data) ||
      /* fence: written-metadata */ !isSame(own.metadata, recorded.metadata)
    )
      return recorded;
    return { ...recorded, data: own.data, metadata: own.metadata };
  }
}

const isSame = (one: Uint8Array, other: Uint8Array): boolean => Buffer.compare(one, other) === 0;
