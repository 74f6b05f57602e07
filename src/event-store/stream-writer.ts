// The queue of one stream: decides what waits, appends it in one go, and answers when that is in the log.
import { setTimeout as sleep } from "node:timers/promises";
import type { Decider, TimedCommand } from "../domain/decider.ts";
import { DomainError, InvalidInput } from "../domain/errors.ts";
import { batchPerTick } from "../platform/batch-loader.ts";
import { failpoint } from "../platform/failpoint.ts";
import { type Batch, BatchPlanner, type Item, type Plan, type WriterParts } from "./decide-batch.ts";
import { type Appended, AppendTooLarge, OutcomeUnknown, WrongExpectedRevision } from "./event-store.ts";
import { type Folded, foldRecorded, MAX_BATCH } from "./folded.ts";
import type { StreamLoader } from "./stream-loader.ts";

/** Commands that may wait for one stream. */
const MAX_WAITING = 10_000;
const SNAPSHOT_EVERY = 1_000;
/** By how much a batch may grow after a success: slowly, so that two nodes on one stream come to share it. */
const BATCH_GROWTH = 4;
const RETRY_MS = [20, 50, 100, 250, 500, 1_000] as const;

type AnyData = { type: string; data: unknown };

/** Serves one stream until nothing waits; then its state can be kept and the writer dropped. */
export class StreamWriter<S, E extends AnyData, C extends TimedCommand> {
  readonly #parts: WriterParts;
  readonly #decider: Decider<S, E, C>;
  readonly #stream: string;
  readonly #loader: StreamLoader<S, E, C>;
  readonly #planner: BatchPlanner<S, E, C>;
  readonly #waiting: Item<S, E, C>[] = [];
  #folded: Folded<S> | undefined;
  #fresh = false;

  constructor(
    parts: WriterParts,
    decider: Decider<S, E, C>,
    stream: string,
    loader: StreamLoader<S, E, C>,
    folded: Folded<S> | undefined,
  ) {
    this.#parts = parts;
    this.#decider = decider;
    this.#stream = stream;
    this.#loader = loader;
    this.#planner = new BatchPlanner(parts, decider, stream, loader);
    this.#folded = folded;
  }

  /** Queues a command; false when too many wait. */
  push(item: Item<S, E, C>): boolean {
    if (this.#waiting.length >= MAX_WAITING) return false;
    this.#waiting.push(item);
    this.#fresh = false;
    return true;
  }

  /**
   * Runs until nothing waits, then calls `idle` with the state at the end, when it is known: in the same turn of the
   * event loop in which the queue was seen empty, so that no command is pushed to a writer that has stopped. Never throws.
   */
  async run(idle: (folded: Folded<S> | undefined) => void): Promise<void> {
    await batchPerTick();
    for (let failures = 0; this.#waiting.length > 0; ) {
      try {
        await this.#round();
        failures = 0;
      } catch (error) {
        // The state could not be read: whoever waits now is told, and those who come are served by another try.
        this.#parts.warn(error, "a stream could not be served");
        this.#folded = undefined;
        for (const item of this.#waiting.splice(0)) item.reject(error);
        await sleep(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 1_000);
        failures += 1;
      }
    }
    idle(this.#folded);
  }

  /** Decides a batch, appends it, answers. Nothing is answered before the state it rests on is known to be in the log. */
  async #round(): Promise<void> {
    if (this.#folded === undefined) {
      this.#fresh = true;
      this.#folded = await this.#loader.load();
    }
    const folded = this.#folded;
    const batch = await this.#planner.decide(this.#waiting, folded);
    try {
      if (batch.encoded.length > 0) return await this.#append(folded, batch);
      const now = this.#fresh ? folded : await this.#loader.catchUp(folded);
      // fence: stale-state
      if (now.revision !== folded.revision) return this.#again(now, batch);
      this.#answer(batch, folded);
    } catch (error) {
      this.#again(undefined, batch);
      throw error;
    }
  }

  /** Sends the same bytes with the same revision until the outcome is known. */
  async #append(folded: Folded<S>, batch: Batch<S, E, C>): Promise<void> {
    failpoint("decide/append");
    for (let failures = 0; ; failures += 1) {
      try {
        const appended = await this.#parts.store.append(this.#stream, folded.revision, batch.encoded);
        failpoint("append/answer");
        return this.#appended(folded, batch, appended);
      } catch (error) {
        if (error instanceof WrongExpectedRevision) return this.#conflict(folded, batch);
        if (!(error instanceof OutcomeUnknown)) {
          this.#folded = undefined;
          for (const { item } of batch.plans) item.reject(error);
          return;
        }
        this.#parts.warn(error, "the outcome of an append is unknown; it is sent again");
        await sleep(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 1_000);
      }
    }
  }

  #appended(folded: Folded<S>, batch: Batch<S, E, C>, { revision, position }: Appended): void {
    for (const plan of batch.plans) {
      if (plan.kind !== "events" || plan.item.context === null) continue;
      const { commandId, fingerprint } = plan.item.context;
      for (const event of plan.events) folded.commands.note(commandId, fingerprint, event.revision, position);
    }
    const due = revision - folded.snapshotAt >= SNAPSHOT_EVERY;
    const snapshotAt = due ? revision : folded.snapshotAt;
    const batchLimit = Math.min(MAX_BATCH, folded.batchLimit + BATCH_GROWTH);
    const now = { ...folded, state: batch.state, revision, at: batch.at, position, snapshotAt, batchLimit };
    this.#folded = now;
    this.#answer(batch, now);
    if (due) void this.#loader.save(now);
  }

