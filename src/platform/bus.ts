// Wake-ups between nodes: "the read models have reached this position". Lossy: whoever listens also polls.

/** A position of the log: its id, a dot, 16 hex digits. */
type Position = `${string}.${string}`;

type BusStatus = {
  readonly kind: "process" | "postgres" | "redis";
  /** False: nodes poll until it is back. */
  readonly connected: boolean;
  readonly lastError: string | null;
};

/** Carries wake-ups to every node, this one included or not. A late one is sent once, with the newest position. */
export interface Bus extends AsyncDisposable {
  /** Never throws and never waits; what cannot be sent is dropped. */
  publish(position: Position): void;
  /** Called with what any node published. The listener must neither throw nor take long. */
  on(listener: (position: Position) => void): Disposable;
  status(): BusStatus;
}

/** The listeners of this node. */
export class Listeners {
  readonly #all = new Set<(position: Position) => void>();

  add(listener: (position: Position) => void): Disposable {
    this.#all.add(listener);
    return { [Symbol.dispose]: () => void this.#all.delete(listener) };
  }

  /** Passes on a message as it came over the wire; ignores anything but a position of this log. */
  notify(text: string, logId: string): void {
    if (!text.startsWith(`${logId}.`) || !HEX.test(text.slice(logId.length + 1))) return;
    for (const listener of this.#all) listener(text as Position);
  }
}

const HEX = /^[0-9a-f]{16}$/;

/** The bus of a node that is alone: nobody else moves its read models. */
export function processBus(): Bus {
  return {
    publish: () => undefined,
    on: () => ({ [Symbol.dispose]: () => undefined }),
    status: () => ({ kind: "process", connected: true, lastError: null }),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** The channel of all nodes. A position names its log, so that several systems may share a server. */
export const CHANNEL = "chatapi_wake_ups";

/**
 * Sends the newest position, one message at a time. A burst, or a server that does not answer, piles nothing up: a
 * position that was overtaken is never sent.
 */
export class Outbox {
  readonly #send: (position: Position) => Promise<unknown>;
  #next: Position | undefined;
  #sending: Promise<void> | undefined;

  /** `send` may fail; the message is lost then. */
  constructor(send: (position: Position) => Promise<unknown>) {
    this.#send = send;
  }

  put(position: Position): void {
    this.#next = position;
    this.#sending ??= this.#run();
  }

  /** Drops what waits, and returns once the message that is being sent has been. */
  async close(): Promise<void> {
    this.#next = undefined;
    await this.#sending;
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // what is put in one go is sent as one
    while (this.#next !== undefined) {
      const position = this.#next;
      this.#next = undefined;
      await this.#send(position).catch(() => undefined);
    }
    this.#sending = undefined;
  }
}
