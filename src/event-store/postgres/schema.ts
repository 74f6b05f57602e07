// What the log is in PostgreSQL: one table, one function that writes, and how they come to be.

import type pg from "pg";
import { LOCKS, lockInTransaction, lockInTransactionSql } from "../../platform/locks.ts";
import { transactionOn } from "../../platform/postgres.ts";
import { LOG_STREAM, logCreated, logIdOf } from "../log-created.ts";

/** Told once a flush is on disk, with the last position there as its payload. */
export const CHANNEL = "chatapi_log";

/** How long opening waits for another process that is opening the same log. */
const LOCK_TIMEOUT_MS = 30_000;

/**
 * Storage format. Names compare by their bytes ("C"), so that the index neither depends on a locale nor pays for one.
 * The function's name carries its version: one that takes or does something else is another function, because
 * processes of two versions use the same database while a new one is rolled out.
 *
 * `append_v2` writes one flush. It takes appends (one array element each) and their events; appends of one stream
 * stand side by side, each expecting the revision that the one before leaves, `skip` events after the first's. Under
 * the lock, which is held until the commit has happened, so that commit order is position order, it writes the
 * appends whose stream is where they expect it. Of the others it says why not, by index from 1: 1, exactly these events
 * already follow the expected revision (theirs are the revision and the position); 2, the stream is elsewhere
 * (`x_revision`). Positions go on from the last in the table, in the order of the events given. Its commit does not wait
 * for the disk, so that the next flush need not either: nobody may be told of it before `durable_v1`.
 *
 * `durable_v1` returns once everything that anybody could see when it was called is on disk (and, where PostgreSQL
 * replicates synchronously, with the standby), and gives the last position of that: a commit that waits for the disk
 * takes along what was committed before it. It has to write something for that, or it would not wait. One at a time: a
 * commit that hangs, which no time limit ends, does so alone; those behind it wait for the lock, where one does.
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

CREATE OR REPLACE FUNCTION log.append_v2(
  a_stream text[], a_expected integer[], a_skip integer[], a_count integer[],
  e_append integer[], e_stream text[], e_revision integer[], e_id uuid[], e_type text[], e_data bytea[], e_metadata bytea[],
  OUT base bigint, OUT recorded_ms bigint,
  OUT x_append integer[], OUT x_status integer[], OUT x_revision integer[], OUT x_position bigint[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  recorded timestamptz(3);
  stale boolean;
  a record;
  head integer;
  event_from integer := 1;
  same_count bigint;
  same_position bigint;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  /* fence: append-lock */ PERFORM ${lockInTransactionSql(LOCKS.logAppend)};
  SELECT coalesce(max(e.position), 0) INTO base FROM log.events e;
  recorded := clock_timestamp();
  recorded_ms := round(extract(epoch FROM recorded) * 1000);

  SELECT EXISTS (
    SELECT FROM unnest(a_stream, a_expected, a_skip) AS n(stream, expected, skip)
    LEFT JOIN LATERAL (
      SELECT e.revision FROM log.events e WHERE e.stream = n.stream AND e.revision >= n.expected - n.skip
      ORDER BY e.revision DESC LIMIT 1
    ) h ON true
    WHERE /* fence: append-expected-revision */ coalesce(h.revision, -1) <> n.expected - n.skip
  ) INTO stale;

  IF stale THEN
    FOR a IN
      SELECT n.* FROM unnest(a_stream, a_expected, a_skip, a_count)
        WITH ORDINALITY AS n(stream, expected, skip, count, index) ORDER BY n.index
    LOOP
      IF a.skip = 0 THEN
        SELECT coalesce((
          SELECT e.revision FROM log.events e WHERE e.stream = a.stream ORDER BY e.revision DESC LIMIT 1
        ), -1) INTO head;
      END IF;
      IF a.expected = head THEN
        head := head + a.count;
      ELSE
        SELECT count(*), max(e.position) INTO same_count, same_position
        FROM unnest(e_id[event_from : event_from + a.count - 1]) WITH ORDINALITY AS n(id, index)
        JOIN log.events e ON e.stream = a.stream AND e.revision = a.expected + n.index AND e.id = n.id;
        x_append := x_append || a.index::integer;
        IF /* fence: append-sent-again */ same_count = a.count /* end */ THEN
          x_status := x_status || 1; x_revision := x_revision || (a.expected + a.count); x_position := x_position || same_position;
        ELSE
          x_status := x_status || 2; x_revision := x_revision || head; x_position := x_position || NULL::bigint;
        END IF;
      END IF;
      event_from := event_from + a.count;
    END LOOP;

    INSERT INTO log.events (position, stream, revision, id, type, data, metadata, recorded_at)
    SELECT base + row_number() OVER (ORDER BY n.index), n.stream, n.revision, n.id, n.type, n.data, n.metadata, recorded
    FROM unnest(e_append, e_stream, e_revision, e_id, e_type, e_data, e_metadata)
      WITH ORDINALITY AS n(append, stream, revision, id, type, data, metadata, index)
    WHERE x_append IS NULL OR n.append <> ALL (x_append);
  ELSE
    INSERT INTO log.events (position, stream, revision, id, type, data, metadata, recorded_at)
    SELECT base + n.index, n.stream, n.revision, n.id, n.type, n.data, n.metadata, recorded
    FROM unnest(e_stream, e_revision, e_id, e_type, e_data, e_metadata)
      WITH ORDINALITY AS n(stream, revision, id, type, data, metadata, index);
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION log.durable_v1() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM ${lockInTransactionSql(LOCKS.logDurable)};
  /* fence: durable-read-setting */ PERFORM set_config('synchronous_commit', 'on', true);
  /* fence: durable-answer */ PERFORM pg_logical_emit_message(true, 'chatapi', '');
  RETURN (SELECT coalesce(max(e.position), 0) FROM log.events e);
END
$$;
`;

/**
 * Makes what is missing, with the log's first event, and returns the log's id. Any number of processes may do this at
 * once: the second waits for the first. Throws when the database cannot hold text exactly, or holds another log.
 */
export async function openSchema(client: pg.ClientBase, newLogId: string): Promise<string> {
  const encoding = await client.query<{ server_encoding: string }>("SHOW server_encoding");
  const found = encoding.rows[0]?.server_encoding;
  if (found !== "UTF8") throw new Error(`the log needs a database in UTF8, not in ${found}`);
  const created = logCreated(newLogId, Date.now());
  return transactionOn(client, async () => {
    await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
    await lockInTransaction(client, LOCKS.logSchema);
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
  });
}
