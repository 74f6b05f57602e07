// The one way to supervise background work: a loop that logs, backs off and goes on, can be woken, and reports its state.

/** Where a background loop reports what fails. */
export type WarnLogger = { warn(fields: object, message: string): void };

const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;

/** Milliseconds to wait after so many failures in a row (1, 2, …): doubling up to `maxMs`, with jitter over the upper half. */
export function backoffMs(failures: number, maxMs = MAX_BACKOFF_MS): number {
  const full = Math.min(maxMs, FIRST_BACKOFF_MS * 2 ** Math.min(failures - 1, 16));
  return full / 2 + (Math.random() * full) / 2;
}

/** Waits, or returns early when the signal aborts. Never throws. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}

/** An error in one line. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Longest rest of a loop that is woken for what there is to do: an hour. */
export const IDLE_MS = 3_600_000;

/** Times of `wakeIn` within one such step of the clock share a step of the loop. */
const WAKE_GRID_MS = 25;
/** Max times that a loop is to be woken at; what is due at a further one waits for the end of a rest. */
const MAX_WAKE_TIMES = 10_000;

export type LoopStatus = { readonly state: "running" | "retrying" | "closed"; readonly lastError: string | null };

type LoopOptions = {
  /** For the log: "loop <name> failed". */
  readonly name: string;
  /** Does what is due and returns how long to rest, in milliseconds: 0 runs the next step at once. */
  readonly step: (signal: AbortSignal) => Promise<number>;
  /** How long to wait after each step that rests, even when woken: many small steps cost more than one. Default 0. */
  readonly lingerMs?: number;
  /** The longest backoff after failures. Default 5 s. */
  readonly maxBackoffMs?: number;
  readonly logger: WarnLogger;
};

/** Runs one step after the other until it is disposed. A step that throws is logged and runs again after a backoff. */
export class Loop implements AsyncDisposable {
  readonly #options: LoopOptions;
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  readonly #begun = Promise.withResolvers<void>();
  #woken = false;
  /** When it is to be woken, and the first of these times, on the monotonic clock. */
  readonly #wakeTimes = new Set<number>();
  #wakeAt = Number.POSITIVE_INFINITY;
  #endRest: (() => void) | undefined;
  #status: LoopStatus = { state: "running", lastError: null };

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#ended = this.#run();
  }

  status(): LoopStatus {
    return this.#status;
  }

  /** Resolves after the first step, whatever came of it. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Runs the next step now; does not shorten a backoff. */
  wake(): void {
    this.#woken = true;
    this.#endRest?.();
  }

  /** Runs a step in `ms`, whatever other times it is to be woken at. */
  wakeIn(ms: number): void {
    if (ms <= 0) {
      this.wake();
      return;
    }
    if (this.#wakeTimes.size >= MAX_WAKE_TIMES) return;
    const at = Math.ceil((performance.now() + ms) / WAKE_GRID_MS) * WAKE_GRID_MS;
    this.#wakeTimes.add(at);
    if (at >= this.#wakeAt) return;
    this.#wakeAt = at;
    this.#endRest?.(); // the rest goes on until the new time
  }

  /** Returns when the step that runs has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#endRest?.();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { name, logger, step, lingerMs = 0, maxBackoffMs } = this.#options;
    let failures = 0;
    await Promise.resolve(); // the first step must not run inside the constructor
    while (!signal.aborted) {
      this.#woken = false;
      try {
        const restMs = await step(signal);
        failures = 0;
        this.#status = { state: "running", lastError: null };
        this.#begun.resolve();
        if (restMs <= 0) continue;
        if (lingerMs > 0) await pause(lingerMs, signal);
        await this.#rest(restMs);
      } catch (error) {
        failures += 1;
        this.#status = { state: "retrying", lastError: messageOf(error) };
        this.#begun.resolve();
        const retryMs = Math.round(backoffMs(failures, maxBackoffMs));
        logger.warn({ loop: name, failures, err: error }, `loop ${name} failed; retrying in ${retryMs} ms`);
        await pause(retryMs, signal);
      }
    }
    this.#status = { state: "closed", lastError: this.#status.lastError };
    this.#begun.resolve();
  }

  async #rest(ms: number): Promise<void> {
    const until = performance.now() + ms;
    while (!this.#woken && !this.#closing.signal.aborted) {
      const left = Math.min(until, this.#wakeAt) - performance.now();
      if (left <= 0) break;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#endRest = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#endRest = undefined;
    }
    this.#forgetPast();
  }

  #forgetPast(): void {
    const now = performance.now();
    if (this.#wakeAt > now) return;
    this.#wakeAt = Number.POSITIVE_INFINITY;
    for (const at of this.#wakeTimes) {
      if (at <= now) this.#wakeTimes.delete(at);
      else this.#wakeAt = Math.min(this.#wakeAt, at);
    }
  }
}
