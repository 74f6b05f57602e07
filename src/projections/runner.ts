// Runs the group: one subscription, one batch after the other, rows and checkpoint in one statement.
import type pg from "pg";
import type { Batch, EventStore, Subscription } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { LeaseTerm } from "../platform/leader.ts";
import { backoffMs, messageOf, pause, type WarnLogger } from "../platform/supervise.ts";
import { foldBatch } from "./batch.ts";
import { type Checkpoint, commitBatch, type Fence, type GroupState, openGroup } from "./checkpoint.ts";
import { decodeFor } from "./fold.ts";
import { type Projection, tableName } from "./projection.ts";

/** Events a batch. */
const MAX_BATCH = 500;
/**
 * How long the events after a batch wait for company when nobody waits for them: a batch of one costs as much as the
 * rows of some fifty events more, and under load there would be no end of them.
 */
const LINGER_MS = 20;

/** What read models are folded from and kept in, and which ones. */
export type ProjectionDependencies = {
  readonly pool: pg.Pool;
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly logger: WarnLogger;
  readonly projections: readonly Projection[];
};

/** `superseded`: another version of this program has taken the tables over. */
export type RunnerState = "stopped" | "catching_up" | "live" | "retrying" | "superseded";

/** Somebody else moved the checkpoint or swapped tables: what this runner knew no longer holds. */
class FenceLost extends Error {
  override readonly name = "FenceLost";
}

/** The tables that the checkpoint is true of are not the ones that this version of the code reads. */
class Superseded extends Error {
  override readonly name = "Superseded";
}

type RunnerOptions = {
  /** Called with each checkpoint that was written. */
  readonly onMoved?: (checkpoint: Checkpoint) => void;
  /** What each batch is written under; another runner may write too without it. */
  readonly term?: LeaseTerm;
  /** Called when the fence was lost, before the group is loaded again. */
  readonly onFenceLost?: () => void;
  /** Whether somebody waits for what comes next: it is not kept for company then. */
  readonly isAwaited?: () => boolean;
};

/** One process's runner. Any number may run: the fence lets one of them write a batch, the others read on from there. */
export class Runner implements AsyncDisposable {
  readonly #parts: ProjectionDependencies;
  readonly #options: RunnerOptions;
  readonly #closing = new AbortController();
  #resting = new AbortController();
  #fence: Fence = { checkpoint: "start", generation: 0 };
  #subscription: Subscription | undefined;
  #reloading: Promise<void> | undefined;
  #lastError: string | null = null;
  #superseded = false;

  constructor(parts: ProjectionDependencies, options: RunnerOptions = {}) {
    this.#parts = parts;
    this.#options = options;
  }

  /** Goes on from where the group stands, as soon as that can be known. */
  open(): void {
    this.#load();
  }

  /** Goes on from where the group stands. */
  start(group: GroupState): void {
    this.#check(group);
    this.#fence = { checkpoint: group.checkpoint, generation: group.generation };
    this.#options.onMoved?.(group.checkpoint);
    this.#subscription = this.#parts.store.subscribe({
      name: "projections",
      after: group.checkpoint,
      maxBatch: MAX_BATCH,
      handle: (batch) => this.#handle(batch),
      linger: () => this.#linger(),
    });
  }

  status(): { readonly state: RunnerState; readonly lastError: string | null } {
    if (this.#superseded) return { state: "superseded", lastError: this.#lastError };
    if (this.#reloading !== undefined) {
      return { state: this.#lastError === null ? "catching_up" : "retrying", lastError: this.#lastError };
    }
    const status = this.#subscription?.status();
    if (status === undefined || status.state === "closed") return { state: "stopped", lastError: this.#lastError };
    return { state: status.state, lastError: status.lastError };
  }

  /** Somebody waits now: goes on at once. */
  hurry(): void {
    this.#resting.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.hurry();
    await this.#reloading;
    await this.#subscription?.[Symbol.asyncDispose]();
  }

  async #handle({ events, upTo }: Batch): Promise<void> {
    const { pool, keyring } = this.#parts;
    if (this.#reloading !== undefined) throw new FenceLost("the group is being loaded again");
    const fence = this.#fence;
    const decoded = await decodeFor(keyring, this.#parts.projections, events);
    const writes = await foldBatch(pool, this.#parts.projections, decoded);
    failpoint("rows-folded/rows-committed");
    if (!(await commitBatch(pool, fence, upTo, writes, this.#options.term))) {
      this.#lastError = "the fence was lost";
      this.#options.onFenceLost?.();
      this.#load();
      throw new FenceLost("another process has moved the checkpoint or swapped the tables");
    }
    failpoint("rows-committed/waiters-told");
    this.#fence = { ...fence, checkpoint: upTo };
    this.#options.onMoved?.(upTo);
  }

  async #linger(): Promise<void> {
    if (this.#closing.signal.aborted || this.#options.isAwaited?.() === true) return;
    this.#resting = new AbortController();
    await pause(LINGER_MS, this.#resting.signal);
  }

  #load(): void {
    this.#reloading = this.#reload().finally(() => {
      this.#reloading = undefined;
    });
  }

  /** Stops, and goes on from where the group stands now; tries until that works. */
  async #reload(): Promise<void> {
    const { pool, store, logger } = this.#parts;
    const ended = this.#subscription?.[Symbol.asyncDispose]();
    for (let failures = 1; !this.#closing.signal.aborted; failures += 1) {
      try {
        await ended;
        const group = await openGroup(pool, store);
        if (this.#closing.signal.aborted) return;
        this.start(group);
        this.#superseded = false;
        this.#lastError = null;
        return;
      } catch (error) {
        this.#superseded = error instanceof Superseded;
        this.#lastError = messageOf(error);
        logger.warn({ err: error, failures }, "the group of read models could not go on");
        await pause(backoffMs(failures), this.#closing.signal);
      }
    }
  }

  #check(group: GroupState): void {
    const missing = this.#parts.projections.map(tableName).filter((table) => !group.tables.has(table));
    if (missing.length > 0) throw new Superseded(`the group no longer keeps ${missing.join(", ")}`);
  }
}
