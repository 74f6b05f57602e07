// Deciding a batch: the commands that wait for one stream, one after the other, against a state that runs ahead of the log.
import type { Decider, TimedCommand } from "../domain/decider.ts";
import { DomainError } from "../domain/errors.ts";
import { type CommandContext, encode } from "./envelope.ts";
import { AppendTooLarge, MAX_APPEND_BYTES, type NewEvent, sizeOf } from "./event-store.ts";
import type { Folded, RememberedCommand } from "./folded.ts";
import type { LoaderParts, StreamLoader } from "./stream-loader.ts";

/** What one command may append, sealed. */
const MAX_COMMAND_BYTES = 1_000_000;

type AnyData = { type: string; data: unknown };

/** An own event as the command's caller sees it: the position is the batch's. */
export type OwnEvent<E> = E & { readonly id: string; readonly revision: number; readonly at: number };

export type Settled<S, E> =
  | { readonly kind: "done"; readonly events: readonly OwnEvent<E>[]; readonly state: S; readonly folded: Folded<S> }
  | { readonly kind: "remembered"; readonly command: RememberedCommand; readonly folded: Folded<S> };

/** Asks for commands of a stream that its state has forgotten. A command may have written to several streams. */
export type OlderCommands = (
  commandId: string,
  folded: Folded<unknown>,
  stream: string,
) => Promise<RememberedCommand | undefined>;

export type CommandParts = LoaderParts & {
  readonly olderCommands: OlderCommands | undefined;
};

export type WriterParts = CommandParts & {
  /** Of this command side alone, so that what another one decided is never taken for its own. */
  readonly writer: string;
};

export type Item<S, E, C> = {
  /** Null: only the state at the stream's end is asked for. */
  readonly command: C | null;
  readonly context: CommandContext | null;
  readonly resolve: (settled: Settled<S, E>) => void;
  readonly reject: (error: unknown) => void;
};
export type Plan<S, E, C> = { readonly item: Item<S, E, C> } & (
  | { readonly kind: "nothing"; readonly state: S }
  | { readonly kind: "refused"; readonly error: unknown }
  | { readonly kind: "remembered"; readonly command: RememberedCommand }
  | {
      readonly kind: "events";
      readonly events: readonly OwnEvent<E>[];
      readonly encoded: readonly NewEvent[];
      readonly state: S;
    }
);
export type Batch<S, E, C> = {
  plans: Plan<S, E, C>[];
  encoded: NewEvent[];
  bytes: number;
  state: S;
  at: number;
  events: OwnEvent<E>[];
};

/** Plans the batches of one stream. */
export class BatchPlanner<S, E extends AnyData, C extends TimedCommand> {
  readonly #parts: WriterParts;
  readonly #decider: Decider<S, E, C>;
  readonly #stream: string;
  readonly #loader: StreamLoader<S, E, C>;

  constructor(parts: WriterParts, decider: Decider<S, E, C>, stream: string, loader: StreamLoader<S, E, C>) {
    this.#parts = parts;
    this.#decider = decider;
    this.#stream = stream;
    this.#loader = loader;
  }

  /** Decides what waits, one after the other, and takes it off the queue as far as it fits into one append. */
  async decide(waiting: Item<S, E, C>[], folded: Folded<S>): Promise<Batch<S, E, C>> {
    const batch: Batch<S, E, C> = { plans: [], encoded: [], bytes: 0, state: folded.state, at: folded.at, events: [] };
    while (waiting.length > 0 && batch.plans.length < folded.batchLimit) {
      const item = waiting[0];
      if (item === undefined) break;
      const plan = await this.#plan(item, folded, batch).catch(
        (error: unknown): Plan<S, E, C> => ({ item, kind: "refused", error }),
      );
      if (plan === undefined) break;
      waiting.shift();
      batch.plans.push(plan);
      if (plan.kind !== "events") continue;
      batch.encoded.push(...plan.encoded);
      batch.events.push(...plan.events);
      batch.bytes += plan.encoded.reduce((sum, event) => sum + sizeOf(event), 0);
      batch.state = plan.state;
      batch.at = plan.events.at(-1)?.at ?? batch.at;
    }
    return batch;
  }

  /** What a command means now; undefined when its events no longer fit into this batch. */
  async #plan(item: Item<S, E, C>, folded: Folded<S>, batch: Batch<S, E, C>): Promise<Plan<S, E, C> | undefined> {
    const { command, context } = item;
    if (command === null || context === null) return { item, kind: "nothing", state: batch.state };
    const remembered = await this.#remembered(context, folded, batch);
    if (remembered !== undefined) {
      // fence: idempotency-fingerprint
      if (remembered.fingerprint === context.fingerprint) return { item, kind: "remembered", command: remembered };
      throw new DomainError("idempotency_key_reused", "the key was used with another body");
    }
    const timed = { ...command, /* fence: event-time-order */ at: Math.max(command.at, batch.at) };
    const decided = this.#decider.decide(batch.state, timed, await this.#priorEvents(timed, folded, batch));
    if (decided.length === 0) return { item, kind: "nothing", state: batch.state };
    const { writer } = this.#parts;
    const request = { stream: this.#stream, events: decided, context, at: timed.at, writer };
    const encoded = await encode(this.#parts.keyring, request);
    const bytes = encoded.reduce((sum, event) => sum + sizeOf(event), 0);
    if (bytes > MAX_COMMAND_BYTES) throw new AppendTooLarge(bytes);
    if (batch.bytes + bytes > MAX_APPEND_BYTES) return undefined;
    let state = batch.state;
    const first = folded.revision + batch.encoded.length + 1;
    const events = decided.map((event, index): OwnEvent<E> => {
      state = this.#decider.evolve(state, event, { seq: first + index + 1, at: timed.at });
      return { ...event, id: encoded[index]?.id ?? "", revision: first + index, at: timed.at };
    });
    return { item, kind: "events", events, encoded, state };
  }

  /** A command that was done before: in the log, or earlier in this batch. */
  async #remembered(
    context: CommandContext,
    folded: Folded<S>,
    batch: Batch<S, E, C>,
  ): Promise<RememberedCommand | undefined> {
    if (context.fingerprint === undefined) return undefined;
    const known = folded.commands.find(context.commandId);
    if (known !== undefined) return known;
    for (const plan of batch.plans) {
      if (plan.kind !== "events" || plan.item.context?.commandId !== context.commandId) continue;
      const [first = { revision: 0 }] = plan.events;
      const last = plan.events.at(-1) ?? first;
      return { first: first.revision, last: last.revision, fingerprint: plan.item.context.fingerprint ?? "" };
    }
    if (folded.commands.forgotten === null) return undefined;
    return this.#parts.olderCommands?.(context.commandId, folded, this.#stream);
  }

  async #priorEvents(command: C, folded: Folded<S>, batch: Batch<S, E, C>): Promise<ReadonlyMap<number, E>> {
    const priorEvents = new Map<number, E>();
    for (const seq of this.#decider.priorEvents?.(batch.state, command) ?? []) {
      const revision = seq - 1;
      const [event] =
        revision <= folded.revision
          ? await this.#loader.read(revision, 1)
          : batch.events.filter((own) => own.revision === revision);
      if (event !== undefined) priorEvents.set(seq, event);
    }
    return priorEvents;
  }
}
