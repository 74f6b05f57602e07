// The node's feed: follows the log once, and hands each batch in order to all on this node that follow what happens.
import type { Batch, EventStore, Position, RecordedEvent, SubscriptionStatus } from "../event-store/event-store.ts";
import { batchLoader } from "../platform/bounded.ts";
import { within } from "../platform/postgres.ts";
import { Loop, messageOf, type WarnLogger } from "../platform/supervise.ts";
import { type Checkpoint, Consumer, isAfter, PositionTracker } from "./consumer.ts";

/** How often the feed reads where the log ends, to know whether it lags, and how often where nobody wants to know. */
const PROBE_MS = 250;
const IDLE_PROBE_MS = 750;
/** Nobody wants to know when the lag was not read for so long. */
const IN_USE_MS = 2_000;
/** After so long without an answer the log counts as away. */
const TAIL_TIMEOUT_MS = 1_000;
/** How long after the log is back the feed may take to follow it again; then it lags. */
const RECOVERY_MS = 10_000;
/** How long it waits to reach that end before it reads it anew. */
const PROBE_TIMEOUT_MS = 5_000;

/**
 * Follows the feed. Called with one batch after the other, never twice at once, each event once: when one listener
 * throws, the batch comes again, but only to those that have not handled it. While one fails all wait: what cannot be
 * applied must not be passed over. So listeners do what may fail for one room or user alone elsewhere.
 */
type FeedListener = (events: readonly RecordedEvent[], upTo: Position) => Promise<void> | void;

type Listening = { readonly listener: FeedListener; handled: Checkpoint };

type LiveFeedOptions = {
  readonly store: EventStore;
  readonly logger: WarnLogger;
  /** Where it begins, exclusive: the read side's checkpoint when listeners start from the read model. */
  readonly after: Checkpoint;
  /** The monotonic clock, in milliseconds. */
  readonly clock: () => number;
};

/** The feed of this node. Listeners that must see every event are added before `start`. */
export class LiveFeed implements AsyncDisposable {
  readonly #options: LiveFeedOptions;
  readonly #listening = new Set<Listening>();
  readonly #positions: PositionTracker;
  readonly #consumer: Consumer;
  #probing: Loop | undefined;
  /** All that was in the log at this moment of the clock has been handled. */
  #freshAt = Number.NEGATIVE_INFINITY;
  #lagReadAt = Number.NEGATIVE_INFINITY;
  /** Since the log went away; `backAt`: when it answered again. */
  #outage: { backAt: number | undefined } | undefined;
  /** The log's end, read after the call: a flood of callers costs one read at a time. */
  readonly #tail: () => Promise<Position>;

