// The one way to follow the log: batch by batch from a checkpoint on, supervised, in one process at a time where it is led.
import {
  type Batch,
  type EventStore,
  type Position,
  parsePosition,
  type Subscription,
  type SubscriptionStatus,
} from "../event-store/event-store.ts";
import { Leader, type Lease, type LeaseTerm } from "../platform/leader.ts";
import { Loop, pause, type WarnLogger } from "../platform/supervise.ts";

/** Everything up to and including this position has been handled; `start`: nothing has. */
export type Checkpoint = Position | "start";

export const isAfter = (position: Checkpoint, other: Checkpoint): boolean =>
  position !== "start" && (other === "start" || position > other);

/** The number within its log; 0 before the first event. */
export const numberOf = (position: Checkpoint): number =>
  position === "start" ? 0 : Number(parsePosition(position)?.value ?? 0n);

/** How far a checkpoint is behind the log's end, in positions; null when the end cannot be read now. */
export const lagOf = (store: Pick<EventStore, "tail">, checkpoint: Checkpoint): Promise<number | null> =>
  store.tail().then(
    (tail) => Math.max(0, numberOf(tail) - numberOf(checkpoint)),
    () => null,
  );

/** For how long the first event after a checkpoint is in the log, in ms: 0 without one, null when it cannot be read now. */
export const lagMsOf = (
  store: Pick<EventStore, "readAll">,
  checkpoint: Checkpoint,
  now: number,
): Promise<number | null> =>
  store.readAll({ after: checkpoint, limit: 1, withoutBlobs: true }).then(
    ([first]) => (first === undefined ? 0 : Math.max(0, now - first.recordedAt)),
    () => null,
  );

/** A handler knows no longer where its consumer is: another process moved the checkpoint, or leads. Nothing was written. */
export class FenceLost extends Error {
  override readonly name = "FenceLost";
}

/** What a consumer does from one checkpoint on, until its fence or its lease is lost. */
type Run = {
  /** Exclusive. */
  readonly after: Checkpoint;
  /** Handles one batch and, where there is a checkpoint, moves it to `upTo`. Throws FenceLost when it may not. */
  readonly handle: (batch: Batch) => Promise<void>;
};

type ConsumerOptions = {
  /** Shows in logs and in `/readyz`. */
  readonly name: string;
  readonly store: Pick<EventStore, "subscribe">;
  readonly logger: WarnLogger;
  /** Begins a run at the stored checkpoint. What is written during the run is written under the term. */
  readonly open: (term: LeaseTerm | undefined) => Promise<Run>;
  /** Only the process that holds this lease consumes. Without it every process does. */
  readonly lease?: Lease;
  /** Events a batch, at most. Default 500. */
  readonly maxBatch?: number;
  /** How long to wait at the log's end before the next batch is read: few large batches cost less. Default 0. */
  readonly lingerMs?: number;
  /** Whether somebody waits for the next batch: it does not linger then. */
  readonly isAwaited?: () => boolean;
};

/** `stopped`: not started, or disposed. `standby`: another process holds the lease. */
type ConsumerState = Exclude<SubscriptionStatus["state"], "closed"> | "standby" | "stopped";

type ConsumerStatus = {
  readonly name: string;
  readonly state: ConsumerState;
  /** The last position that this process handled, or where it began; undefined before that. */
  readonly handled: Checkpoint | undefined;
  readonly lastError: string | null;
};

/**
 * Follows the log.
 *
 * - **Order.** Batches come in log order, without a gap, one after the other: no handler is called before the one before
 *   it has ended, nor `open` before the run before it has.
 * - **At least once.** A batch whose handler threw comes again, with the same events, after a backoff; after a crash, what
 *   follows the stored checkpoint comes again. So a handler whose effect and checkpoint are one transaction has each
 *   effect once.
 * - **Several processes.** A lease makes it rare that two consume at once, and cannot rule it out: a process may be paused
 *   between a look and a write. The handler's own condition does: it writes only if the checkpoint is where this run left
 *   it and the term still holds, and throws FenceLost if not.
 * - **Fence lost.** The run ends, the lease is renewed at once (which ends the term if it is lost), and another run begins
 *   at the stored checkpoint: at once, or with backoff when the run handled nothing.
 * - **Lease lost.** The run ends when its handler has; it begins again when this process leads again.
 * - **Errors.** `open` is tried again with backoff. A drop, an error or a normal end of the subscription reconnects behind
 *   the last handled position. All of it shows in `status`.
 *
 * The checkpoint belongs to the user: `open` reads it, `handle` moves it. A user without one begins where it likes.
 */
export class Consumer implements AsyncDisposable {
  readonly #options: ConsumerOptions;
  #leader: Leader | undefined;
  #loop: Loop | undefined;
  #subscription: Subscription | undefined;
  #handled: Checkpoint | undefined;
  #lingering = new AbortController();
  #unled: AsyncDisposable | undefined;

  constructor(options: ConsumerOptions) {
    this.#options = options;
  }

