// Reading the log's table: pages by position or by revision, each an index scan.

import type pg from "pg";
import { BLOB_STREAMS } from "../../domain/blob.ts";
import { batchLoader } from "../../platform/bounded.ts";
import { createPool } from "../../platform/postgres.ts";
import { messageOf, type WarnLogger } from "../../platform/supervise.ts";
import {
  type AllRead,
  checkLimit,
  checkStreamRead,
  isName,
  positionOf,
  type RecordedEvent,
  StoreUnavailable,
  type StreamRead,
} from "../event-store.ts";

/** Connections for reading; more readers wait in line, for as long as a connection may take. */
const READ_CONNECTIONS = 4;
const READ_TIMEOUT_MS = 30_000;
/** About how many bytes of events a subscription reads at once, whatever its batch. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;
/** Reads of so few events go together in one query: looking whether a stream has grown is the most frequent read. */
const MAX_GATHERED_EVENTS = 10;

// Milliseconds since the epoch leave the database as a whole number, so that nothing depends on its time zone.
const COLUMNS =
  "position, stream, revision, id, type, data, metadata, (extract(epoch FROM recorded_at) * 1000)::bigint AS recorded_ms";

const IS_BLOB = `starts_with(stream, '${BLOB_STREAMS}')`;

/** A page that ends once it has so many bytes. */
const pageOf = (columns: string) => `SELECT ${COLUMNS} FROM (
    SELECT *, sum(octet_length(data) + octet_length(metadata)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS bytes
    FROM (SELECT ${columns} FROM log.events WHERE position > $1 ORDER BY position LIMIT $2) AS page
  ) AS summed
  WHERE bytes - octet_length(data) - octet_length(metadata) < $3 ORDER BY position`;

const QUERIES = {
  forward: `SELECT ${COLUMNS} FROM log.events WHERE stream = $1 AND revision >= $2::bigint ORDER BY revision LIMIT $3`,
  together: `SELECT request.nth, found.* FROM unnest($1::text[], $2::bigint[], $3::int[]) WITH ORDINALITY AS request(stream, first, count, nth)
    CROSS JOIN LATERAL (
      SELECT ${COLUMNS} FROM log.events WHERE stream = request.stream AND revision >= request.first ORDER BY revision LIMIT request.count
    ) AS found ORDER BY request.nth, found.revision`,
  backward: `SELECT ${COLUMNS} FROM log.events WHERE stream = $1 AND revision <= $2::bigint ORDER BY revision DESC LIMIT $3`,
  all: `SELECT ${COLUMNS} FROM log.events WHERE position > $1 ORDER BY position LIMIT $2`,
  withoutBlobs: `SELECT ${COLUMNS} FROM log.events WHERE position > $1 AND NOT ${IS_BLOB} ORDER BY position LIMIT $2`,
  bounded: pageOf("*"),
  // Subscriptions pass over blobs: their content is not read.
  page: pageOf(`position, stream, revision, id, type, recorded_at,
    CASE WHEN ${IS_BLOB} THEN ''::bytea ELSE data END AS data,
    CASE WHEN ${IS_BLOB} THEN ''::bytea ELSE metadata END AS metadata`),
  tail: "SELECT coalesce(max(position), 0) FROM log.events",
  ping: "SELECT 1",
} as const;

/** Events of a stream from a revision on. */
type StreamRequest = { readonly stream: string; readonly first: number; readonly limit: number };
const MAX_REQUESTS = 100;

/** A row as text, in the order of COLUMNS. */
type Row = readonly (string | null)[];

// The rows are decoded here, at once and without a look-up for each value.
const AS_TEXT: pg.CustomTypesConfig = { getTypeParser: () => (value: string) => value };