  constructor(options: LiveFeedOptions) {
    const { store, logger } = options;
    this.#options = options;
    this.#positions = new PositionTracker(options.after);
    const handle = (batch: Batch) => this.#handle(batch);
    const open = async () => ({ after: this.#positions.position, handle });
    this.#consumer = new Consumer({ name: "live", store, logger, open });
    const load = batchLoader<null, { position: Position }>(
      async () => new Map([["tail", { position: await store.tail() }]]),
      1,
    );
    this.#tail = async () => (await load("tail", null))?.position ?? store.tail();
  }

  /** Adds a listener: it is called with what comes after `handled()`. */
  on(listener: FeedListener): Disposable {
    const listening: Listening = { listener, handled: this.handled() };
    this.#listening.add(listening);
    return { [Symbol.dispose]: () => void this.#listening.delete(listening) };
  }

  /** Starts to follow; does nothing the second time. */
  start(): void {
    void this.#consumer.start();
    this.#probing ??= new Loop({ name: "live probe", step: () => this.#probe(), logger: this.#options.logger });
  }

  /** What every listener has handled. */
  handled(): Checkpoint {
    return this.#positions.position;
  }

  /** Resolves once everything up to the position was handled: true, or false when the time is up or the feed closes. */
  waitFor(position: Position, timeoutMs: number): Promise<boolean> {
    return this.#positions.waitFor(position, timeoutMs);
  }

  /** Resolves once everything that was in the log at this call was handled: true, or false when the time is up. */
  async caughtUp(timeoutMs: number): Promise<boolean> {
    const { clock } = this.#options;
    const deadline = clock() + timeoutMs;
    const tail = await within(timeoutMs, this.#tail(), "the log's end was not read in time").catch(() => undefined);
    return tail !== undefined && this.waitFor(tail, Math.max(0, deadline - clock()));
  }

  /** For how long something in the log may have gone unhandled, in milliseconds; small when nothing has. */
  lagMs(): number {
    const now = this.#options.clock();
    if (now >= this.#lagReadAt + IN_USE_MS) this.#probing?.wake();
    this.#lagReadAt = now;
    return now - this.#freshAt;
  }

  /**
   * Whether the log cannot be read, or could not a moment ago and what was written meanwhile is being caught up on. What
   * this node has folded is the newest that it can know then.
   */
  isLogAway(): boolean {
    const { backAt } = this.#outage ?? { backAt: Number.NEGATIVE_INFINITY };
    return backAt === undefined || this.#options.clock() < backAt + RECOVERY_MS;
  }

  /** For `/readyz`. */
  status(): SubscriptionStatus {
    const { name, state, lastError } = this.#consumer.status();
    const shown = state === "stopped" || state === "standby" ? "closed" : state;
    return { name, state: shown, handled: this.handled(), lastError };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#positions[Symbol.dispose]();
    await Promise.all([this.#consumer[Symbol.asyncDispose](), this.#probing?.[Symbol.asyncDispose]()]);
  }

  async #handle({ events, upTo }: Batch): Promise<void> {
    // One that is added meanwhile is handed this batch too: it was promised what comes after `handled()`.
    for (const listening of this.#listening) {
      const from = listening.handled;
      if (!isAfter(upTo, from)) continue;
      const first = events[0];
      const isNew = first === undefined || isAfter(first.position, from);
      await listening.listener(isNew ? events : events.filter((event) => isAfter(event.position, from)), upTo);
      listening.handled = upTo;
    }
    this.#positions.advance(upTo);
  }

  /** Catches its errors itself: `lagMs` must fall as soon as the log can be read again. */
  async #probe(): Promise<number> {
    const { clock, logger } = this.#options;
    const startedAt = clock();
    try {
      const tail = await within(TAIL_TIMEOUT_MS, this.#tail(), "the log's end was not read in time");
      if (this.#outage !== undefined) this.#outage.backAt ??= clock();
      if (!(await this.waitFor(tail, PROBE_TIMEOUT_MS))) return PROBE_MS;
      this.#freshAt = startedAt;
      this.#outage = undefined;
    } catch (error) {
      if (this.#outage !== undefined) this.#outage.backAt = undefined;
      else this.#outage = { backAt: undefined };
      logger.warn({ error: messageOf(error) }, "live feed could not read the log's end; retrying");
    }
    return startedAt < this.#lagReadAt + IN_USE_MS ? PROBE_MS : IDLE_PROBE_MS;
  }
}

/** Those who listen to what the feed says of one user, or one client. */
export class KeyedListeners<K, L> {
  readonly #byKey = new Map<K, Set<L>>();

  /** How many keys somebody listens to. */
  get size(): number {
    return this.#byKey.size;
  }

  /** Listens until it is disposed. */
  add(key: K, listener: L): Disposable {
    const own = this.#byKey.get(key) ?? new Set();
    this.#byKey.set(key, own.add(listener));
    return {
      [Symbol.dispose]: () => {
        own.delete(listener);
        if (own.size === 0 && this.#byKey.get(key) === own) this.#byKey.delete(key);
      },
    };
  }

  /** Undefined when nobody listens. */
  of(key: K): ReadonlySet<L> | undefined {
    return this.#byKey.get(key);
  }

  clear(): void {
    this.#byKey.clear();
  }
}
