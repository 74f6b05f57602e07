// What nodes tell each other and may lose: wake-ups about how far the read models are, for whoever listens also polls, and
// signals, such as who types.

import { randomUUID } from "node:crypto";
import type pg from "pg";
import type { z } from "zod";
import { connect, within } from "./postgres.ts";
import { backoffMs, messageOf, pause, type WarnLogger } from "./supervise.ts";

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
  /** Sends to every other node. Never throws and never waits; what cannot be sent is dropped. Max MAX_SIGNAL_BYTES. */
  signal(text: string): void;
  /** Called with the signals of other nodes, each sender's in order. The listener must neither throw nor take long. */
  onSignal(listener: (text: string) => void): Disposable;
  status(): BusStatus;
}

export type Signals = Pick<Bus, "signal" | "onSignal">;

/** The signals of one kind on a bus, checked as they come in; all others are passed over. */
export function signalsOf<T>(bus: Signals, kind: string, schema: z.ZodType<T>) {
  const prefix = `${kind} `;
  return {
    send: (signal: T) => bus.signal(prefix + JSON.stringify(signal)),
    /** The listener must neither throw nor take long. */
    on: (listener: (signal: T) => void): Disposable =>
      bus.onSignal((text) => {
        if (!text.startsWith(prefix)) return;
        const { data } = schema.safeParse(JSON.parse(text.slice(prefix.length)));
        if (data !== undefined) listener(data);
      }),
  };
}

/** Of one signal, in UTF-8. */
const MAX_SIGNAL_BYTES = 4_000;
/** Of one message: less than a notification of PostgreSQL may have. */
const MAX_MESSAGE_BYTES = 7_500;
/** Signals that wait to be sent; more are dropped. */
const MAX_WAITING_SIGNALS = 5_000;
const SIGNALS = "signals";

/** The listeners of this node. */
export class Listeners {
  readonly #byTopic: Readonly<Record<Topic, Set<(position: Position) => void>>> = {
    moved: new Set(),
    awaited: new Set(),
  };
  readonly #signals = new Set<(text: string) => void>();

  add(topic: Topic, listener: (position: Position) => void): Disposable {
    this.#byTopic[topic].add(listener);
    return { [Symbol.dispose]: () => void this.#byTopic[topic].delete(listener) };
  }

  addSignal(listener: (text: string) => void): Disposable {
    this.#signals.add(listener);
    return { [Symbol.dispose]: () => void this.#signals.delete(listener) };
  }

  /** Passes on a message as it came over the wire; ignores anything but those about this log, and one's own signals. */
  notify(text: string, logId: string, own = ""): void {
    if (text.startsWith(`${SIGNALS} ${logId} `)) {
      const [head = "", ...signals] = text.split("\n");
      if (head === `${SIGNALS} ${logId} ${own}`) return;
      for (const signal of signals) for (const listener of this.#signals) listener(signal);
      return;
    }
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
    signal: () => undefined,
    onSignal: () => ({ [Symbol.dispose]: () => undefined }),
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
  readonly #signals: string[] = [];
  readonly #head: string;
  #sending: Promise<void> | undefined;

  /** `send` may fail; the message is lost then. `own` tells this node's signals from those of others. */
  constructor(send: (text: string) => Promise<unknown>, { logId, own }: { logId: string; own: string }) {
    this.#send = send;
    this.#head = `${SIGNALS} ${logId} ${own}`;
  }

  put(topic: Topic, position: Position): void {
    this.#next.set(topic, position);
    this.#sending ??= this.#run();
  }

  putSignal(text: string): void {
    // fence: signals-bound
    if (this.#signals.length >= MAX_WAITING_SIGNALS || Buffer.byteLength(text) > MAX_SIGNAL_BYTES) return;
    this.#signals.push(text);
    this.#sending ??= this.#run();
  }

  /** As many of the signals that wait as one message takes. */
  #nextSignals(): string | undefined {
    let text = this.#head;
    let bytes = text.length;
    let count = 0;
    for (const signal of this.#signals) {
      bytes += 1 + Buffer.byteLength(signal);
      if (count > 0 && bytes > MAX_MESSAGE_BYTES) break;
      text += `\n${signal}`;
      count += 1;
    }
    this.#signals.splice(0, count);
    return count === 0 ? undefined : text;
  }

  /** Drops what waits, and returns once the message that is being sent has been. */
  async close(): Promise<void> {
    this.#next.clear();
    this.#signals.length = 0;
    await this.#sending;
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // what is put in one go is sent as one
    while (this.#next.size > 0 || this.#signals.length > 0) {
      for (const [topic, position] of this.#next) {
        this.#next.delete(topic); // put again meanwhile, it comes again
        await this.#send(`${topic} ${position}`).catch(() => undefined);
      }
      const signals = this.#nextSignals();
      if (signals !== undefined) await this.#send(signals).catch(() => undefined);
    }
    this.#sending = undefined;
  }
}

// The bus on PostgreSQL's LISTEN and NOTIFY: for several nodes without Redis.

/** A connection that died in silence is noticed by a question that gets no answer. */
const PROBE_MS = 5_000;
const ANSWER_MS = 3_000;

/** One connection, made again whenever it drops; a failure is logged once, until it is back. */
export function postgresBus(parts: { url: string; logId: string; logger: WarnLogger }): Bus {
  const { url, logId, logger } = parts;
  const listeners = new Listeners();
  const own = randomUUID();
  const closing = new AbortController();
  let client: pg.Client | undefined;
  let lastError: string | null = null;
  const outbox = new Outbox(async (text) => client?.query("select pg_notify($1, $2)", [CHANNEL, text]), {
    ...{ logId, own },
  });

  async function listen(): Promise<void> {
    const connection = await connect(url, "chatapi bus");
    const current = connection.client;
    const lost = new AbortController();
    let reason: Error | undefined;
    void connection.ended.then((error) => {
      reason = error;
      lost.abort();
    });
    current.on("notification", ({ payload = "" }) => listeners.notify(payload, logId, own));
    try {
      const interrupted = AbortSignal.any([closing.signal, lost.signal]);
      for (let listening = false; !closing.signal.aborted; listening = true) {
        await within(ANSWER_MS, current.query(listening ? "select" : `listen ${CHANNEL}`), "PostgreSQL did not answer");
        client = current;
        lastError = null;
        await pause(PROBE_MS, interrupted);
        if (reason !== undefined) throw reason;
      }
    } finally {
      client = undefined;
      await connection.close();
      await outbox.close();
    }
  }

  async function keepListening(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; ) {
      try {
        await listen();
      } catch (error) {
        if (lastError === null) logger.warn({ err: error }, "wake-ups are lost: nodes poll");
        failures = lastError === null ? 1 : failures + 1;
        lastError = messageOf(error);
        await pause(backoffMs(failures), closing.signal);
      }
    }
  }
  const running = keepListening();

  return {
    publish: (topic, position) => {
      if (client !== undefined) outbox.put(topic, position);
    },
    on: (topic, listener) => listeners.add(topic, listener),
    signal: (text) => {
      if (client !== undefined) outbox.putSignal(text);
    },
    onSignal: (listener) => listeners.addSignal(listener),
    status: () => ({ kind: "postgres", connected: client !== undefined, lastError }),
    async [Symbol.asyncDispose]() {
      closing.abort();
      await running;
    },
  };
}
