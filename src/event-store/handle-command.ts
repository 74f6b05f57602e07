// Commands: load the state, decide, append. One queue per stream, and no answer before what it rests on is in the log.
import { randomUUID } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Decider, TimedCommand } from "../domain/decider.ts";
import { type CommandContext, decode, isForged, type StoredEvent } from "./envelope.ts";
import { type EventStore, type Position, StoreUnavailable, type StreamRead } from "./event-store.ts";
import type { Keyring } from "./sealing.ts";
import { type AnyData, emptyStream, StreamLoader, type StreamState } from "./stream-state.ts";
import {
  type CommandDependencies,
  isRefusal,
  type OwnEvent,
  type QueuedCommand,
  type Result,
  StreamWriter,
  type WriterDependencies,
} from "./stream-writer.ts";

/** The most memory that states between commands may take, roughly in kilobytes. */
const MAX_CACHED_WEIGHT = 200_000;
/** Commands of an idempotency window that take a kilobyte. */
const COMMANDS_PER_KILOBYTE = 3;
const DEFAULT_TIMEOUT_MS = 10_000;

/** What a command came to. The answer to its caller is a function of this. */
type Outcome<S, E> = {
  /** The state after the command's own last event; when it wrote nothing, the state at the stream's end. */
  readonly state: S;
  /** Its own events; none when what it wants already holds. */
  readonly events: readonly OwnEvent<E>[];
  /** At or after its last event, and known to be in the log. */
  readonly position: Position;
  /** It was done before, under the same command id. Nothing was written now. */
  readonly replayed: boolean;
};

/** The outcome was not known in time. The command may still be carried out: send it again under the same id. */
export class CommandTimedOut extends Error {
  override readonly name = "CommandTimedOut";
}

/** The stream's queue is full; the command was not taken. */
export class StreamOverloaded extends Error {
  override readonly name = "StreamOverloaded";
}

type ExecuteOptions = {
  readonly timeoutMs?: number;
  /**
   * As far as the caller knows, the stream has no events yet: the command is decided without reading it first. If it has
   * some after all, the append finds out, and the command is decided again.
   */
  readonly newStream?: boolean;
};

/** The command side of one process, on one event store. Any number of processes may share the store. */
export class Commands {
  readonly #dependencies: WriterDependencies;
  readonly #states = new LRUCache<string, StreamState<unknown>>({ maxSize: MAX_CACHED_WEIGHT });
  // Each entry serves one stream, whose name says which decider it belongs to.
  readonly #writers = new Map<string, StreamWriter<never, never, never>>();
  // Most commands leave a state as it was, and weighing a large one takes longer than they do.
  readonly #weights = new WeakMap<object, number>();

  constructor(dependencies: CommandDependencies) {
    this.#dependencies = { ...dependencies, writerId: randomUUID() };
  }