  /** Starts, once. Resolves when it is known whether this process consumes. */
  async start(): Promise<void> {
    const { lease, logger } = this.#options;
    if (lease === undefined) this.#unled ??= this.#follow(undefined);
    else this.#leader ??= new Leader({ ...lease, logger, lead: async (term) => this.#follow(term) });
    await this.#leader?.decided;
  }

  /** Whether this process consumes. */
  get leads(): boolean {
    return this.#leader?.leads ?? this.#unled !== undefined;
  }

  /** Ends the lingering: somebody waits for what comes next. */
  flushNow(): void {
    this.#lingering.abort();
  }

  status(): ConsumerStatus {
    const handled = this.#subscription?.status().handled ?? this.#handled;
    const { state, lastError } = this.#state();
    return { name: this.#options.name, state, handled, lastError };
  }

  /** Returns when the handler that runs has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await (this.#leader ?? this.#unled)?.[Symbol.asyncDispose]();
    this.#leader = undefined;
    this.#unled = undefined;
  }

  #state(): Pick<ConsumerStatus, "state" | "lastError"> {
    if (this.#leader?.leads === false) return { state: "standby", lastError: this.#leader.lastError };
    if (!this.leads) return { state: "stopped", lastError: null };
    const { state, lastError } = this.#subscription?.status() ?? { state: "closed", lastError: null };
    if (state !== "closed") return { state, lastError };
    // Between two runs.
    const openError = this.#loop?.status().lastError ?? null;
    return { state: openError === null ? "catching_up" : "retrying", lastError: openError };
  }

  /** Consumes until it is disposed. */
  #follow(term: LeaseTerm | undefined): AsyncDisposable {
    const { name, logger } = this.#options;
    const loop = new Loop({ name, step: (signal) => this.#run(term, signal), logger });
    this.#loop = loop;
    return loop;
  }

  /** One run. Throws FenceLost when it handled nothing, so that the next one waits. */
  async #run(term: LeaseTerm | undefined, closing: AbortSignal): Promise<number> {
    const { name, store, open, maxBatch } = this.#options;
    const run = await open(term);
    if (closing.aborted) return 0;
    const lost = Promise.withResolvers<FenceLost | undefined>();
    let batches = 0;
    const end = () => {
      lost.resolve(undefined);
      this.flushNow();
    };
    closing.addEventListener("abort", end, { once: true });
    const subscription = store.subscribe({
      name,
      after: run.after,
      ...(maxBatch === undefined ? {} : { maxBatch }),
      async handle(batch) {
        try {
          await run.handle(batch);
          batches += 1;
        } catch (error) {
          if (error instanceof FenceLost) lost.resolve(error);
          throw error;
        }
      },
      linger: () => this.#linger(closing),
    });
    this.#subscription = subscription;
    const fenceLost = await lost.promise;
    closing.removeEventListener("abort", end);
    if (fenceLost !== undefined) this.#leader?.renewNow();
    await subscription[Symbol.asyncDispose]();
    this.#handled = subscription.status().handled;
    this.#subscription = undefined;
    if (fenceLost !== undefined && batches === 0) throw fenceLost;
    return 0;
  }

  async #linger(closing: AbortSignal): Promise<void> {
    const { lingerMs = 0, isAwaited } = this.#options;
    if (lingerMs === 0 || closing.aborted || isAwaited?.() === true) return;
    this.#lingering = new AbortController();
    await pause(lingerMs, this.#lingering.signal);
  }
}

/** How many may wait for one tracker at once; one more is told at once that the position was not reached. */
const MAX_WAITERS = 10_000;

type Waiter = { readonly position: Position; readonly done: (arrived: boolean) => void };

/** How far something has come, as far as this process knows, and who waits for it to come further. Never goes back. */
export class PositionTracker implements Disposable {
  readonly #waiting = new Set<Waiter>();
  #position: Checkpoint;
  #closed = false;

  constructor(position: Checkpoint) {
    this.#position = position;
  }

  get position(): Checkpoint {
    return this.#position;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Whether somebody waits. */
  get isAwaited(): boolean {
    return this.#waiting.size > 0;
  }

  advance(position: Checkpoint): void {
    if (!isAfter(position, this.#position)) return;
    this.#position = position;
    for (const waiter of this.#waiting) if (!isAfter(waiter.position, position)) waiter.done(true);
  }

  /** Resolves to true once the position is reached; to false when the time is up, this is closed, or too many wait. */
  waitFor(position: Position, timeoutMs: number): Promise<boolean> {
    if (!isAfter(position, this.#position)) return Promise.resolve(true);
    if (this.#closed || timeoutMs <= 0 || this.#waiting.size >= MAX_WAITERS) return Promise.resolve(false);
    return new Promise((resolve) => {
      const done = (arrived: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(waiter);
        resolve(arrived);
      };
      const waiter: Waiter = { position, done };
      const timer = setTimeout(() => done(false), timeoutMs);
      this.#waiting.add(waiter);
    });
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const waiter of this.#waiting) waiter.done(false);
  }
}
