// Loads the state of a stream: from the newest snapshot that can be used, and what follows it in the log.
import type { Decider, TimedCommand } from "../domain/decider.ts";
import { failpoint } from "../platform/failpoint.ts";
import { decode, type StoredEvent } from "./envelope.ts";
import type { EventStore } from "./event-store.ts";
import type { Keyring } from "./sealing.ts";
import type { Snapshots } from "./snapshots.ts";
import { type AnyData, emptyStream, foldEvents, type StreamState } from "./stream-state.ts";

const PAGE = 1_000;
/** A small first page: most reads find nothing new or load a short stream, and stores batch small reads of many streams. */
const FIRST_PAGE = 10;

export type LoaderDependencies = {
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly snapshots: Snapshots | undefined;
  readonly warn: (error: unknown, message: string) => void;
};

/** Reads one stream and folds it. */
export class StreamLoader<S, E extends AnyData, C extends TimedCommand> {
  readonly #dependencies: LoaderDependencies;
  readonly #decider: Decider<S, E, C>;
  readonly #stream: string;

  constructor(dependencies: LoaderDependencies, decider: Decider<S, E, C>, stream: string) {
    this.#dependencies = dependencies;
    this.#decider = decider;
    this.#stream = stream;
  }

  /** The state after `revision`, or at the stream's end: the newest snapshot up to there, and what follows it. */
  async load(revision = Number.MAX_SAFE_INTEGER): Promise<StreamState<S>> {
    return this.catchUp((await this.#snapshot(revision)) ?? emptyStream(this.#decider.initial), revision);
  }

  /** Folds what follows `from`, up to the revision `last` or the stream's end. */
  async catchUp(from: StreamState<S>, last = Number.MAX_SAFE_INTEGER): Promise<StreamState<S>> {
    let current = from;
    for (let page = FIRST_PAGE; current.revision < last; page = PAGE) {
      const limit = Math.min(page, last - current.revision);
      const events = await this.read(current.revision + 1, limit);
      current = foldEvents(this.#decider, current, events);
      if (events.length < limit) break;
    }
    return current;
  }

  /** At most `limit` events from a revision on. */
  async read(from: number, limit: number): Promise<readonly StoredEvent<E>[]> {
    const recorded = await this.#dependencies.store.readStream(this.#stream, { from, limit });
    return (await decode(this.#dependencies.keyring, recorded)) as unknown as readonly StoredEvent<E>[];
  }

  /** All events from a revision on. */
  async readToEnd(from: number): Promise<readonly StoredEvent<E>[]> {
    const events: StoredEvent<E>[] = [];
    for (;;) {
      const page = await this.read(from + events.length, PAGE);
      events.push(...page);
      if (page.length < PAGE) return events;
    }
  }

  /** Saves a snapshot of this state. A failure is logged and costs only time later. */
  async saveSnapshot(state: StreamState<S>): Promise<void> {
    const codec = this.#decider.snapshot;
    if (codec === undefined || state.position === null) return;
    failpoint("snapshot-due/written");
    await this.#dependencies.snapshots?.save(this.#stream, codec, state).catch((error: unknown) => {
      this.#dependencies.warn(error, "snapshot could not be saved; the next one is due in a thousand events");
    });
    failpoint("snapshot-written/next-command");
  }

  /** Deletes the stream's snapshots. */
  async discardSnapshots(): Promise<void> {
    await this.#dependencies.snapshots?.discard(this.#stream).catch((error: unknown) => {
      this.#dependencies.warn(error, "wrong snapshot could not be deleted; the stream is loaded again");
    });
  }

  async #snapshot(revision: number): Promise<StreamState<S> | undefined> {
    const codec = this.#decider.snapshot;
    if (codec === undefined) return undefined;
    return this.#dependencies.snapshots?.load(this.#stream, codec, revision).catch((error: unknown) => {
      this.#dependencies.warn(error, "snapshot could not be read; the stream is folded from its start");
      return undefined;
    });
  }
}
