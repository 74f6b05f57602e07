// How far the log is known to be on disk. What lies beyond can be read, and may yet be gone when PostgreSQL crashes.

import { numberOf } from "../append-checks.ts";
import { type Position, positionOf, type RecordedEvent, StoreUnavailable } from "../event-store.ts";
import type { FeedListener } from "../subscription.ts";

/**
 * The log up to a number, for this process: told by its own flushes, by NOTIFY and by a slow poll, asked for where
 * somebody has read more. An answer may rest on nothing beyond it.
 */
export class Reach {
  readonly #logId: string;
  readonly #makeDurable: () => Promise<number>;
  readonly #listeners = new Set<FeedListener>();
  #number = 0;
  #underWay: Promise<number> | undefined;

  /** `makeDurable` puts what there is on disk, and gives the number of its last event. */
  constructor(logId: string, makeDurable: () => Promise<number>) {
    this.#logId = logId;
    this.#makeDurable = makeDurable;
  }

  /** The number of the last event that is known to be on disk. */
  get number(): number {
    return this.#number;
  }

  /** The log is on disk up to this number. */
  reached(number: number): void {
    if (!(number > this.#number)) return;
    this.#number = number;
    const position = this.#position();
    for (const listener of this.#listeners) listener.appended(position);
  }

  /** Whatever tells of the log's growth is broken. */
  failed(error: unknown): void {
    for (const listener of this.#listeners) listener.failed(error);
  }

  listen(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    if (this.#number > 0) listener.appended(this.#position());
    return () => this.#listeners.delete(listener);
  }

  /** Puts what there is on disk; gives the number of its last event. Shared by all who ask while it is under way. */
  refresh(): Promise<number> {
    this.#underWay ??= this.#makeDurable()
      .then((number) => {
        this.reached(number);
        return number;
      })
      .finally(() => {
        this.#underWay = undefined;
      });
    return this.#underWay;
  }

  /**
   * Resolves when the event of this number, which was read just now, is on disk. Throws StoreUnavailable when that cannot
   * be had, or it is gone again.
   */
  async untilDurable(number: number): Promise<void> {
    if (number <= this.#number) return;
    await this.#underWay; // it may have begun before the event was there to be read
    if (number <= this.#number) return;
    if ((await this.refresh()) < number) throw new StoreUnavailable("PostgreSQL lost an event that was read");
  }

  /** Events of one read, once all of them are on disk. */
  async allDurable(events: RecordedEvent[]): Promise<RecordedEvent[]> {
    for (const event of [events[0], events.at(-1)]) {
      // fence: read-durable
      if (event !== undefined) await this.untilDurable(numberOf(this.#logId, event.position));
    }
    return events;
  }

  #position(): Position {
    return positionOf(this.#logId, this.#number);
  }
}