  /** Somebody else wrote. Those whose events are in the log after all are answered, the rest is decided again. */
  async #conflict(folded: Folded<S>, batch: Batch<S, E, C>): Promise<void> {
    const tail = await this.#loader.readToEnd(folded.revision + 1);
    if (tail.length === 0) {
      // The state claims a revision that the log does not have: it came from a wrong snapshot.
      await this.#loader.discardSnapshot();
      return this.#again(undefined, batch);
    }
    const written = new Map(tail.map((event) => [event.id, event.revision]));
    // The writer with the larger batch takes longer between reading and appending: at equal sizes both get their share.
    const batchLimit = Math.max(1, Math.floor(batch.plans.length / 2));
    const now = { ...foldRecorded(this.#decider, folded, tail), batchLimit };
    const rest: Plan<S, E, C>[] = [];
    for (const plan of batch.plans) {
      const revision = plan.kind === "events" ? written.get(plan.encoded[0]?.id ?? "") : undefined;
      if (plan.kind !== "events" || revision === undefined) rest.push(plan);
      else {
        const events = plan.events.map((event, index) => ({ ...event, revision: revision + index }));
        const { state } = await this.#loader.loadAt(revision + events.length - 1);
        plan.item.resolve({ kind: "done", events, state, folded: now });
      }
    }
    this.#again(now, { ...batch, plans: rest });
  }

  #again(folded: Folded<S> | undefined, batch: Batch<S, E, C>): void {
    this.#folded = folded;
    this.#waiting.unshift(...batch.plans.map((plan) => plan.item));
  }

  #answer(batch: Batch<S, E, C>, folded: Folded<S>): void {
    for (const plan of batch.plans) {
      switch (plan.kind) {
        case "refused":
          plan.item.reject(plan.error);
          break;
        case "remembered":
          plan.item.resolve({ kind: "remembered", command: plan.command, folded });
          break;
        case "nothing":
          plan.item.resolve({ kind: "done", events: [], state: plan.state, folded });
          break;
        case "events":
          plan.item.resolve({ kind: "done", events: plan.events, state: plan.state, folded });
      }
    }
  }
}

/** Whether an error is an answer to the caller rather than a fault. */
export const isRefusal = (error: unknown): boolean =>
  error instanceof DomainError || error instanceof InvalidInput || error instanceof AppendTooLarge;
