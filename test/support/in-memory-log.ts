// The event log in memory: every promise of the port but durability.

import {
  type Appended,
  checkAppend,
  checkLimit,
  checkStreamRead,
  type EventStore,
  isBlob,
  LOG_STREAM,
  logCreated,
  type NewEvent,
  newLogId,
  numberOf,
  positionOf,
  type RecordedEvent,
  StoreUnavailable,
  type StreamRead,
  WrongExpectedRevision,
} from "../../src/event-store/event-store.ts";
import { type Feed, type FeedListener, Subscriptions } from "../../src/event-store/subscription.ts";
import type { WarnLogger } from "../../src/platform/supervise.ts";

type InMemoryLogOptions = {
  /** For tests that compare positions. Default: random. */
  readonly logId?: string;
  readonly logger?: WarnLogger;
};

/** Opens an empty log that lives as long as this object; position n is the n-th event. */
export async function openInMemoryLog(options: InMemoryLogOptions = {}): Promise<EventStore> {
  const logId = options.logId ?? newLogId();
  const all: RecordedEvent[] = [];
  const streams = new Map<string, RecordedEvent[]>();
  const listeners = new Set<FeedListener>();
  let closed = false;

  const tail = () => positionOf(logId, all.length);
  const eventsOf = (stream: string): readonly RecordedEvent[] => streams.get(stream) ?? [];

  function write(stream: string, events: readonly NewEvent[]): RecordedEvent[] {
    const held = streams.get(stream) ?? [];
    streams.set(stream, held);
    const recordedAt = Date.now();
    const written = events.map((event, index) => ({
      ...event,
      // Copies: what the caller does to its bytes afterwards does not change the log.
      data: Buffer.from(event.data),
      metadata: Buffer.from(event.metadata),
      stream,
      revision: held.length + index,
      position: positionOf(logId, all.length + index + 1),
      recordedAt,
    }));
    for (const event of written) {
      held.push(event);
      all.push(event);
    }
    for (const listener of listeners) listener.appended(tail());
    return written;
  }

  function append(stream: string, expected: number, events: readonly NewEvent[]): Appended {
    checkAppend(stream, expected, events);
    const held = eventsOf(stream);
    const actual = held.length - 1;
    if (expected !== actual) {
      const there = held.slice(expected + 1, expected + 1 + events.length);
      const last = there.at(-1);
      const same = there.length === events.length && there.every((event, index) => event.id === events[index]?.id);
      if (same && last !== undefined) return { revision: last.revision, position: last.position };
      throw new WrongExpectedRevision(stream, expected, actual);
    }
    write(stream, events);
    return { revision: expected + events.length, position: tail() };
  }

  function readStream(stream: string, read: StreamRead): readonly RecordedEvent[] {
    checkStreamRead(read);
    const { from, direction = "forward", limit } = read;
    const held = eventsOf(stream);
    if (direction === "forward") return held.slice(Math.max(0, from ?? 0)).slice(0, limit);
    return held
      .slice(0, Math.max(0, (from ?? held.length) + 1))
      .reverse()
      .slice(0, limit);
  }

  const feed: Feed = {
    read: async (after, limit) => {
      const from = numberOf(logId, after);
      return { events: all.slice(from, from + limit), atEnd: from + limit >= all.length };
    },
    listen: (listener) => {
      listeners.add(listener);
      listener.appended(tail());
      return () => listeners.delete(listener);
    },
  };

  const subscriptions = new Subscriptions(feed, options.logger);

  const ifOpen = () => {
    if (closed) throw new StoreUnavailable("the log is closed");
  };

  write(LOG_STREAM, [logCreated(logId, Date.now())]);
  return {
    logId,
    append: async (stream, expected, events) => {
      ifOpen();
      return append(stream, expected, events);
    },
    readStream: async (stream, read) => {
      ifOpen();
      return readStream(stream, read);
    },
    readAll: async ({ after, limit, maxBytes = Number.POSITIVE_INFINITY, withoutBlobs }) => {
      ifOpen();
      checkLimit(limit);
      const rest = all.slice(numberOf(logId, after)).filter((event) => withoutBlobs !== true || !isBlob(event));
      let bytes = 0;
      const end = rest.findIndex((event) => {
        const full = bytes >= maxBytes;
        bytes += event.data.byteLength + event.metadata.byteLength;
        return full;
      });
      return rest.slice(0, Math.min(limit, end < 0 ? rest.length : end));
    },
    tail: async () => {
      ifOpen();
      return tail();
    },
    subscribe: (subscribe) => {
      ifOpen();
      numberOf(logId, subscribe.after);
      return subscriptions.start(subscribe);
    },
    ping: async () => ifOpen(),
    [Symbol.asyncDispose]: () => {
      closed = true;
      return subscriptions[Symbol.asyncDispose]();
    },
  };
}