export class Reader {
  readonly #pool: pg.Pool;
  readonly #logId: string;
  readonly #together = batchLoader<StreamRequest, RecordedEvent[]>(
    (requests) => this.#readTogether(requests),
    MAX_REQUESTS,
  );

  constructor(url: string, logId: string, logger: WarnLogger | undefined) {
    this.#logId = logId;
    this.#pool = createPool({
      connectionString: url,
      max: READ_CONNECTIONS,
      query_timeout: READ_TIMEOUT_MS,
      statement_timeout: READ_TIMEOUT_MS,
      application_name: "chatapi log reader",
      logger,
    });
  }

  async stream(stream: string, read: StreamRead): Promise<RecordedEvent[]> {
    checkStreamRead(read);
    const { from, direction = "forward", limit } = read;
    const first = from ?? (direction === "forward" ? 0 : Number.MAX_SAFE_INTEGER);
    // What cannot be a stream's name has no events; PostgreSQL would refuse the text.
    if (limit === 0 || !isName(stream)) return [];
    if (direction === "forward" && limit <= MAX_GATHERED_EVENTS) {
      return (await this.#together(`${first} ${limit} ${stream}`, { stream, first, limit })) ?? [];
    }
    return this.#events(direction, [stream, first, limit]);
  }

  async all(after: number, { limit, maxBytes, withoutBlobs }: Omit<AllRead, "after">): Promise<RecordedEvent[]> {
    checkLimit(limit);
    if (limit === 0) return [];
    if (maxBytes !== undefined) return this.#events("bounded", [after, limit, maxBytes]);
    return this.#events(withoutBlobs === true ? "withoutBlobs" : "all", [after, limit]);
  }

  /** As `all`, but no more than about MAX_PAGE_BYTES, blobs without their content; and whether the log had no more. */
  async page(after: number, limit: number): Promise<{ events: RecordedEvent[]; atEnd: boolean }> {
    const events = await this.#events("page", [after, limit, MAX_PAGE_BYTES]);
    let bytes = 0;
    for (const event of events) bytes += event.data.byteLength + event.metadata.byteLength;
    return { events, atEnd: events.length < limit && bytes < MAX_PAGE_BYTES };
  }

  /** The number of the last event. */
  async tail(): Promise<number> {
    const [row] = await this.#rows("tail", []);
    return Number(row?.[0]);
  }

  async ping(): Promise<void> {
    await this.#rows("ping", []);
  }

  close(): Promise<void> {
    return this.#pool.end();
  }

  async #readTogether(requests: ReadonlyMap<string, StreamRequest>): Promise<ReadonlyMap<string, RecordedEvent[]>> {
    const names = [...requests.keys()];
    const all = [...requests.values()];
    const [one] = all;
    if (all.length === 1 && one !== undefined) {
      return new Map([[names[0] ?? "", await this.#events("forward", [one.stream, one.first, one.limit])]]);
    }
    const columns = [
      all.map((request) => request.stream),
      all.map((request) => request.first),
      all.map((request) => request.limit),
    ];
    const found = new Map<string, RecordedEvent[]>();
    for (const [nth, ...row] of await this.#rows("together", columns)) {
      const name = names[Number(nth) - 1] ?? "";
      const events = found.get(name);
      if (events === undefined) found.set(name, [this.#event(row)]);
      else events.push(this.#event(row));
    }
    return found;
  }

  async #events(query: keyof typeof QUERIES, values: readonly (string | number)[]): Promise<RecordedEvent[]> {
    const rows = await this.#rows(query, values);
    return rows.map((row) => this.#event(row));
  }

  #event([position, stream, revision, id, type, data, metadata, recordedMs]: Row): RecordedEvent {
    return {
      id: id ?? "",
      stream: stream ?? "",
      revision: Number(revision),
      type: type ?? "",
      data: bytesOf(data),
      metadata: bytesOf(metadata),
      position: positionOf(this.#logId, Number(position)),
      recordedAt: Number(recordedMs),
    };
  }

  async #rows(query: keyof typeof QUERIES, values: readonly unknown[]): Promise<readonly Row[]> {
    if (this.#pool.ending) throw new StoreUnavailable("the log is closed");
    try {
      const result = await this.#pool.query<(string | null)[]>({
        name: `chatapi-log-${query}`,
        text: QUERIES[query],
        values: [...values],
        rowMode: "array",
        types: AS_TEXT,
      });
      return result.rows;
    } catch (error) {
      throw new StoreUnavailable(`the log cannot be read: ${messageOf(error)}`, { cause: error });
    }
  }
}

/** From PostgreSQL's hexadecimal form, `\x…`. */
const bytesOf = (text: string | null | undefined): Buffer => Buffer.from((text ?? "").slice(2), "hex");
