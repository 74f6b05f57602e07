// Commands: load, fold, decide, append; one queue per stream, and no answer before what it rests on is in the log.
import { randomUUID } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Decider, TimedCommand } from "../domain/decider.ts";
import type { CommandParts, OwnEvent, Settled, WriterParts } from "./decide-batch.ts";
import { type CommandContext, decode } from "./envelope.ts";
import { type Position, StoreUnavailable } from "./event-store.ts";
import { type Folded, nothingFolded } from "./folded.ts";
import { StreamLoader } from "./stream-loader.ts";
import { isRefusal, StreamWriter } from "./stream-writer.ts";

/** What the states that are kept in memory between commands may weigh, in some kilobytes. */
const KEPT_STATES = 200_000;
/** Remembered commands that weigh one. */
const COMMANDS_A_UNIT = 3;
const DEFAULT_TIMEOUT_MS = 10_000;

type AnyData = { type: string; data: unknown };

/** What a command came to. The answer to its caller is a function of this. */
type Outcome<S, E> = {
  /** The state just after the command's own last event; when it wrote nothing, the state at the stream's end. */
  readonly state: S;
  /** Its own events; none when what it asks already held. */
  readonly events: readonly OwnEvent<E>[];
  /** At or after its last event, and known to be in the log. */
  readonly position: Position;
  /** It was done before, under the same command id: nothing was written now. */
  readonly replayed: boolean;
};

/** The time was up before the outcome was known. It may still be carried out: send it again under the same id. */
export class CommandTimedOut extends Error {
  override readonly name = "CommandTimedOut";
}

/** Too many commands wait for the stream; this one was not taken. */
export class StreamOverloaded extends Error {
  override readonly name = "StreamOverloaded";
}

type ExecuteOptions = {
  readonly timeoutMs?: number;
  /**
   * The stream has no events yet, as far as the caller can tell: the command is decided without reading it first. When
   * it has some after all, the append finds that out, and all is as it would have been.
   */
  readonly newStream?: boolean;
};

export interface Commands {
  /**
   * Decides the command against the newest state of the stream and appends what it leads to.
   * Throws DomainError or InvalidInput (refused, nothing written), AppendTooLarge (nothing written), CommandTimedOut,
   * StreamOverloaded, StoreUnavailable.
   */
  execute<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    command: C,
    context: CommandContext,
    options?: ExecuteOptions,
  ): Promise<Outcome<S, E>>;
  /** The state at the stream's end, never older than this call. `position` is null for a stream without events. */
  load<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
  ): Promise<{ readonly state: S; readonly revision: number; readonly position: Position | null }>;
  /**
   * The state as this process last knew it, without asking the log: others may have written since. Undefined when it
   * knows none. What is decided on it must be refused by a command when it no longer holds.
   */
  known<S, E extends AnyData, C extends TimedCommand>(decider: Decider<S, E, C>, stream: string): S | undefined;
  /** The state just after `revision`. */
  loadAt<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    revision: number,
  ): Promise<S>;
}

/** The command side, on one event store. Any number of processes may share the store. */
export function createCommands(given: CommandParts): Commands {
  const parts: WriterParts = { ...given, writer: randomUUID() };
  const states = new LRUCache<string, Folded<unknown>>({ maxSize: KEPT_STATES });
  // Each entry serves exactly one stream, whose name says which decider it belongs to.
  const writers = new Map<string, StreamWriter<never, never, never>>();

  // Most commands leave a state as it was, and weighing a large one takes longer than they do.
  const weights = new WeakMap<object, number>();
  function weightOf<S, E extends AnyData, C extends TimedCommand>({ weigh }: Decider<S, E, C>, state: S): number {
    if (weigh === undefined || typeof state !== "object" || state === null) return 1;
    const weight = weights.get(state) ?? 1 + Math.round(weigh(state));
    weights.set(state, weight);
    return weight;
  }

  function submit<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    command: C | null,
    context: CommandContext | null,
    { timeoutMs = DEFAULT_TIMEOUT_MS, newStream = false }: ExecuteOptions = {},
  ): Promise<Settled<S, E>> {
    const { promise, resolve, reject } = Promise.withResolvers<Settled<S, E>>();
    const timer = setTimeout(() => reject(new CommandTimedOut(`no outcome within ${timeoutMs} ms`)), timeoutMs);
    const settle = promise.finally(() => clearTimeout(timer));
    const known = writers.get(stream) as unknown as StreamWriter<S, E, C> | undefined;
    const writer = known ?? start(decider, stream, newStream);
    if (!writer.push({ command, context, resolve, reject })) reject(new StreamOverloaded("too many commands wait"));
    if (known === undefined) void drain(writer, decider, stream);
    return settle.catch((error: unknown) => {
      throw isRefusal(error) || error instanceof CommandTimedOut || error instanceof StreamOverloaded
        ? error
        : new StoreUnavailable("the stream could not be served", { cause: error });
    });
  }

  function start<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    isNew: boolean,
  ) {
    const loader = new StreamLoader(parts, decider, stream);
    const kept = states.get(stream) as Folded<S> | undefined;
    const folded = kept ?? (isNew ? nothingFolded(decider.initial) : undefined);
    const writer = new StreamWriter(parts, decider, stream, loader, folded);
    writers.set(stream, writer as unknown as StreamWriter<never, never, never>);
    return writer;
  }

  function drain<S, E extends AnyData, C extends TimedCommand>(
    writer: StreamWriter<S, E, C>,
    decider: Decider<S, E, C>,
    stream: string,
  ): Promise<void> {
    return writer.run((folded) => {
      writers.delete(stream);
      if (folded === undefined) states.delete(stream);
      else {
        const remembered = Math.floor(folded.commands.size / COMMANDS_A_UNIT);
        states.set(stream, folded, { size: weightOf(decider, folded.state) + remembered });
      }
    });
  }

  async function replay<S, E extends AnyData, C extends TimedCommand>(
    decider: Decider<S, E, C>,
    stream: string,
    settled: Extract<Settled<S, E>, { kind: "remembered" }>,
  ): Promise<Outcome<S, E>> {
    const { first, last } = settled.command;
    const loader = new StreamLoader(parts, decider, stream);
    const [stored, folded] = await Promise.all([loader.read(first, last - first + 1), loader.loadAt(last)]);
    const events = stored.map((event): OwnEvent<E> => ({ ...event, at: event.meta.at }));
    return {
      state: folded.state,
      events,
      position: settled.folded.position ?? (await parts.store.tail()),
      replayed: true,
    };
  }

  return {
    async execute(decider, stream, command, context, options) {
      const settled = await submit(decider, stream, command, context, options);
      if (settled.kind === "remembered") return replay(decider, stream, settled);
      const position = settled.folded.position ?? (await parts.store.tail());
      return { state: settled.state, events: settled.events, position, replayed: false };
    },
    async load(decider, stream) {
      const settled = await submit(decider, stream, null, null);
      return {
        state: settled.folded.state as never,
        revision: settled.folded.revision,
        position: settled.folded.position,
      };
    },
    known: (_decider, stream) => states.get(stream)?.state as never,
    async loadAt(decider, stream, revision) {
      return (await new StreamLoader(parts, decider, stream).loadAt(revision)).state;
    },
  };
}

/** Reads and opens events of a stream, for whoever shows them. */
export async function readDecoded(
  parts: Pick<WriterParts, "store" | "keyring">,
  stream: string,
  read: { from?: number; direction?: "forward" | "backward"; limit: number },
): Promise<Awaited<ReturnType<typeof decode>>> {
  return decode(parts.keyring, await parts.store.readStream(stream, read));
}
