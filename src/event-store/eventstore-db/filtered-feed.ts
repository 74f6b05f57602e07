// What one subscription reads from: a filtered subscription to $all, opened again from wherever the read loop stands.

import { type AllStreamSubscription, type EventStoreDBClient, START, streamNameFilter } from "@eventstore/db-client";
import { pause } from "../backoff.ts";
import { type Position, type RecordedEvent, sizeOf } from "../event-store.ts";
import type { Feed, FeedListener, Page } from "../subscription.ts";
import { clientPosition, fromRecord, type LogNames } from "./records.ts";

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
  readonly tail: () => Promise<Position>;
  /** Default: WATCHDOG_MS. */
  readonly watchdogMs?: number | undefined;
};

/** Serves one read loop. */
export class FilteredFeed implements Feed {
  readonly #options: FilteredFeedOptions;
  #listener: FeedListener | undefined;
  #stream: AllStreamSubscription | undefined;
  #brokenBy: unknown;
  #ahead: RecordedEvent[] = [];
  #aheadBytes = 0;
  /** Where the next event to be taken follows. */
  #taken: Position | "start" = "start";
  #confirmed = false;
  #caughtUp = false;
  /** Events and signs of progress through others' events. */
  #heard = 0;
  #arrived: () => void = () => {};

  constructor(options: FilteredFeedOptions) {
    this.#options = options;
  }

  async read(after: Position | "start", limit: number, closing: AbortSignal): Promise<Page> {
    const stream = this.#stream !== undefined && this.#taken === after ? this.#stream : this.#open(after);
    while (this.#ahead.length === 0 && !this.#caughtUp && !closing.aborted) {
      const heard = this.#heard;
      await this.#something(closing);
      if (this.#stream !== stream) throw this.#brokenBy;
      if (this.#confirmed && this.#heard === heard) break; // a server that does not say when it has caught up
    }
    const events = this.#ahead.splice(0, limit);
    for (const event of events) this.#aheadBytes -= sizeOf(event);
    this.#taken = events.at(-1)?.position ?? after;
    if (this.#ahead.length < MAX_AHEAD / 2 && this.#aheadBytes < MAX_AHEAD_BYTES / 2) stream.resume();
    return { events, atEnd: this.#ahead.length === 0 };
  }

  listen(listener: FeedListener): () => void {
    this.#listener = listener;
    const watchdog = this.#watch();
    return () => {
      watchdog.abort();
      this.#close();
    };
  }

  #open(after: Position | "start"): AllStreamSubscription {
    this.#close();
    const { client, names } = this.#options;
    const stream = client.subscribeToAll({
      fromPosition: after === "start" ? START : clientPosition(names, after),
      filter: streamNameFilter({ prefixes: [names.prefix], checkpointReached: () => this.#hear(stream) }),
    });
    this.#stream = stream;
    this.#taken = after;
    stream.on("data", ({ event }) => {
      if (event === undefined || this.#stream !== stream) return;
      const recorded = fromRecord(event, names);
      this.#ahead.push(recorded);
      this.#aheadBytes += sizeOf(recorded);
      if (this.#ahead.length >= MAX_AHEAD || this.#aheadBytes >= MAX_AHEAD_BYTES) stream.pause();
      this.#hear(stream);
      this.#listener?.appended(recorded.position);
    });
    stream.on("confirmation", () => {
      this.#confirmed ||= this.#stream === stream;
    });
    stream.on("caughtUp", () => {
      this.#caughtUp ||= this.#stream === stream;
      this.#hear(stream);
    });
    stream.on("error", (error) => this.#broken(stream, error));
    stream.on("end", () => this.#broken(stream, new Error("the subscription ended")));
    stream.on("close", () => this.#broken(stream, new Error("the subscription was closed")));
    return stream;
  }

  #hear(stream: AllStreamSubscription): void {
    if (this.#stream !== stream) return;
    this.#heard += 1;
    this.#arrived();
  }

  /** The loop reads again, after its backoff, from what it has handled; that opens another stream. */
  #broken(stream: AllStreamSubscription, error: unknown): void {
    if (this.#stream !== stream) return;
    this.#brokenBy = error;
    this.#close();
    this.#arrived();
    this.#listener?.failed(error);
  }

  #close(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    this.#ahead = [];
    this.#aheadBytes = 0;
    this.#confirmed = false;
    this.#caughtUp = false;
    if (stream === undefined) return;
    // What it still says is of no interest, but it must be read out, and an error that nobody hears ends the process.
    stream.on("error", () => undefined);
    stream.resume();
    stream.unsubscribe().catch(() => undefined);
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
    const [stream, taken, heard] = [this.#stream, this.#taken, this.#heard];
    if (stream === undefined || this.#ahead.length > 0) return;
    const unheard = () => this.#stream === stream && this.#heard === heard && this.#ahead.length === 0;
    try {
      const tail = await this.#options.tail();
      if (taken === tail) return;
      if (taken !== "start" && tail < taken) throw new Error("the subscription stands behind the log's end");
      await grace();
      if (unheard()) throw new Error("the subscription fell silent before the log's end");
    } catch (error) {
      if (unheard()) this.#broken(stream, error);
    }
  }
}
