// Reading a stream into a state: from its snapshot, or from the start, a page at a time.
import type { Decider, TimedCommand } from "../domain/decider.ts";
import { failpoint } from "../platform/failpoint.ts";
import { decode, type StoredEvent } from "./envelope.ts";
import type { EventStore } from "./event-store.ts";
import { type Folded, foldRecorded, nothingFolded } from "./folded.ts";
import type { Keyring } from "./sealing.ts";
import type { Snapshots } from "./snapshots.ts";

const PAGE = 1_000;
/** Most look whether anything is new at all, or load a short stream: stores may read so few of many streams at once. */
const FIRST_PAGE = 10;

export type LoaderParts = {
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly snapshots: Snapshots | undefined;
  readonly warn: (error: unknown, message: string) => void;
};

type AnyData = { type: string; data: unknown };

/** Reads and folds one kind of stream. */
export class StreamLoader<S, E extends AnyData, C extends TimedCommand> {
  readonly #parts: LoaderParts;
  readonly #decider: Decider<S, E, C>;
  readonly #stream: string;

  constructor(parts: LoaderParts, decider: Decider<S, E, C>, stream: string) {
    this.#parts = parts;
    this.#decider = decider;
    this.#stream = stream;
  }

  /** The state at the stream's end, from the newest snapshot that can be used. */
  async load(): Promise<Folded<S>> {
    return this.catchUp((await this.#snapshot()) ?? nothingFolded(this.#decider.initial));
  }

  /** The state just after `revision`. */
  async loadAt(revision: number): Promise<Folded<S>> {
    const snapshot = await this.#snapshot();
    const usable = snapshot !== undefined && snapshot.revision <= revision ? snapshot : undefined;
    return this.catchUp(usable ?? nothingFolded(this.#decider.initial), revision);
  }

  /** Folds what came after `from`, up to `last` or the end. */
  async catchUp(from: Folded<S>, last = Number.MAX_SAFE_INTEGER): Promise<Folded<S>> {
    let folded = from;
    for (let page = FIRST_PAGE; folded.revision < last; page = PAGE) {
      const limit = Math.min(page, last - folded.revision);
      const events = await this.read(folded.revision + 1, limit);
      folded = foldRecorded(this.#decider, folded, events);
      if (events.length < limit) break;
    }
    return folded;
  }

  async read(from: number, limit: number): Promise<readonly StoredEvent<E>[]> {
    const recorded = await this.#parts.store.readStream(this.#stream, { from, limit });
    return (await decode(this.#parts.keyring, recorded)) as unknown as readonly StoredEvent<E>[];
  }

  /** Every event from a revision on. */
  async readToEnd(from: number): Promise<readonly StoredEvent<E>[]> {
    const events: StoredEvent<E>[] = [];
    for (;;) {
      const page = await this.read(from + events.length, PAGE);
      events.push(...page);
      if (page.length < PAGE) return events;
    }
  }

  /** Writes a snapshot; a failure costs only time later. */
  async save(folded: Folded<S>): Promise<void> {
    const codec = this.#decider.snapshot;
    if (codec === undefined || folded.position === null) return;
    failpoint("snapshot-due/written");
    await this.#parts.snapshots?.save(this.#stream, codec, folded).catch((error: unknown) => {
      this.#parts.warn(error, "a snapshot could not be written");
    });
    failpoint("snapshot-written/next-command");
  }

  async discardSnapshot(): Promise<void> {
    await this.#parts.snapshots?.discard(this.#stream).catch((error: unknown) => {
      this.#parts.warn(error, "a snapshot could not be discarded");
    });
  }

  async #snapshot(): Promise<Folded<S> | undefined> {
    const codec = this.#decider.snapshot;
    if (codec === undefined) return undefined;
    return this.#parts.snapshots?.load(this.#stream, codec).catch((error: unknown) => {
      this.#parts.warn(error, "a snapshot could not be read");
      return undefined;
    });
  }
}
