// What grows, told to whoever shows it: on this node with the text, to other nodes by signals that may be lost, which say only
// that it grew. What it says they read for themselves: people's words go over no bus.
import { z } from "zod";
import { type MessageId, MessageIdSchema, type RoomId, RoomIdSchema } from "../contract/ids.ts";
import { type Signals, signalsOf } from "../platform/bus.ts";

/** The longest that other nodes are told later. */
const SIGNAL_EVERY_MS = 50;

const GrowthSignal = z.object({ room: RoomIdSchema, message: MessageIdSchema, seq: z.int() });
type GrowthSignal = z.infer<typeof GrowthSignal>;

/** A message that grew. `added`: what was added last, and where; null when only another node knows. */
export type Growth = {
  readonly room: RoomId;
  readonly message: MessageId;
  readonly seq: number;
  readonly added: { readonly offset: number; readonly text: string } | null;
};

export class GrowthFeed implements Disposable {
  readonly #signals;
  readonly #listeners = new Set<(growth: Growth) => void>();
  /** By message, those that other nodes were not told of yet. */
  readonly #pending = new Map<MessageId, GrowthSignal>();
  readonly #listening: Disposable;
  #timer: NodeJS.Timeout | undefined;

  constructor(bus: Signals) {
    this.#signals = signalsOf(bus, "growing", GrowthSignal);
    this.#listening = this.#signals.on((signal) => this.#tell({ ...signal, added: null }));
  }

  /** A text was added on this node. */
  grew(growth: Growth): void {
    this.#tell(growth);
    const { room, message, seq } = growth;
    this.#pending.set(message, { room, message, seq });
    this.#timer ??= setTimeout(() => this.#flush(), SIGNAL_EVERY_MS).unref();
  }

  /** The listener must neither throw nor take long. */
  on(listener: (growth: Growth) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#listening[Symbol.dispose]();
  }

  #tell(growth: Growth): void {
    for (const listener of this.#listeners) listener(growth);
  }

  #flush(): void {
    this.#timer = undefined;
    for (const signal of this.#pending.values()) this.#signals.send(signal);
    this.#pending.clear();
  }
}
