// One filtered subscription to $all: our events after a place, and what the server says of its progress.

import { type AllStreamSubscription, type EventStoreDBClient, START, streamNameFilter } from "@eventstore/db-client";
import type { Position, RecordedEvent } from "../event-store.ts";
import { clientPosition, fromRecord, type LogNames } from "./records.ts";

/** What it is told; nothing more once it is closed. */
type Listener = {
  event(recorded: RecordedEvent): void;
  /** The server has gone through others' events, or says that it is at the log's end. */
  progress(): void;
  /** Once: it says nothing more. */
  broken(error: unknown): void;
};

export class AllStream {
  readonly #stream: AllStreamSubscription;
  #listener: Listener | undefined;
  #confirmed = false;
  #caughtUp = false;
  #heard = 0;

  constructor(client: EventStoreDBClient, names: LogNames, after: Position | "start", listener: Listener) {
    this.#listener = listener;
    const stream = client.subscribeToAll({
      fromPosition: after === "start" ? START : clientPosition(names, after),
      filter: streamNameFilter({ prefixes: [names.prefix], checkpointReached: () => this.#hear() }),
    });
    this.#stream = stream;
    stream.on("data", ({ event }) => {
      if (event === undefined || this.#listener === undefined) return;
      this.#heard += 1;
      this.#listener.event(fromRecord(event, names));
    });
    stream.on("confirmation", () => {
      this.#confirmed = true;
    });
    stream.on("caughtUp", () => {
      this.#caughtUp = true;
      this.#hear();
    });
    stream.on("error", (error) => this.fail(error));
    stream.on("end", () => this.fail(new Error("the subscription ended")));
    stream.on("close", () => this.fail(new Error("the subscription was closed")));
  }

  /** Whether the server has accepted it. */
  get confirmed(): boolean {
    return this.#confirmed;
  }

  /** Whether the server has said that it was at the log's end; some never do. */
  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  /** Grows with all that it says. */
  get heard(): number {
    return this.#heard;
  }

  get isOpen(): boolean {
    return this.#listener !== undefined;
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  close(): void {
    if (this.#listener === undefined) return;
    this.#listener = undefined;
    // What it still says is of no interest, but it must be read out, and an error that nobody hears ends the process.
    this.#stream.resume();
    this.#stream.unsubscribe().catch(() => undefined);
  }

  /** Ends it with an error: the server's, or a reason of ours. */
  fail(error: unknown): void {
    const listener = this.#listener;
    this.close();
    listener?.broken(error);
  }

  #hear(): void {
    this.#heard += 1;
    this.#listener?.progress();
  }
}
