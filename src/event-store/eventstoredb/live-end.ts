// The log's end, heard by one subscription for all read loops of a process that stand there.

import type { EventStoreDBClient } from "@eventstore/db-client";
import { type Position, type RecordedEvent, sizeOf } from "../event-store.ts";
import type { FeedListener, Page } from "../subscription.ts";
import { AllStream } from "./all-stream.ts";
import type { LogNames } from "./records.ts";
import type { WrittenEvents } from "./written-events.ts";

/** What is kept for loops that are not as fast as the log; who falls further behind reads for itself. */
const MAX_KEPT = 4_000;
const MAX_KEPT_BYTES = 8 * 1024 * 1024;

/**
 * A loop that has come to the log's end by itself lets it begin there; from then on all loops whose place is behind that
 * are served from memory. The server sends each event once then, and it is read once.
 */
export class LiveEnd {
  readonly #client: EventStoreDBClient;
  readonly #names: LogNames;
  readonly #written: WrittenEvents;
  readonly #listeners = new Set<FeedListener>();
  #stream: AllStream | undefined;
  /** All that follows it is kept, or will be heard. */
  #from: Position | undefined;
  #kept: RecordedEvent[] = [];
  #bytes = 0;

  constructor(client: EventStoreDBClient, names: LogNames, written: WrittenEvents) {
    this.#client = client;
    this.#names = names;
    this.#written = written;
  }

  /** Begins behind a place in the log, unless it has begun already. */
  begin(after: Position): void {
    if (this.#stream !== undefined || this.#listeners.size === 0) return;
    this.#from = after;
    this.#stream = new AllStream(this.#client, this.#names, after, {
      event: (recorded) => this.#keep(this.#written.sameBytes(recorded)),
      progress: () => {},
      broken: (error) => {
        this.#end();
        for (const listener of this.#listeners) listener.failed(error);
      },
    });
  }

  /** The subscription behind it, while there is one. */
  get stream(): AllStream | undefined {
    return this.#stream;
  }

  /** What has been heard after this place; undefined when it does not serve that, or has not heard of it yet. */
  read(after: Position | "start", limit: number): Page | undefined {
    if (this.#from === undefined || after === "start" || /* fence: eventstoredb-live-end */ after < this.#from)
      return undefined;
    if (after > (this.#kept.at(-1)?.position ?? this.#from)) return undefined;
    let at = this.#kept.length;
    while (at > 0 && (this.#kept[at - 1]?.position ?? "") > after) at -= 1;
    return { events: this.#kept.slice(at, at + limit), atEnd: this.#kept.length - at <= limit };
  }

  /** Tells of events and of its end. Gives how to stop; it ends with its last listener. */
  listen(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#end();
    };
  }

  #keep(event: RecordedEvent): void {
    this.#kept.push(event);
    this.#bytes += sizeOf(event);
    while (this.#kept.length > MAX_KEPT || this.#bytes > MAX_KEPT_BYTES) {
      const oldest = this.#kept.shift();
      if (oldest === undefined) break;
      this.#bytes -= sizeOf(oldest);
      this.#from = oldest.position;
    }
    for (const listener of this.#listeners) listener.appended(event.position);
  }

  #end(): void {
    this.#stream?.close();
    this.#stream = undefined;
    this.#from = undefined;
    this.#kept = [];
    this.#bytes = 0;
  }
}
