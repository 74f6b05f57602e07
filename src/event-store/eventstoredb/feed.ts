// What subscriptions read: a subscription of the server's for each read loop up to the log's end, and one that all share there.

import { type AllStreamSubscription, type EventStoreDBClient, START, streamNameFilter } from "@eventstore/db-client";
import { pause } from "../../platform/supervise.ts";
import { type Position, type RecordedEvent, sizeOf } from "../event-store.ts";
import type { Feed, FeedListener, Page } from "../subscription.ts";
import { clientPosition, fromRecord, type LogNames, type WrittenEvents } from "./records.ts";

/** What it is told; nothing more once it is closed. */
type Listener = {
  event(recorded: RecordedEvent): void;
  /** The server has gone through others' events, or says that it is at the log's end. */
  progress(): void;
  /** Once: it says nothing more. */
  broken(error: unknown): void;
};

class AllStream {
  readonly #stream: AllStreamSubscription;
  #listener: Listener | undefined;
  #confirmed = false;
  #caughtUp = false;
  #heard = 0;

  constructor(client: EventStoreDBClient, names: LogNames, after: Position | "start", listener: Listener) {
    this.#listener = listener;
    const stream = client.subscribeToAll({
      fromPosition: after === "start" ? START : clientPosition(names, after),
      filter: streamNameFilter({ prefixes: [names.prefix], checkpointReached: () => this.#hear() }),
    });
    this.#stream = stream;
    stream.on("data", ({ event }) => {
      if (event === undefined || this.#listener === undefined) return;
      this.#heard += 1;
      this.#listener.event(fromRecord(event, names));
    });
    stream.on("confirmation", () => {
      this.#confirmed = true;
    });
    stream.on("caughtUp", () => {
      this.#caughtUp = true;
      this.#hear();
    });
    stream.on("error", (error) => this.fail(error));
    stream.on("end", () => this.fail(new Error("the subscription ended")));
    stream.on("close", () => this.fail(new Error("the subscription was closed")));
  }

  /** Whether the server has accepted it. */
  get confirmed(): boolean {
    return this.#confirmed;
  }

  /** Whether the server has said that it was at the log's end; some never do. */
  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  /** Grows with all that it says. */
  get heard(): number {
    return this.#heard;
  }

  get isOpen(): boolean {
    return this.#listener !== undefined;
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  close(): void {
    if (this.#listener === undefined) return;
    this.#listener = undefined;
    // What it still says is of no interest, but it must be read out, and an error that nobody hears ends the process.
    this.#stream.resume();
    this.#stream.unsubscribe().catch(() => undefined);
  }

  /** Ends it with an error: the server's, or a reason of ours. */
  fail(error: unknown): void {
    const listener = this.#listener;
    this.close();
    listener?.broken(error);
  }

  #hear(): void {
    this.#heard += 1;
    this.#listener?.progress();
  }
}

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

/** What is kept ahead of the reader, in events and in bytes, before the stream is paused. */
const MAX_AHEAD = 2_000;
const MAX_AHEAD_BYTES = 8 * 1024 * 1024;
/** How long a stream that the server has confirmed may say nothing before it counts as being at the log's end. */
const SILENCE_MS = 2_000;
/** How often a silent stream is held against the log's end: one from a place that never was says nothing, and no error. */
const WATCHDOG_MS = 5_000;

type FilteredFeedOptions = {
  readonly client: EventStoreDBClient;
  readonly names: LogNames;
  readonly live: LiveEnd;
  readonly tail: () => Promise<Position>;
  /** Default: WATCHDOG_MS. */
  readonly watchdogMs?: number | undefined;
};

/** Serves one read loop. */
export class FilteredFeed implements Feed {
  readonly #options: FilteredFeedOptions;
  #listener: FeedListener | undefined;
  /** Its own; undefined while the shared one serves it. */
  #stream: AllStream | undefined;
  #brokenBy: unknown;
  #ahead: RecordedEvent[] = [];
  #aheadBytes = 0;
  /** Where the next event to be taken follows. */
  #taken: Position | "start" = "start";
  #arrived: () => void = () => {};

  constructor(options: FilteredFeedOptions) {
    this.#options = options;
  }

  async read(after: Position | "start", limit: number, closing: AbortSignal): Promise<Page> {
    const page = this.#readLive(after, limit) ?? (await this.#readOwn(after, limit, closing));
    this.#taken = page.events.at(-1)?.position ?? after;
    if (page.atEnd && this.#taken !== "start" && this.#stream?.caughtUp === true) this.#options.live.begin(this.#taken);
    return page;
  }

  listen(listener: FeedListener): () => void {
    this.#listener = listener;
    const stopListening = this.#options.live.listen(listener);
    const watchdog = this.#watch();
    return () => {
      watchdog.abort();
      stopListening();
      this.#close();
    };
  }

  #readLive(after: Position | "start", limit: number): Page | undefined {
    const page = this.#options.live.read(after, limit);
    if (page !== undefined) this.#close();
    return page;
  }

  async #readOwn(after: Position | "start", limit: number, closing: AbortSignal): Promise<Page> {
    const stream = this.#stream !== undefined && this.#taken === after ? this.#stream : this.#open(after);
    while (this.#ahead.length === 0 && !stream.caughtUp && !closing.aborted) {
      const { heard } = stream;
      await this.#something(closing);
      if (this.#stream !== stream) throw this.#brokenBy;
      if (stream.confirmed && stream.heard === heard) break; // a server that does not say when it has caught up
    }
    const events = this.#ahead.splice(0, limit);
    for (const event of events) this.#aheadBytes -= sizeOf(event);
    if (this.#ahead.length < MAX_AHEAD / 2 && this.#aheadBytes < MAX_AHEAD_BYTES / 2) stream.resume();
    return { events, atEnd: this.#ahead.length === 0 };
  }

  #open(after: Position | "start"): AllStream {
    this.#close();
    const { client, names } = this.#options;
    const stream = new AllStream(client, names, after, {
      event: (recorded) => {
        this.#ahead.push(recorded);
        this.#aheadBytes += sizeOf(recorded);
        if (this.#ahead.length >= MAX_AHEAD || this.#aheadBytes >= MAX_AHEAD_BYTES) stream.pause();
        this.#arrived();
        this.#listener?.appended(recorded.position);
      },
      progress: () => this.#arrived(),
      // The loop reads again, after its backoff, from what it has handled; that opens another stream.
      broken: (error) => {
        this.#brokenBy = error;
        this.#close();
        this.#arrived();
        this.#listener?.failed(error);
      },
    });
    this.#stream = stream;
    this.#taken = after;
    return stream;
  }

  #close(): void {
    this.#stream?.close();
    this.#stream = undefined;
    this.#ahead = [];
    this.#aheadBytes = 0;
  }

  #something(closing: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        closing.removeEventListener("abort", done);
        this.#arrived = () => {};
        resolve();
      };
      const timer = setTimeout(done, SILENCE_MS);
      closing.addEventListener("abort", done);
      this.#arrived = done;
    });
  }

  /** Looks again and again whether the stream says what it should, until it is told to stop. */
  #watch(): AbortController {
    const stop = new AbortController();
    const { watchdogMs = WATCHDOG_MS } = this.#options;
    void (async () => {
      for (;;) {
        await pause(watchdogMs, stop.signal);
        if (stop.signal.aborted) return;
        await this.#look(() => pause(watchdogMs / 2, stop.signal));
      }
    })();
    return stop;
  }

  async #look(grace: () => Promise<void>): Promise<void> {
    const taken = this.#taken;
    const stream = this.#stream ?? this.#options.live.stream;
    if (stream === undefined || this.#hasMore()) return;
    const { heard } = stream;
    const unheard = () => stream.isOpen && stream.heard === heard && this.#taken === taken && !this.#hasMore();
    try {
      const tail = await this.#options.tail();
      if (taken === tail) return;
      if (taken !== "start" && tail < taken) throw new Error("the subscription stands behind the log's end");
      await grace();
      if (unheard()) throw new Error("the subscription fell silent before the log's end");
    } catch (error) {
      if (unheard()) stream.fail(error);
    }
  }

  /** Whether there is something that the loop has not taken yet. */
  #hasMore(): boolean {
    return this.#ahead.length > 0 || (this.#options.live.read(this.#taken, 1)?.events.length ?? 0) > 0;
  }
}
