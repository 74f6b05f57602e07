// What one read loop reads from: a subscription of its own up to the log's end, and there what all share.

import type { EventStoreDBClient } from "@eventstore/db-client";
import { pause } from "../../platform/supervise.ts";
import { type Position, type RecordedEvent, sizeOf } from "../event-store.ts";
import type { Feed, FeedListener, Page } from "../subscription.ts";
import { AllStream } from "./all-stream.ts";
import type { LiveEnd } from "./live-end.ts";
import type { LogNames } from "./records.ts";

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
