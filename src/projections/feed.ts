// The node's feed: one subscription to the log, fanned out in order to all on this node that follow what happens.

import type {
  Batch,
  EventStore,
  Position,
  RecordedEvent,
  Subscription,
  SubscriptionStatus,
} from "../event-store/event-store.ts";
import { messageOf, pause } from "../platform/supervise.ts";

/** How often the feed asks where the log ends, to know whether it lags. */
const PROBE_MS = 250;
/** How long one such answer is waited for before the feed asks anew. */
const PROBE_TIMEOUT_MS = 5_000;

/**
 * Follows the feed. Called with one batch after the other, never twice at once, each event once: when one listener
 * throws, the batch comes again, but only to those that have not handled it. While one fails all wait: what cannot be
 * applied must not be passed over. So listeners do what may fail for one room or user alone elsewhere.
 */
type FeedListener = (events: readonly RecordedEvent[], upTo: Position) => Promise<void> | void;

type Place = Position | "start";
type Listening = { readonly listener: FeedListener; handled: Place };
type Waiter = { readonly position: Position; readonly done: (reached: boolean) => void };

type LiveFeedOptions = {
  readonly store: EventStore;
  readonly logger: { warn(fields: object, message: string): void };
  /** Where it begins, exclusive: the read side's checkpoint when listeners start from the read model. */
  readonly after: Place;
};

/** The feed of this node. Listeners that must see every event are added before `start`. */
export class LiveFeed implements AsyncDisposable {
  readonly #options: LiveFeedOptions;
  readonly #listening = new Set<Listening>();
  readonly #waiters = new Set<Waiter>();
  readonly #closing = new AbortController();
  #handled: Place;
  #subscription: Subscription | undefined;
  #probing: Promise<void> = Promise.resolve();
  /** All that was in the log at this moment of the monotonic clock has been handled. */
  #freshAt = Number.NEGATIVE_INFINITY;
  #tail: Promise<Position> | undefined;
  #nextTail: Promise<Position> | undefined;

  constructor(options: LiveFeedOptions) {
    this.#options = options;
    this.#handled = options.after;
  }

  /** Adds a listener: it is called with what comes after `handled()`. */
  on(listener: FeedListener): Disposable {
    const listening: Listening = { listener, handled: this.#handled };
    this.#listening.add(listening);
    return { [Symbol.dispose]: () => void this.#listening.delete(listening) };
  }

  /** Starts the subscription; does nothing the second time. */
  start(): void {
    if (this.#subscription !== undefined) return;
    const { store, after } = this.#options;
    this.#subscription = store.subscribe({ name: "live", after, handle: (batch) => this.#handle(batch) });
    this.#probing = this.#probe(this.#closing.signal);
  }

  /** What every listener has handled. */
  handled(): Place {
    return this.#handled;
  }

  /** Resolves once everything up to the position was handled: true, or false when the time is up or the feed closes. */
  reached(position: Position, timeoutMs: number): Promise<boolean> {
    if (isAtLeast(this.#handled, position)) return Promise.resolve(true);
    if (this.#closing.signal.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const waiter: Waiter = {
        position,
        done: (reached) => {
          clearTimeout(timer);
          this.#waiters.delete(waiter);
          resolve(reached);
        },
      };
      const timer = setTimeout(() => waiter.done(false), timeoutMs);
      this.#waiters.add(waiter);
    });
  }

  /** Resolves once everything that was in the log at this call was handled: true, or false when the time is up. */
  async caughtUp(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    const tail = await Promise.race([this.#tailFromNow().catch(() => undefined), this.#timeUp(timeoutMs)]);
    return tail !== undefined && this.reached(tail, Math.max(0, deadline - performance.now()));
  }

  /** For how long something in the log may have gone unhandled, in milliseconds; small when nothing has. */
  lagMs(): number {
    return performance.now() - this.#freshAt;
  }

  /** For `/readyz`. */
  status(): SubscriptionStatus {
    return this.#subscription?.status() ?? { name: "live", state: "closed", handled: this.#handled, lastError: null };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    for (const waiter of this.#waiters) waiter.done(false);
    await this.#subscription?.[Symbol.asyncDispose]();
    await this.#probing;
  }

  async #handle({ events, upTo }: Batch): Promise<void> {
    // One that is added meanwhile is handed this batch too: what comes after `handled()` is what it was promised.
    for (const listening of this.#listening) {
      const from = listening.handled;
      if (from !== "start" && from >= upTo) continue;
      const first = events[0];
      const whole = first === undefined || from === "start" || from < first.position;
      await listening.listener(whole ? events : events.filter((event) => event.position > from), upTo);
      listening.handled = upTo;
    }
    this.#handled = upTo;
    for (const waiter of this.#waiters) if (waiter.position <= upTo) waiter.done(true);
  }

  async #probe(closing: AbortSignal): Promise<void> {
    while (!closing.aborted) {
      const asked = performance.now();
      try {
        const tail = await this.#tailFromNow();
        if (await this.reached(tail, PROBE_TIMEOUT_MS)) this.#freshAt = asked;
      } catch (error) {
        this.#options.logger.warn({ error: messageOf(error) }, "the log's end could not be read");
      }
      await pause(PROBE_MS, closing);
    }
  }

  /** The log's tail, asked for after this call; callers share what was not asked yet, so a flood costs one question at a time. */
  #tailFromNow(): Promise<Position> {
    if (this.#tail === undefined) {
      this.#tail = this.#options.store.tail().finally(() => {
        this.#tail = undefined;
      });
      return this.#tail;
    }
    this.#nextTail ??= this.#tail
      .catch(() => undefined)
      .then(() => {
        this.#nextTail = undefined;
        return this.#tailFromNow();
      });
    return this.#nextTail;
  }

  #timeUp(ms: number): Promise<undefined> {
    return new Promise((resolve) => {
      setTimeout(() => resolve(undefined), ms).unref();
    });
  }
}

const isAtLeast = (place: Place, position: Position): boolean => place !== "start" && place >= position;
