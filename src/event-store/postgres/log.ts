// The event log in PostgreSQL, the embedded default: one table, group commit, positions in commit order.

import type pg from "pg";
import { LOCKS, lockInTransactionSql, setUpAlone } from "../../platform/locks.ts";
import { connect, transactionOn } from "../../platform/postgres.ts";
import type { WarnLogger } from "../../platform/supervise.ts";
import {
  checkAppend,
  type EventStore,
  LOG_STREAM,
  logCreated,
  logIdOf,
  newLogId,
  numberOf,
  positionOf,
  StoreUnavailable,
} from "../event-store.ts";
import { type Feed, Subscriptions } from "../subscription.ts";
import { Reader } from "./reader.ts";
import { CHANNEL, RecentEvents, WakeUps } from "./wake-ups.ts";
import { Writer } from "./writer.ts";

// The log in PostgreSQL: one table, one function that writes to it, and how both are created.

/**
 * Storage format. Names compare by their bytes ("C"), so that the index neither depends on a locale nor pays for one.
 * A function's name carries its version: one with other arguments or another effect gets a new name, because processes
 * of two versions share a database during a rollout. Functions of earlier versions stay where they exist.
 *
 * `append_v3` writes one flush: appends (one array element each, `a_`) and their events (`e_`, with the index of their
 * append from 1). Appends of one stream may follow each other: each expects the revision that the one before leaves,
 * and `a_first` is what the first of them expects. An append is written whole when its stream is at the revision that
 * it expects, in the order of the flush. The others are listed by index: when exactly these events already follow the
 * expected revision, with their last revision and position; else with the stream's revision and no position.
 *
 * The lock is held until the commit has happened, and positions go on from the last one in the table. So commit order
 * is position order, across all processes. The notification goes out with the commit.
 */
const SCHEMA = `
CREATE SCHEMA IF NOT EXISTS log;

CREATE TABLE IF NOT EXISTS log.events (
  position bigint PRIMARY KEY,
  stream text COLLATE "C" NOT NULL,
  revision integer NOT NULL,
  id uuid NOT NULL,
  type text COLLATE "C" NOT NULL,
  data bytea NOT NULL,
  metadata bytea NOT NULL,
  recorded_at timestamptz(3) NOT NULL,
  UNIQUE (stream, revision)
);

CREATE OR REPLACE FUNCTION log.append_v3(
  a_stream text[], a_expected integer[], a_first integer[], a_count integer[],
  e_append integer[], e_stream text[], e_revision integer[], e_id uuid[], e_type text[], e_data bytea[], e_metadata bytea[],
  OUT base bigint, OUT recorded_ms bigint,
  OUT x_append integer[], OUT x_revision integer[], OUT x_position bigint[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  recorded timestamptz(3);
  written bigint;
BEGIN
  /* fence: append-lock */ PERFORM ${lockInTransactionSql(LOCKS.logAppend)};
  SELECT coalesce(max(e.position), 0) INTO base FROM log.events e;
  recorded := clock_timestamp();
  recorded_ms := round(extract(epoch FROM recorded) * 1000);

  -- Looked up from the expected revision on: a scan back from the end would first collect a page of the stream's entries.
  IF NOT EXISTS (
    SELECT FROM unnest(a_stream, a_first) AS n(stream, first)
    LEFT JOIN LATERAL (
      SELECT e.revision FROM log.events e WHERE e.stream = n.stream AND e.revision >= n.first
      ORDER BY e.revision DESC LIMIT 1
    ) h ON true
    WHERE /* fence: append-expected-revision */ coalesce(h.revision, -1) <> n.first
  ) THEN
    INSERT INTO log.events (position, stream, revision, id, type, data, metadata, recorded_at)
    SELECT base + n.index, n.stream, n.revision, n.id, n.type, n.data, n.metadata, recorded
    FROM unnest(e_stream, e_revision, e_id, e_type, e_data, e_metadata)
      WITH ORDINALITY AS n(stream, revision, id, type, data, metadata, index);
  ELSE
    -- Of appends that follow each other, those from the stream's revision on fit.
    SELECT array_agg(a.index ORDER BY a.index), array_agg(coalesce(s.revision, a.head) ORDER BY a.index),
      array_agg(s.position ORDER BY a.index)
    INTO x_append, x_revision, x_position
    FROM (
      SELECT n.index, n.count, h.head,
        n.expected >= h.head AND bool_or(n.expected = h.head) OVER (PARTITION BY n.stream) AS fits
      FROM unnest(a_stream, a_expected, a_count) WITH ORDINALITY AS n(stream, expected, count, index)
      CROSS JOIN LATERAL (
        SELECT coalesce(max(e.revision), -1) AS head FROM log.events e WHERE e.stream = n.stream
      ) h
    ) a
    LEFT JOIN (
      SELECT n.append, count(*) AS count, max(e.revision) AS revision, max(e.position) AS position
      FROM unnest(e_append, e_stream, e_revision, e_id) AS n(append, stream, revision, id)
      JOIN log.events e ON e.stream = n.stream AND e.revision = n.revision AND e.id = n.id
      GROUP BY n.append
    ) s ON s.append = a.index AND /* fence: append-sent-again */ s.count = a.count
    WHERE NOT a.fits;

    INSERT INTO log.events (position, stream, revision, id, type, data, metadata, recorded_at)
    SELECT base + row_number() OVER (ORDER BY n.index), n.stream, n.revision, n.id, n.type, n.data, n.metadata, recorded
    FROM unnest(e_append, e_stream, e_revision, e_id, e_type, e_data, e_metadata)
      WITH ORDINALITY AS n(append, stream, revision, id, type, data, metadata, index)
    WHERE n.append <> ALL (x_append);
  END IF;
  GET DIAGNOSTICS written = ROW_COUNT;
  IF written > 0 THEN
    PERFORM pg_notify('${CHANNEL}', (base + written)::text);
  END IF;
END
$$;
`;

/**
 * Creates what is missing, with the log's first event, and returns the log's id. Any number of processes may do this at
 * once: one waits for the other. Throws when the database is not in UTF8, or holds another log.
 */
async function openSchema(client: pg.ClientBase, newLogId: string): Promise<string> {
  const encoding = await client.query<{ server_encoding: string }>("SHOW server_encoding");
  const found = encoding.rows[0]?.server_encoding;
  if (found !== "UTF8") throw new Error(`the log needs a database in UTF8, not in ${found}`);
  const created = logCreated(newLogId, Date.now());
  const create = async () => {
    await client.query(SCHEMA);
    await client.query(
      `INSERT INTO log.events (position, stream, revision, id, type, data, metadata, recorded_at)
       SELECT 1, $1, 0, $2, $3, $4, $5, clock_timestamp() WHERE NOT EXISTS (SELECT FROM log.events)`,
      [LOG_STREAM, created.id, created.type, created.data, created.metadata],
    );
    const first = await client.query<{ type: string; data: Buffer }>(
      "SELECT type, data FROM log.events ORDER BY position LIMIT 1",
    );
    const event = first.rows[0];
    if (event === undefined) throw new Error("the log has no first event");
    return logIdOf(event);
  };
  // The caller closes the connection in any case.
  return setUpAlone(
    client,
    LOCKS.logSchema,
    () => transactionOn(client, create),
    () => undefined,
  );
}

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
