// A writer for the contract: appends of different sizes to streams of its own and to one that others write too.

import { type Appended, type EventStore, NO_STREAM, WrongExpectedRevision } from "../../src/event-store/event-store.ts";
import { newEvents } from "./subject.ts";

export type Work = {
  /** Prefix of the streams; the shared one is `<prefix>-shared`. */
  readonly prefix: string;
  readonly writer: string;
  /** Streams of its own, each written by a loop at the same time as the others. */
  readonly loops: number;
  /** How often each loop appends to its own stream and, every third time, to the shared one. */
  readonly rounds: number;
};

/** Does the work; returns how many events it wrote. */
export async function write(store: EventStore, { prefix, writer, loops, rounds }: Work): Promise<number> {
  const counts = await Promise.all(
    Array.from({ length: loops }, async (_, loop) => {
      const stream = `${prefix}-${writer}-${loop}`;
      let written = 0;
      let revision = NO_STREAM;
      for (let round = 0; round < rounds; round += 1) {
        const events = newEvents(1 + (round % 3));
        ({ revision } = await store.append(stream, revision, events));
        written += events.length;
        if (round % 3 === 0) {
          await appendAtEnd(store, `${prefix}-shared`);
          written += 1;
        }
      }
      return written;
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Appends one event wherever the stream ends, as often as it takes. */
async function appendAtEnd(store: EventStore, stream: string): Promise<Appended> {
  const events = newEvents(1);
  let expected = NO_STREAM;
  for (;;) {
    try {
      return await store.append(stream, expected, events);
    } catch (error) {
      if (!(error instanceof WrongExpectedRevision)) throw error;
      expected = error.actual;
    }
  }
}
