// The writer of one stream: a queue of commands that are decided in batches, appended, and answered once that is in the log.
import { setTimeout as sleep } from "node:timers/promises";
import { type Decider, DomainError, InvalidInput, type TimedCommand } from "../domain/decider.ts";
import { batchPerTick } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import { type CommandContext, encode, isForged } from "./envelope.ts";
import {
  type Appended,
  AppendTooLarge,
  MAX_APPEND_BYTES,
  type NewEvent,
  OutcomeUnknown,
  sizeOf,
  WrongExpectedRevision,
} from "./event-store.ts";
import {
  type AnyData,
  foldEvents,
  type LoaderDependencies,
  MAX_BATCH,
  type PriorCommand,
  type StreamLoader,
  type StreamState,
} from "./stream-state.ts";

/** The most commands in the queue of one stream. */
const MAX_QUEUE = 10_000;
/** The most bytes that one command may append, sealed. */
const MAX_COMMAND_BYTES = 1_000_000;
/** Commands by which the batch limit grows after a success: slowly, so that two nodes on one stream come to share it. */
const BATCH_GROWTH = 4;
/** Events from one snapshot to the next. */
const SNAPSHOT_EVERY = 1_000;
const RETRY_MS = [20, 50, 100, 250, 500, 1_000] as const;

/** An event as the caller of its command sees it. */
export type OwnEvent<E> = E & { readonly id: string; readonly revision: number; readonly at: number };

/** What became of a command: it was decided now, or it was done before under the same command id. */
export type Result<S, E> =
  | {
      readonly kind: "decided";
      readonly events: readonly OwnEvent<E>[];
      readonly state: S;
      readonly end: StreamState<S>;
    }
  | { readonly kind: "replayed"; readonly command: PriorCommand; readonly end: StreamState<S> };

/** Finds commands that have left the idempotency window of a stream. A command may have written to several streams. */
export type OlderCommands = (
  commandId: string,
  current: StreamState<unknown>,
  stream: string,
) => Promise<PriorCommand | undefined>;

export type CommandDependencies = LoaderDependencies & {
  readonly olderCommands: OlderCommands | undefined;
  /** Whether the log cannot be read now. Default: never. */
  readonly isLogAway?: () => boolean;
  /** Called with the events of each command once they are in the log, and the state after them. Must not throw. */
  readonly onWritten?: (
    state: unknown,
    events: readonly OwnEvent<AnyData>[],
    client: CommandContext["client"] | undefined,
  ) => void;
};

export type WriterDependencies = CommandDependencies & {
  /** Random for each process: part of the event ids, so that no process takes another one's events for its own. */
  readonly writerId: string;
};

/** A command that waits for its result. Without a request the state at the stream's end is asked for. */
export type QueuedCommand<S, E, C> = {
  readonly request: { readonly command: C; readonly context: CommandContext } | undefined;
  readonly resolve: (result: Result<S, E>) => void;
  readonly reject: (error: unknown) => void;
};

/** What a command means on the state before it. */
type Decision<S, E, C> = { readonly queued: QueuedCommand<S, E, C> } & (
  | { readonly kind: "refused"; readonly error: unknown }
  | { readonly kind: "replayed"; readonly command: PriorCommand }
  | {
      readonly kind: "decided";
      readonly state: S;
      readonly events: readonly OwnEvent<E>[];
      readonly encoded: readonly NewEvent[];
    }
);

/** Decisions of one append, and the state after them. */
type Batch<S, E, C> = {
  readonly decisions: Decision<S, E, C>[];
  readonly encoded: NewEvent[];
  bytes: number;
  state: S;
  at: number;
};

/** Serves one stream until its queue is empty. */
export class StreamWriter<S, E extends AnyData, C extends TimedCommand> {
  readonly #dependencies: WriterDependencies;
  readonly #decider: Decider<S, E, C>;
  readonly #stream: string;
  readonly #loader: StreamLoader<S, E, C>;
  readonly #queue: QueuedCommand<S, E, C>[] = [];
  /** Undefined when it has to be loaded. */
  #current: StreamState<S> | undefined;
  /** Whether the state was read from the log after the newest command came. */
  #isFresh = false;

