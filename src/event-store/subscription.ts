// A subscription: a supervised read loop from a position, the same for catching up and for following the log's end.

import { backoffMs, messageOf, pause, type WarnLogger } from "../platform/supervise.ts";
import type {
  Batch,
  Position,
  RecordedEvent,
  SubscribeOptions,
  Subscription,
  SubscriptionStatus,
} from "./event-store.ts";
import { isBlob } from "./event-store.ts";

/** How many events a batch holds when the subscriber does not say. */
const DEFAULT_MAX_BATCH = 500;

/** The longest backoff after failed reads: all that follows the log waits for the first read once the log is back. */
const MAX_READ_BACKOFF_MS = 1_000;

/** What a log notifies a read loop of. */
export type FeedListener = {
  /** The log extends at least to this position. */
  appended(upTo: Position): void;
  /** Notifications are broken: the loop cannot know that it is at the end. It reads again after a backoff. */
  failed(error: unknown): void;
};

/** Where a read loop reads from. */
export type Feed = {
  /**
   * Events after a position, in order, at most `limit`; `atEnd` when the log held no more. Those of blobs may be without
   * content. Throws when unreachable.
   */
  read(after: Position | "start", limit: number): Promise<Page>;
  /**
   * Notifies the listener of every append after the call, by any process, sooner or later. It also calls the listener at
   * once with the end that is known, for what was appended between a read and this call. Returns how to stop.
   */
  listen(listener: FeedListener): () => void;
};

export type Page = { readonly events: readonly RecordedEvent[]; readonly atEnd: boolean };

/** The subscriptions of a log that are open; disposing it closes them all. */
export class Subscriptions implements AsyncDisposable {
  readonly #open = new Set<ReadLoop>();
  readonly #feed: Feed;
  readonly #logger: WarnLogger | undefined;

  constructor(feed: Feed, logger: WarnLogger | undefined) {
    this.#feed = feed;
    this.#logger = logger;
  }

  /**
   * Starts one. A batch whose handler threw comes again, with the same events, after a backoff; after a failed read it
   * goes on behind the last handled position. Disposing waits for the running handler, so a handler must not await
   * the disposal of its own subscription. Throws `RangeError` for a `maxBatch` below 1.
   */
  start(options: SubscribeOptions): Subscription {
    const loop = new ReadLoop(this.#feed, options, this.#logger, () => this.#open.delete(loop));
    this.#open.add(loop);
    return loop;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(Array.from(this.#open, (loop) => loop[Symbol.asyncDispose]()));
  }
}

class ReadLoop implements Subscription {
  readonly #feed: Feed;
  readonly #options: SubscribeOptions;
  readonly #logger: WarnLogger | undefined;
  readonly #maxBatch: number;
  readonly #closing = new AbortController();
  readonly #stopListening: () => void;
  readonly #ended: Promise<void>;
  #handled: Position | "start";
  #announced: Position | "start" = "start";
  #state: SubscriptionStatus["state"] = "catching_up";
  #lastError: string | null = null;
  #feedError: { readonly error: unknown } | undefined;
  #wake: () => void = () => {};
  /** Read, but not handled yet: a handler that threw gets it again. */
  #unhandled: { readonly batch: Batch; readonly atEnd: boolean } | undefined;

  constructor(feed: Feed, options: SubscribeOptions, logger: WarnLogger | undefined, onEnd: () => void) {
    this.#maxBatch = options.maxBatch ?? DEFAULT_MAX_BATCH;
    if (!Number.isSafeInteger(this.#maxBatch) || this.#maxBatch < 1) {
      throw new RangeError(`maxBatch must be a whole number from 1: ${this.#maxBatch}`);
    }
    this.#feed = feed;
    this.#options = options;
    this.#logger = logger;
    this.#handled = options.after;
    this.#stopListening = feed.listen({
      appended: (upTo) => {
        if (!isAfter(upTo, this.#announced)) return;
        this.#announced = upTo;
        this.#wake();
      },
      failed: (error) => {
        this.#feedError = { error };
        this.#wake();
      },
    });
    this.#ended = this.#run().finally(onEnd);
  }

  status(): SubscriptionStatus {
    return { name: this.#options.name, state: this.#state, handled: this.#handled, lastError: this.#lastError };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#wake();
    await this.#ended;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      try {
        const atEnd = await this.#readAndHandle();
        failures = 0;
        this.#lastError = null;
        this.#state = atEnd ? "live" : "catching_up";
        if (atEnd) await this.#options.linger?.();
        if (atEnd) await this.#moreToRead();
      } catch (error) {
        failures += 1;
        this.#state = "retrying";
        this.#lastError = messageOf(error);
        const delayMs = this.#unhandled === undefined ? backoffMs(failures, MAX_READ_BACKOFF_MS) : backoffMs(failures);
        const about = { subscription: this.#options.name, handled: this.#handled, failures, err: error };
        this.#logger?.warn(about, `subscription failed; retrying in ${Math.round(delayMs)} ms`);
        await pause(delayMs, this.#closing.signal);
      }
    }
    this.#stopListening();
    this.#state = "closed";
  }

  /** Whether the log's end was reached. */
  async #readAndHandle(): Promise<boolean> {
    // An error from before the read is answered by the read.
    this.#feedError = undefined;
    this.#unhandled ??= await this.#readBatch();
    if (this.#unhandled === undefined) return true;
    if (this.#closing.signal.aborted) return false;
    const { batch, atEnd } = this.#unhandled;
    await this.#options.handle(batch);
    this.#handled = batch.upTo;
    this.#unhandled = undefined;
    return atEnd;
  }

  async #readBatch(): Promise<{ batch: Batch; atEnd: boolean } | undefined> {
    const announced = this.#announced;
    const { events, atEnd } = await this.#feed.read(this.#handled, this.#maxBatch);
    const upTo = events.at(-1)?.position;
    const handedOver = events.filter((event) => /* fence: blobs-passed-over */ !isBlob(event));
    if (upTo !== undefined) return { batch: { events: handedOver, upTo }, atEnd };
    // What was announced before the read is not there (a log restored from a backup): do not read for it in a loop.
    if (this.#announced === announced) this.#announced = this.#handled;
    return undefined;
  }

  /** Resolves when there is something after the handled position; throws when notifications are broken. */
  async #moreToRead(): Promise<void> {
    while (!this.#closing.signal.aborted && !isAfter(this.#announced, this.#handled)) {
      if (this.#feedError !== undefined) throw this.#feedError.error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = () => {};
    }
  }
}

const isAfter = (position: Position | "start", other: Position | "start"): boolean =>
  position !== "start" && (other === "start" || position > other);
