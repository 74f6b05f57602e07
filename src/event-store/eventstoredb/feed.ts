// What subscriptions read: pages of the log up to its end, and from there one subscription of the server's that all share.
import { type AllStreamSubscription, streamNameFilter } from "@eventstore/db-client";
import { pause } from "../../platform/supervise.ts";
import { type Position, type RecordedEvent, sizeOf, withoutContent } from "../event-store.ts";
import type { Feed, FeedListener, Page } from "../subscription.ts";
import type { ReadConnection } from "./connection.ts";
import type { Reader } from "./reader.ts";
import { clientPosition, fromRecord, type LogNames, type WrittenEvents } from "./records.ts";

/** Live events kept for read loops that are slower than the log; a loop that falls further behind reads pages. */
const MAX_RECENT_EVENTS = 4_000;
const MAX_RECENT_BYTES = 8 * 1024 * 1024;
/** How often a silent subscription is compared with the log's end. */
const WATCHDOG_MS = 5_000;

type LiveFeedOptions = {
  readonly connection: ReadConnection;
  readonly names: LogNames;
  readonly reader: Pick<Reader, "page" | "tail">;
  readonly written: WrittenEvents;
  /** Default: WATCHDOG_MS. */
  readonly watchdogMs?: number | undefined;
};

/**
 * Serves all read loops of a process. A loop behind the log's end reads pages. The first that gets to the end subscribes
 * there, and from then on every loop that is not behind the recent events is served from memory: the server sends each
 * event once a process, and it is parsed once.
 */
export class LiveFeed implements Feed {
  readonly #options: LiveFeedOptions;
  readonly #listeners = new Set<FeedListener>();
  #live: { readonly stream: AllStreamSubscription; readonly watching: AbortController } | undefined;
  /** Every event after this position is in `#recent`, or will be received. */
  #from: Position | undefined;
  #recent: RecordedEvent[] = [];
  #bytes = 0;

  constructor(options: LiveFeedOptions) {
    this.#options = options;
  }

  /** Throws when the log ends before `after`: it was replaced by an older copy. */
  async read(after: Position | "start", limit: number): Promise<Page> {
    const live = this.#readLive(after, limit);
    if (live !== undefined) return live;
    const { reader } = this.#options;
    for (;;) {
      const page = await reader.page(after, limit);
      const last = page.events.at(-1)?.position ?? after;
      if (!page.atEnd || last === "start") return page;
      // A position that was never in the log has nothing after it either.
      const tail = page.events.length === 0 ? await reader.tail() : last;
      if (tail < last) throw new Error(`the log ends at ${tail}, before the subscription's position ${last}`);
      if (tail > last) continue; // appended in between
      if (this.#live === undefined && this.#listeners.size > 0) this.#subscribe(last);
      return page;
    }
  }

  /** The subscription of the server's ends with the last listener. */
  listen(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#unsubscribe();
    };
  }

  /** Ends the server's subscription with an error; each loop reads again from its own position. */
  fail(error: unknown): void {
    if (this.#live === undefined) return;
    this.#unsubscribe();
    for (const listener of this.#listeners) listener.failed(error);
  }

  #readLive(after: Position | "start", limit: number): Page | undefined {
    if (this.#from === undefined || after === "start" || /* fence: eventstoredb-live-end */ after < this.#from)
      return undefined;
    if (after > (this.#recent.at(-1)?.position ?? this.#from)) return undefined;
    let index = this.#recent.length;
    while (index > 0 && (this.#recent[index - 1]?.position ?? "") > after) index -= 1;
    return { events: this.#recent.slice(index, index + limit), atEnd: this.#recent.length - index <= limit };
  }

  #subscribe(after: Position): void {
    const { connection, names, written } = this.#options;
    const stream = connection.client.subscribeToAll({
      fromPosition: clientPosition(names, after),
      filter: streamNameFilter({ prefixes: [names.prefix] }),
    });
    const isCurrent = () => this.#live?.stream === stream;
    const failWith = (error: unknown) => {
      if (isCurrent()) this.fail(error);
    };
    stream.on("data", ({ event }) => {
      if (event !== undefined && isCurrent()) this.#add(withoutContent(written.sameBytes(fromRecord(event, names))));
    });
    stream.on("error", failWith); // also after the end: an error that nobody listens to ends the process
    stream.on("end", () => failWith(new Error("the subscription ended")));
    stream.on("close", () => failWith(new Error("the subscription was closed")));
    const watching = new AbortController();
    this.#live = { stream, watching };
    this.#from = after;
    void this.#watch(watching.signal, failWith);
  }

  #unsubscribe(): void {
    this.#live?.watching.abort();
    // What it still sends is dropped, but must be read.
    this.#live?.stream.unsubscribe().catch(() => undefined);
    this.#live = undefined;
    this.#from = undefined;
    this.#recent = [];
    this.#bytes = 0;
  }

  #add(event: RecordedEvent): void {
    this.#recent.push(event);
    this.#bytes += sizeOf(event);
    while (this.#recent.length > MAX_RECENT_EVENTS || this.#bytes > MAX_RECENT_BYTES) {
      const oldest = this.#recent.shift();
      if (oldest === undefined) break;
      this.#bytes -= sizeOf(oldest);
      this.#from = oldest.position;
    }
    for (const listener of this.#listeners) listener.appended(event.position);
  }

  /** Fails a subscription that has not sent the log's last event in time. A server that does not answer says nothing of it. */
  async #watch(signal: AbortSignal, failWith: (error: Error) => void): Promise<void> {
    const { reader, watchdogMs = WATCHDOG_MS } = this.#options;
    const received = () => this.#recent.at(-1)?.position ?? this.#from;
    for (;;) {
      await pause(watchdogMs, signal);
      const before = received();
      const tail = await reader.tail().catch(() => before);
      if (tail !== before) await pause(watchdogMs / 2, signal);
      if (signal.aborted) return;
      if (tail !== before && received() === before)
        failWith(new Error("the subscription does not follow the log's end"));
    }
  }
}