  constructor(
    dependencies: WriterDependencies,
    decider: Decider<S, E, C>,
    stream: string,
    loader: StreamLoader<S, E, C>,
    current: StreamState<S> | undefined,
  ) {
    this.#dependencies = dependencies;
    this.#decider = decider;
    this.#stream = stream;
    this.#loader = loader;
    this.#current = current;
  }

  /** Commands in the queue. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Queues a command; false when the queue is full. */
  push(queued: QueuedCommand<S, E, C>): boolean {
    if (this.#queue.length >= MAX_QUEUE) return false;
    this.#queue.push(queued);
    this.#isFresh = false;
    return true;
  }

  /**
   * Runs until the queue is empty, then calls `onIdle` with the state at the stream's end, if it is known. It does so in the
   * step in which it saw the queue empty, so that no command is pushed to a writer that has stopped. Never throws.
   */
  async run(onIdle: (current: StreamState<S> | undefined) => void): Promise<void> {
    await batchPerTick();
    for (let failures = 0; this.#queue.length > 0; ) {
      try {
        await this.#writeBatch();
        failures = 0;
      } catch (error) {
        // The log could not be read. Who waits gets the error; who comes later is served by the next try.
        const delayMs = retryMs(failures);
        this.#dependencies.warn(error, `stream could not be read; its commands fail, retrying in ${delayMs} ms`);
        this.#current = undefined;
        for (const queued of this.#queue.splice(0)) queued.reject(error);
        await sleep(delayMs);
        failures += 1;
      }
    }
    onIdle(this.#current);
  }

  /** Decides a batch, appends it, answers. No answer leaves before the state that it rests on is known to be in the log. */
  async #writeBatch(): Promise<void> {
    if (this.#current === undefined) {
      this.#isFresh = true;
      this.#current = await this.#loader.load();
    }
    const current = this.#current;
    const batch = await this.#decideBatch(current);
    try {
      if (batch.encoded.length > 0) return await this.#append(current, batch);
      const tail = this.#isFresh ? current : await this.#loader.catchUp(current);
      // fence: stale-state
      if (tail.revision !== current.revision) return this.#decideAgain(tail, batch.decisions);
      this.#answer(batch, current);
    } catch (error) {
      this.#decideAgain(undefined, batch.decisions);
      throw error;
    }
  }

  /** Decides the commands of the queue one after the other, and takes from it as many as fit into one append. */
  async #decideBatch(current: StreamState<S>): Promise<Batch<S, E, C>> {
    const batch: Batch<S, E, C> = { decisions: [], encoded: [], bytes: 0, state: current.state, at: current.at };
    while (batch.decisions.length < current.batchLimit) {
      const queued = this.#queue[0];
      if (queued === undefined) break;
      const decision = await this.#decide(queued, current, batch).catch(
        (error: unknown): Decision<S, E, C> => ({ queued, kind: "refused", error }),
      );
      if (decision === undefined) break;
      this.#queue.shift();
      batch.decisions.push(decision);
      if (decision.kind !== "decided") continue;
      batch.encoded.push(...decision.encoded);
      batch.bytes += bytesOf(decision.encoded);
      batch.state = decision.state;
      batch.at = decision.events.at(-1)?.at ?? batch.at;
    }
    return batch;
  }

