// Wake-ups between nodes: "the log has grown", "the read models have moved". Lossy: whoever listens also polls.

/** `log`: the log reaches at least this position. `read`: the read models do. */
export type Topic = "log" | "read";
const TOPICS: readonly Topic[] = ["log", "read"];

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
  /** Called with what any node published. The listener must neither throw nor take long. */
  on(topic: Topic, listener: (position: Position) => void): Disposable;
  status(): BusStatus;
}

/** The listeners of this node. */
export class Listeners {
  readonly #byTopic: Readonly<Record<Topic, Set<(position: Position) => void>>> = { log: new Set(), read: new Set() };

  add(topic: Topic, listener: (position: Position) => void): Disposable {
    this.#byTopic[topic].add(listener);
    return { [Symbol.dispose]: () => void this.#byTopic[topic].delete(listener) };
  }

  notify(topic: Topic, position: Position): void {
    for (const listener of this.#byTopic[topic]) listener(position);
  }
}

/** The bus of a node that is alone. */
export function processBus(): Bus {
  const listeners = new Listeners();
  return {
    publish: (topic, position) => listeners.notify(topic, position),
    on: (topic, listener) => listeners.add(topic, listener),
    status: () => ({ kind: "process", connected: true, lastError: null }),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** The channel of all nodes. A position names its log, so that several systems may share a server. */
export const CHANNEL = "chatapi_wake_ups";

export const encode = (topic: Topic, position: Position): string => `${topic} ${position}`;

const HEX = /^[0-9a-f]{16}$/;

/** Undefined for anything but a wake-up of this log. */
export function decode(text: string, logId: string): { topic: Topic; position: Position } | undefined {
  const topic = TOPICS.find((one) => text.startsWith(`${one} ${logId}.`));
  if (topic === undefined) return undefined;
  const value = text.slice(topic.length + logId.length + 2);
  return HEX.test(value) ? { topic, position: `${logId}.${value}` } : undefined;
}

/**
 * Sends the newest position of each topic, one message at a time. A burst, or a server that does not answer, piles
 * nothing up: a position that was overtaken is never sent.
 */
export class Outbox {
  readonly #send: (topic: Topic, position: Position) => Promise<void>;
  readonly #next = new Map<Topic, Position>();
  #sending: Promise<void> | undefined;

  /** `send` may fail; the message is lost then. */
  constructor(send: (topic: Topic, position: Position) => Promise<void>) {
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
    for (;;) {
      const [first] = this.#next;
      if (first === undefined) break;
      this.#next.delete(first[0]);
      await this.#send(...first).catch(() => undefined);
    }
    this.#sending = undefined;
  }
}
