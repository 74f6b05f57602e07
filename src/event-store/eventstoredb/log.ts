// The log on EventStoreDB: one client a process, exact revisions, our own bounds and deadlines.

import { setImmediate as tick } from "node:timers/promises";
import type { WarnLogger } from "../../platform/supervise.ts";
import {
  type EventStore,
  isName,
  LOG_STREAM,
  logCreated,
  logIdOf,
  NO_STREAM,
  newLogId,
  StoreUnavailable,
  WrongExpectedRevision,
} from "../event-store.ts";
import { Subscriptions } from "../subscription.ts";
import { Connection, connectTo } from "./connection.ts";
import { LiveFeed } from "./feed.ts";
import { Reader } from "./reader.ts";
import { clientPosition, type LogNames, WrittenEvents } from "./records.ts";
import { Writer } from "./writer.ts";

/** How long an append waits for its answer before its outcome is unknown: the client's fast path has no deadline. */
const APPEND_TIMEOUT_MS = 10_000;
const MAX_PREFIX_BYTES = 100;

export type EventStoreDbOptions = {
  /** `esdb://` or `esdb+discover://`; nodes, TLS and credentials as the client's connection strings say. */
  readonly url: string;
  /**
   * Before every stream's name, so that one server holds several systems. It must not begin another's prefix: then
   * that one's events would be taken for ours. End it with a character that the rest of a prefix never has: `chat-`.
   */
  readonly prefix: string;
  /** Default: APPEND_TIMEOUT_MS. */
  readonly appendTimeoutMs?: number;
  /** How often a subscription that says nothing is held against the log's end. Default: 5 s. */
  readonly watchdogMs?: number;
  readonly logger?: WarnLogger;
};

/**
 * Opens the log on a server, making it when it is not there; several processes may do so at once. Throws
 * StoreUnavailable, or OutcomeUnknown when it could not be seen to be made; the client's own error for a connection
 * string that is none; RangeError for a prefix that is empty, not text, longer than 100 bytes, or the server's own
 * (`$`). Disposing ends the subscriptions, waits for the appends under way, and ends the client.
 */
export async function openEventStoreDb(options: EventStoreDbOptions): Promise<EventStore> {
  const { url, prefix, logger, appendTimeoutMs = APPEND_TIMEOUT_MS, watchdogMs } = options;
  if (!isName(prefix) || prefix.startsWith("$") || Buffer.byteLength(prefix) > MAX_PREFIX_BYTES) {
    throw new RangeError(`not a prefix of streams: ${JSON.stringify(prefix)}`);
  }
  const names: LogNames = { prefix, logId: "opening" };
  await using opening = new AsyncDisposableStack(); // closes in reverse order
  opening.use(holdStrayRejections(logger));
  const connection = opening.adopt(new Connection(url), (part) => part.client.dispose());
  const reader = opening.adopt(new Reader(connection, names), (part) => part.close());
  const written = new WrittenEvents();
  const writing = { connect: () => connectTo(url), names, reader, written, timeoutMs: appendTimeoutMs, logger };
  const writer = opening.adopt(new Writer(writing), (part) => part.close());
  // Until the log's id is known nothing has a position.
  names.logId = await logIdAt(reader, writer);
  const feed = new LiveFeed({ connection, names, reader, written, watchdogMs });
  const subscriptions = opening.use(new Subscriptions(feed, logger));
  const open = opening.move();

  return {
    logId: names.logId,
    append: (stream, expected, events) => writer.append(stream, expected, events),
    readStream: (stream, read) => reader.stream(stream, read),
    readAll: (read) => reader.all(read),
    tail: () => reader.tail(),
    subscribe(subscribe) {
      if (open.disposed) throw new StoreUnavailable("the log is closed");
      if (subscribe.after !== "start") clientPosition(names, subscribe.after); // refused here, not retried for ever
      return subscriptions.start(subscribe);
    },
    ping: () => reader.ping(),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** Of the log that is there, or is made now. */
async function logIdAt(reader: Reader, writer: Writer): Promise<string> {
  const [there] = await reader.stream(LOG_STREAM, { limit: 1 });
  if (there !== undefined) return logIdOf(there);
  await writer.append(LOG_STREAM, NO_STREAM, [logCreated(newLogId(), Date.now())]).catch((error: unknown) => {
    if (!(error instanceof WrongExpectedRevision)) throw error; // another process was first
  });
  const [made] = await reader.stream(LOG_STREAM, { limit: 1 });
  if (made === undefined) throw new StoreUnavailable("the log's first event cannot be read");
  return logIdOf(made);
}

// The client's late replies and broken writes reject promises that nobody holds; such a rejection must not end the process.

let guarded = 0;
let strayLogger: WarnLogger | undefined;

const isClients = (reason: unknown): boolean =>
  reason instanceof Error && /@eventstore[\\/]db-client|@grpc[\\/]grpc-js/.test(reason.stack ?? "");

function onStray(reason: unknown): void {
  // Anybody else's is as fatal as it would be without us.
  if (!isClients(reason)) throw reason;
  strayLogger?.warn({ err: reason }, "the EventStoreDB client rejected a promise that nobody waits for");
}

/** While held, rejections out of the client's depths are logged. Their appends have deadlines of our own. */
export function holdStrayRejections(warn: WarnLogger | undefined): AsyncDisposable {
  strayLogger = warn ?? strayLogger;
  if (guarded === 0) process.on("unhandledRejection", onStray);
  guarded += 1;
  return {
    async [Symbol.asyncDispose]() {
      await tick(); // those of the last client's end come before
      guarded -= 1;
      if (guarded === 0) process.off("unhandledRejection", onStray);
    },
  };
}