  /**
   * Decides the command on the newest state of the stream and appends the events. Throws DomainError or InvalidInput
   * (refused, nothing written), AppendTooLarge (nothing written), CommandTimedOut, StreamOverloaded, StoreUnavailable.
   */
  async execute<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    command: C,
    context: CommandContext,
    options: ExecuteOptions = {},
  ): Promise<Outcome<S, E>> {
    const result = await this.#submit(decider, stream, { command, context }, options);
    const position = result.end.position ?? (await this.#dependencies.store.tail());
    if (result.kind === "decided") return { state: result.state, events: result.events, position, replayed: false };
    const { first, last } = result.command;
    const loader = this.#loader(decider, stream);
    const [events, { state }] = await Promise.all([loader.read(first, last - first + 1), loader.load(last)]);
    const own = events.filter((event) => !isForged(event)).map((event) => ({ ...event, at: event.meta.at }));
    return { state, events: own, position, replayed: true };
  }

  /**
   * The state at the stream's end, never older than this call; while the log is away, the state that this process knew
   * last. `position` is null for a stream without events.
   */
  async load<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
  ): Promise<{ readonly state: S; readonly revision: number; readonly position: Position | null }> {
    const known = () =>
      this.#dependencies.isLogAway?.() === true ? (this.#states.get(stream) as StreamState<S> | undefined) : undefined;
    const last = known();
    if (last !== undefined) return last;
    try {
      return (await this.#submit(decider, stream, undefined, {})).end;
    } catch (error) {
      const lastKnown = error instanceof StoreUnavailable ? known() : undefined;
      if (lastKnown === undefined) throw error;
      return lastKnown;
    }
  }

  /** The state just after `revision`: folded from the newest snapshot at or before it. */
  async loadAt<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    revision: number,
  ): Promise<S> {
    return (await this.#loader(decider, stream).load(revision)).state;
  }

  /**
   * The state as this process last knew it, without asking the log; undefined when it knows none. Others may have written
   * since. What is decided on it must be refused by a command when it no longer holds.
   */
  known<S, E extends AnyData, C extends TimedCommand>(_decider: Decider<S, E, C>, stream: string): S | undefined {
    return this.#states.get(stream)?.state as S | undefined;
  }

  /** Streams with a queue of commands, the commands that wait in them, and the states that are kept in memory; for metrics. */
  counts(): { readonly queues: number; readonly waiting: number; readonly states: number } {
    let waiting = 0;
    for (const writer of this.#writers.values()) waiting += writer.waiting;
    return { queues: this.#writers.size, waiting, states: this.#states.size };
  }

  async #submit<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    request: QueuedCommand<S, E, C>["request"],
    { timeoutMs = DEFAULT_TIMEOUT_MS, newStream = false }: ExecuteOptions,
  ): Promise<Result<S, E>> {
    const { promise, resolve, reject } = Promise.withResolvers<Result<S, E>>();
    const timer = setTimeout(() => reject(new CommandTimedOut(`no outcome within ${timeoutMs} ms`)), timeoutMs);
    try {
      const writer = this.#writer(decider, stream, newStream);
      if (!writer.push({ request, resolve, reject })) throw new StreamOverloaded("the stream's command queue is full");
      return await promise;
    } catch (error) {
      if (isRefusal(error) || error instanceof CommandTimedOut || error instanceof StreamOverloaded) throw error;
      throw new StoreUnavailable("the stream could not be served", { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  /** The stream's writer. One that is started here runs from the next tick on, and is dropped once its queue is empty. */
  #writer<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    isNew: boolean,
  ): StreamWriter<S, E, C> {
    const running = this.#writers.get(stream) as unknown as StreamWriter<S, E, C> | undefined;
    if (running !== undefined) return running;
    const cached = this.#states.get(stream) as StreamState<S> | undefined;
    const current = cached ?? (isNew ? emptyStream(decider.initial) : undefined);
    const writer = new StreamWriter(this.#dependencies, decider, stream, this.#loader(decider, stream), current);
    this.#writers.set(stream, writer as unknown as StreamWriter<never, never, never>);
    void writer.run((end) => {
      this.#writers.delete(stream);
      // Without one the state that was known before stays: it is compared with the log before anything rests on it.
      if (end !== undefined) this.#states.set(stream, end, { size: this.#weightOf(decider, end) });
    });
    return writer;
  }

  #loader<S, E extends AnyData, C extends TimedCommand>(decider: Decider<S, E, C>, stream: string) {
    return new StreamLoader(this.#dependencies, decider, stream);
  }

  #weightOf<S, E extends AnyData, C extends TimedCommand>(
    { weigh }: Decider<S, E, C>,
    { state, idempotencyWindow }: StreamState<S>,
  ): number {
    const window = Math.floor(idempotencyWindow.size / COMMANDS_PER_KILOBYTE);
    if (weigh === undefined || typeof state !== "object" || state === null) return 1 + window;
    const weight = this.#weights.get(state) ?? 1 + Math.round(weigh(state));
    this.#weights.set(state, weight);
    return weight + window;
  }
}

/** Reads and opens events of a stream, to be shown. */
export async function readDecoded(
  { store, keyring }: { readonly store: EventStore; readonly keyring: Keyring },
  stream: string,
  read: StreamRead,
): Promise<readonly StoredEvent[]> {
  return decode(keyring, await store.readStream(stream, read));
}
