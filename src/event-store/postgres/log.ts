// The event log in PostgreSQL: the embedded default. One table, group commit, positions in commit order.

import { connect, within } from "../../platform/postgres.ts";
import type { WarnLogger } from "../../platform/supervise.ts";
import { newLogId } from "../envelope.ts";
import { checkAppend, type EventStore, numberOf, type Position, positionOf, StoreUnavailable } from "../event-store.ts";
import { type Feed, Subscriptions } from "../subscription.ts";
import { Flusher } from "./flusher.ts";
import { Reader } from "./reader.ts";
import { RecentEvents } from "./recent.ts";
import { openSchema } from "./schema.ts";
import { WakeUps } from "./wake-ups.ts";

/** How long a subscription waits for a flush that may hold what it lacks, before it reads from the table. */
const FLUSH_PATIENCE_MS = 50;
/** How long an append waits for its answer, in line and on the way, before its outcome is unknown. */
const APPEND_TIMEOUT_MS = 10_000;

type PostgresLogOptions = {
  /** `postgresql://`, of a role that may create the schema `log`, or owns it. */
  readonly url: string;
  /** Default: APPEND_TIMEOUT_MS. */
  readonly appendTimeoutMs?: number;
  /** Default: FLUSH_PATIENCE_MS. */
  readonly flushPatienceMs?: number;
  readonly logger?: WarnLogger;
};

/** Carries the news that the log has grown to other processes, and theirs to this one. May lose any of it. */
type LogWakeUps = {
  publish(topic: "log", position: Position): void;
  on(topic: "log", listener: (position: Position) => void): Disposable;
};

type PostgresLog = EventStore & {
  /** Tells and hears of appends this way too, beside NOTIFY and the poll: for a database behind which NOTIFY is lost. */
  wakeBy(wakeUps: LogWakeUps): void;
};

/**
 * Opens the log in a database, making it when it is not there; several processes may do so at once. It holds two
 * connections for writing, one for listening, and up to four for reading. Throws when the database cannot be reached or cannot hold a log. Disposing ends the subscriptions, sends
 * what waits, and closes the connections.
 */
export async function openPostgresLog(options: PostgresLogOptions): Promise<PostgresLog> {
  const { url, logger, appendTimeoutMs = APPEND_TIMEOUT_MS, flushPatienceMs = FLUSH_PATIENCE_MS } = options;
  const logId = await openAt(url);
  const open = new AsyncDisposableStack(); // closes in reverse order
  const recent = new RecentEvents();
  let publish: LogWakeUps["publish"] = () => {};
  const reader = open.adopt(new Reader(url, logId, logger), (part) => part.close());
  const wakeUps = open.adopt(new WakeUps({ url, logId, logger }), (part) => part.close());
  const flusher = open.adopt(
    new Flusher({
      url,
      logId,
      appendTimeoutMs,
      logger,
      end: () => wakeUps.end,
      written: (events) => {
        const first = numberOf(logId, events[0]?.position ?? "start");
        recent.add(first, events);
        const last = first + events.length - 1;
        wakeUps.announce(last);
        publish("log", positionOf(logId, last));
      },
    }),
    (part) => part.close(),
  );

  const feed: Feed = {
    read: async (after, limit) => {
      const from = numberOf(logId, after);
      let events = recent.read(from, limit);
      if (events.length === 0) {
        // NOTIFY, or the answer to the flush behind it, is often first; the events are here in a moment.
        const outcome = flusher.outcomeOf(from + 1);
        if (outcome !== undefined) {
          await within(flushPatienceMs, outcome, "the flush is slow").catch(() => undefined); // the table has it then
          events = recent.read(from, limit);
        }
      }
      if (events.length > 0) return { events, atEnd: events.length < limit };
      return reader.page(from, limit);
    },
    listen: (listener) => wakeUps.listen(listener),
  };
  const subscriptions = open.use(new Subscriptions(feed, logger));

  return {
    logId,
    append: async (stream, expectedRevision, events) => {
      const bytes = checkAppend(stream, expectedRevision, events);
      return flusher.append(stream, expectedRevision, events, bytes);
    },
    readStream: (stream, read) => reader.stream(stream, read),
    readAll: async ({ after, limit }) => reader.all(numberOf(logId, after), limit),
    tail: async () => positionOf(logId, await reader.tail()),
    subscribe: (subscribe) => {
      if (open.disposed) throw new StoreUnavailable("the log is closed");
      numberOf(logId, subscribe.after); // a position of another log is refused here, not retried for ever
      return subscriptions.start(subscribe);
    },
    ping: () => reader.ping(),
    wakeBy(bus) {
      publish = (topic, position) => bus.publish(topic, position);
      open.use(bus.on("log", (position) => wakeUps.announce(numberOf(logId, position))));
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

async function openAt(url: string): Promise<string> {
  const connection = await connect(url, "chatapi log");
  try {
    return await openSchema(connection.client, newLogId());
  } finally {
    await connection.close();
  }
}