  /** What the command means after the commands of the batch; undefined when its events no longer fit into the append. */
  async #decide(
    queued: QueuedCommand<S, E, C>,
    current: StreamState<S>,
    batch: Batch<S, E, C>,
  ): Promise<Decision<S, E, C> | undefined> {
    const unchanged = { queued, kind: "decided", state: batch.state, events: [], encoded: [] } as const;
    if (queued.request === undefined) return unchanged;
    const { command, context } = queued.request;
    context.stages?.passed("queue");
    const prior = await this.#priorCommand(context, current, batch);
    if (prior !== undefined) {
      // fence: idempotency-fingerprint
      if (prior.fingerprint === context.fingerprint) return { queued, kind: "replayed", command: prior };
      throw new DomainError("idempotency_key_reused", "the key was used with another body");
    }
    const timed = { ...command, /* fence: event-time-order */ at: Math.max(command.at, batch.at) };
    const decided = this.#decider.decide(batch.state, timed, await this.#priorEvents(timed, current, batch));
    context.stages?.passed("decide");
    if (decided.length === 0) return unchanged;
    const { keyring, writerId } = this.#dependencies;
    const firstRevision = current.revision + batch.encoded.length + 1;
    const commit = { stream: this.#stream, events: decided, context, at: timed.at, firstRevision, writerId };
    const encoded = await encode(keyring, commit);
    context.stages?.passed("seal");
    const bytes = bytesOf(encoded);
    if (bytes > MAX_COMMAND_BYTES) throw new AppendTooLarge(bytes);
    if (batch.bytes + bytes > MAX_APPEND_BYTES) return undefined;
    let state = batch.state;
    const events = decided.map((event, index): OwnEvent<E> => {
      state = this.#decider.evolve(state, event, { seq: firstRevision + index + 1, at: timed.at });
      return { ...event, id: encoded[index]?.id ?? "", revision: firstRevision + index, at: timed.at };
    });
    return { queued, kind: "decided", state, events, encoded };
  }

  /** The same command, when it was done before: in the log, or earlier in this batch. */
  async #priorCommand(
    { commandId, fingerprint }: CommandContext,
    current: StreamState<S>,
    batch: Batch<S, E, C>,
  ): Promise<PriorCommand | undefined> {
    if (fingerprint === undefined) return undefined;
    const known = current.idempotencyWindow.find(commandId);
    if (known !== undefined) return known;
    for (const decision of batch.decisions) {
      const context = decision.queued.request?.context;
      if (decision.kind !== "decided" || context?.commandId !== commandId) continue;
      const [first] = decision.events;
      if (first === undefined) continue;
      const last = first.revision + decision.events.length - 1;
      return { first: first.revision, last, fingerprint: context.fingerprint ?? "" };
    }
    if (current.idempotencyWindow.forgotten === null) return undefined;
    return this.#dependencies.olderCommands?.(commandId, current, this.#stream);
  }

  /** The events that the decider needs besides the state, from the log or from earlier in this batch. */
  async #priorEvents(command: C, current: StreamState<S>, batch: Batch<S, E, C>): Promise<ReadonlyMap<number, E>> {
    const priorEvents = new Map<number, E>();
    for (const seq of this.#decider.priorEvents?.(batch.state, command) ?? []) {
      const revision = seq - 1;
      const [event] =
        revision <= current.revision
          ? await this.#loader.read(revision, 1)
          : eventsOf(batch).filter((own) => own.revision === revision);
      if (event !== undefined && !isForged(event)) priorEvents.set(seq, event);
    }
    return priorEvents;
  }

  /** Sends the same bytes with the same revision until the outcome is known. */
  async #append(current: StreamState<S>, batch: Batch<S, E, C>): Promise<void> {
    failpoint("decide/append");
    for (let failures = 0; ; failures += 1) {
      try {
        const appended = await this.#dependencies.store.append(this.#stream, current.revision, batch.encoded);
        failpoint("append/answer");
        return this.#appended(current, batch, appended);
      } catch (error) {
        if (error instanceof WrongExpectedRevision) return this.#conflict(current, batch);
        if (!(error instanceof OutcomeUnknown)) {
          this.#current = undefined;
          for (const { queued } of batch.decisions) queued.reject(error);
          return;
        }
        const delayMs = retryMs(failures);
        this.#dependencies.warn(error, `outcome of an append is unknown; sending it again in ${delayMs} ms`);
        await sleep(delayMs);
      }
    }
  }

  #appended(current: StreamState<S>, batch: Batch<S, E, C>, { revision, position }: Appended): void {
    for (const { queued, ...decision } of batch.decisions) {
      if (decision.kind !== "decided" || queued.request === undefined) continue;
      const { commandId, fingerprint, client, stages } = queued.request.context;
      if (decision.events.length > 0) stages?.passed("flush");
      if (decision.events.length > 0) this.#dependencies.onWritten?.(decision.state, decision.events, client);
      for (const event of decision.events) {
        current.idempotencyWindow.record(commandId, fingerprint, event.revision, position);
      }
    }
    const isSnapshotDue = revision - current.snapshotAt >= SNAPSHOT_EVERY;
    const snapshotAt = isSnapshotDue ? revision : current.snapshotAt;
    const batchLimit = Math.min(MAX_BATCH, current.batchLimit + BATCH_GROWTH);
    this.#current = { ...current, state: batch.state, at: batch.at, revision, position, snapshotAt, batchLimit };
    this.#answer(batch, this.#current);
    if (isSnapshotDue) void this.#loader.saveSnapshot(this.#current);
  }

  /** Somebody else wrote. Commands whose events are in the log after all are answered, the others are decided again. */
  async #conflict(current: StreamState<S>, batch: Batch<S, E, C>): Promise<void> {
    const events = await this.#loader.readToEnd(current.revision + 1);
    if (events.length === 0) {
      // The state claims a revision that the log does not have, so it came from a wrong snapshot.
      await this.#loader.discardSnapshots();
      return this.#decideAgain(undefined, batch.decisions);
    }
    // The node with the larger batch takes longer from reading to appending, and would lose every time.
    const batchLimit = Math.max(1, Math.floor(batch.decisions.length / 2));
    const end = { ...foldEvents(this.#decider, current, events), batchLimit };
    const written = new Map(events.map((event) => [event.id, event.revision]));
    const undone: Decision<S, E, C>[] = [];
    for (const decision of batch.decisions) {
      const revision = decision.kind === "decided" ? written.get(decision.events[0]?.id ?? "") : undefined;
      if (decision.kind !== "decided" || revision === undefined) undone.push(decision);
      else {
        const own = decision.events.map((event, index) => ({ ...event, revision: revision + index }));
        const { state } = await this.#loader.load(revision + own.length - 1);
        this.#dependencies.onWritten?.(state, own, decision.queued.request?.context.client);
        decision.queued.resolve({ kind: "decided", events: own, state, end });
      }
    }
    this.#decideAgain(end, undone);
  }

  #decideAgain(current: StreamState<S> | undefined, decisions: readonly Decision<S, E, C>[]): void {
    this.#current = current;
    this.#queue.unshift(...decisions.map(({ queued }) => queued));
  }

  #answer(batch: Batch<S, E, C>, end: StreamState<S>): void {
    for (const { queued, ...decision } of batch.decisions) {
      if (decision.kind === "refused") queued.reject(decision.error);
      else if (decision.kind === "replayed") queued.resolve({ kind: "replayed", command: decision.command, end });
      else queued.resolve({ kind: "decided", events: decision.events, state: decision.state, end });
    }
  }
}

const bytesOf = (events: readonly NewEvent[]): number => events.reduce((sum, event) => sum + sizeOf(event), 0);

const eventsOf = <S, E, C>(batch: Batch<S, E, C>): readonly OwnEvent<E>[] =>
  batch.decisions.flatMap((decision) => (decision.kind === "decided" ? decision.events : []));

const retryMs = (failures: number): number => RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 1_000;

/** Whether an error answers the caller's command, and is not a fault of the log. */
export const isRefusal = (error: unknown): boolean =>
  error instanceof DomainError || error instanceof InvalidInput || error instanceof AppendTooLarge;
