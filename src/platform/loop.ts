// A supervised loop: one step after the other, woken when there is something to do, else by a slow clock.
import type { Logger } from "pino";
import type { Instant } from "../domain/time.ts";
import { backoffMs, messageOf, pause } from "./backoff.ts";

export type LoopStatus = { readonly state: "running" | "retrying" | "closed"; readonly lastError: string | null };

type LoopOptions = {
  readonly name: string;
  /** Does what there is to do; true: there may be more at once. */
  readonly step: (signal: AbortSignal) => Promise<boolean>;
  /** How long what comes right after a step waits for company: many steps of one thing each cost more. Default: 0. */
  readonly companyMs?: number;
  /** The longest that it rests. */
  readonly idleMs: number;
  readonly now: () => Instant;
  readonly logger: Logger;
};

/** Runs until it is disposed; a step that throws comes again after a backoff. */
export class Loop implements AsyncDisposable {
  readonly #options: LoopOptions;
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  #woken = false;
  #wakeAt = Number.POSITIVE_INFINITY;
  #rest: (() => void) | undefined;
  #status: LoopStatus = { state: "running", lastError: null };

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#ended = this.#run();
  }

  status(): LoopStatus {
    return this.#status;
  }

  wake(): void {
    this.#woken = true;
    this.#rest?.();
  }

  /** Wakes at this time, or now when it has passed. Only the earliest is kept; a later one may wait for the slow clock. */
  wakeAt(at: Instant): void {
    if (at <= this.#options.now()) this.wake();
    else if (at < this.#wakeAt) {
      this.#wakeAt = at;
      // A rest that is under way is cut short only to be measured again.
      this.#rest?.();
    }
  }

  /** Returns when the step under way has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#rest?.();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { name, logger, step, companyMs = 0 } = this.#options;
    let failures = 0;
    await Promise.resolve(); // the first step must not run inside the constructor
    while (!signal.aborted) {
      this.#woken = false;
      try {
        const more = await step(signal);
        failures = 0;
        this.#status = { state: "running", lastError: null };
        if (more) continue;
        if (companyMs > 0) await pause(companyMs, signal);
        await this.#restUntilWoken();
      } catch (error) {
        failures += 1;
        this.#status = { state: "retrying", lastError: messageOf(error) };
        logger.warn({ loop: name, failures, err: error }, "a worker's loop failed and goes on");
        await pause(backoffMs(failures), signal);
      }
    }
    this.#status = { state: "closed", lastError: this.#status.lastError };
  }

  async #restUntilWoken(): Promise<void> {
    const until = this.#options.now() + this.#options.idleMs;
    while (!this.#woken && !this.#closing.signal.aborted) {
      const moment = this.#options.now();
      const end = Math.min(until, this.#wakeAt);
      if (end <= moment) {
        if (this.#wakeAt <= moment) this.#wakeAt = Number.POSITIVE_INFINITY;
        return;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, end - moment);
        this.#rest = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#rest = undefined;
    }
  }
}
