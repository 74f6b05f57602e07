// The event log in PostgreSQL, the embedded default: one table, group commit, positions in commit order.

import { connect } from "../../platform/postgres.ts";
import type { WarnLogger } from "../../platform/supervise.ts";
import { checkAppend, type EventStore, newLogId, numberOf, positionOf, StoreUnavailable } from "../event-store.ts";
import { type Feed, Subscriptions } from "../subscription.ts";
import { Reader } from "./reader.ts";
import { openSchema } from "./schema.ts";
import { RecentEvents, WakeUps } from "./wake-ups.ts";
import { Writer } from "./writer.ts";

const APPEND_TIMEOUT_MS = 10_000;

type PostgresLogOptions = {
  /** `postgresql://`, of a role that may create the schema `log`, or owns it. */
  readonly url: string;
  /** How long an append waits for its answer before its outcome is unknown. Default: APPEND_TIMEOUT_MS. */
  readonly appendTimeoutMs?: number;
  readonly logger?: WarnLogger;
};

/**
 * Opens the log in a database, creating it when it is not there; several processes may do so at once. It holds one
 * connection for writing, one for listening, and up to four for reading. Throws when the database cannot be reached or
 * cannot hold a log. Disposing ends the subscriptions, sends what waits, and closes the connections.
 */
export async function openPostgresLog(options: PostgresLogOptions): Promise<EventStore> {
  const { url, logger, appendTimeoutMs = APPEND_TIMEOUT_MS } = options;
  const logId = await createdAt(url);
  const open = new AsyncDisposableStack(); // closes in reverse order
  const reader = open.adopt(new Reader(url, logId, logger), (part) => part.close());
  const recent = new RecentEvents();

  const isOwn = (processId: number) => processId === writer.processId;
  const wakeUps = open.adopt(new WakeUps({ url, logId, isOwn, logger }), (part) => part.close());
  const onWritten = (events: Parameters<RecentEvents["add"]>[1]) => {
    const first = numberOf(logId, events[0]?.position ?? "start");
    recent.add(first, events);
    wakeUps.announce(first + events.length - 1);
  };
  const writer = open.adopt(new Writer({ url, logId, appendTimeoutMs, onWritten, logger }), (part) => part.close());

  const feed: Feed = {
    read: async (after, limit) => {
      const from = numberOf(logId, after);
      const events = recent.read(from, limit);
      return events.length > 0 ? { events, atEnd: events.length < limit } : reader.page(from, limit);
    },
    listen: (listener) => wakeUps.listen(listener),
  };
  const subscriptions = open.use(new Subscriptions(feed, logger));

  return {
    logId,
    append: async (stream, expectedRevision, events) => {
      const bytes = checkAppend(stream, expectedRevision, events);
      return writer.append(stream, expectedRevision, events, bytes);
    },
    readStream: (stream, read) => reader.stream(stream, read),
    readAll: async ({ after, ...read }) => reader.all(numberOf(logId, after), read),
    tail: async () => positionOf(logId, await reader.tail()),
    subscribe: (subscribe) => {
      if (open.disposed) throw new StoreUnavailable("the log is closed");
      numberOf(logId, subscribe.after); // a position of another log is refused here, not retried for ever
      return subscriptions.start(subscribe);
    },
    ping: () => reader.ping(),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** Creates what is missing; returns the log's id. */
async function createdAt(url: string): Promise<string> {
  const connection = await connect(url, "chatapi log");
  try {
    return await openSchema(connection.client, newLogId());
  } finally {
    await connection.close();
  }
}
