// Wake-ups between nodes, about how far the read models are. Lossy: whoever listens also polls.

/** `moved`: the read models are at this position. `awaited`: somebody waits until they are. */
type Topic = "moved" | "awaited";
const TOPICS: readonly Topic[] = ["moved", "awaited"];

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
  publish(topic: Topic, position: Position): void;
  /** Called when any node published. The listener must neither throw nor take long. */
  on(topic: Topic, listener: (position: Position) => void): Disposable;
  status(): BusStatus;
}

/** The listeners of this node. */
export class Listeners {
  readonly #byTopic: Readonly<Record<Topic, Set<(position: Position) => void>>> = {
    moved: new Set(),
    awaited: new Set(),
  };

  add(topic: Topic, listener: (position: Position) => void): Disposable {
    this.#byTopic[topic].add(listener);
    return { [Symbol.dispose]: () => void this.#byTopic[topic].delete(listener) };
  }

  /** Passes on a message as it came over the wire; ignores anything but a wake-up about this log. */
  notify(text: string, logId: string): void {
    const topic = TOPICS.find((one) => text.startsWith(`${one} ${logId}.`));
    const position = text.slice(text.indexOf(" ") + 1);
    if (topic === undefined || !HEX.test(position.slice(logId.length + 1))) return;
    for (const listener of this.#byTopic[topic]) listener(position as Position);
  }
}

const HEX = /^[0-9a-f]{16}$/;

/** The bus of a node that is alone: nobody else moves its read models, or waits for them. */
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
 * Sends the newest position of each topic, one message at a time. A burst, or a server that does not answer, piles
 * nothing up: a position that was overtaken is never sent.
 */
export class Outbox {
  readonly #send: (text: string) => Promise<unknown>;
  readonly #next = new Map<Topic, Position>();
  #sending: Promise<void> | undefined;

  /** `send` may fail; the message is lost then. */
  constructor(send: (text: string) => Promise<unknown>) {
    this.#send = send;
  }

  put(topic: Topic, position: Position): void {
    this.#next.set(topic, position);
    this.#sending ??= this.#run();
  }

  /** Drops what waits, and returns once the message that is being sent has been. */
  async close(): Promise<void> {
    this.#next.clear();
    await this.#sending;
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // what is put in one go is sent as one
    for (const [topic, position] of this.#next) {
      this.#next.delete(topic); // put again meanwhile, it comes again
      await this.#send(`${topic} ${position}`).catch(() => undefined);
    }
    this.#sending = undefined;
  }
}
