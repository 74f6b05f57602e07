// What is to be sent on a bus: of each topic the newest position, one sending at a time.
import type { Position } from "../event-store/event-store.ts";
import type { Topic } from "./bus.ts";

/** Keeps a burst, or a server that does not answer, from piling up: what is overtaken is never sent. */
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

  /** Returns when what is being sent has been, and drops the rest. */
  async close(): Promise<void> {
    this.#next.clear();
    await this.#sending;
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // what comes in one go is put together
    for (;;) {
      const [first] = this.#next;
      if (first === undefined) break;
      this.#next.delete(first[0]);
      await this.#send(...first).catch(() => undefined);
    }
    this.#sending = undefined;
  }
}
