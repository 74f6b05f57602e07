// Reads of streams and of the whole log, in pages.

import { setTimeout as sleep } from "node:timers/promises";
import {
  BACKWARDS,
  type Position as ClientPosition,
  END,
  ErrorType,
  type EventStoreDBClient,
  FORWARDS,
  type ReadStreamOptions,
  START,
} from "@eventstore/db-client";
import { messageOf } from "../../platform/supervise.ts";
import {
  type AllRead,
  checkLimit,
  checkStreamRead,
  isBlob,
  isName,
  LOG_STREAM,
  type Position,
  positionOf,
  type RecordedEvent,
  StoreUnavailable,
  type StreamRead,
  sizeOf,
} from "../event-store.ts";
import type { ReadConnection } from "./connection.ts";
import {
  type ClientRecord,
  clientPosition,
  commitOf,
  fromRecord,
  isNotLeader,
  type LogNames,
  RETRY_MS,
  typeOf,
} from "./records.ts";

/** How long a read waits for the next event of its page. The client sends no deadline with a read, whatever it is given. */
const READ_TIMEOUT_MS = 10_000;
const PING_TIMEOUT_MS = 2_000;
/** Events a page at most; looking for few of ours among others' begins with small pages. */
const MAX_PAGE = 1_000;
const FIRST_PAGE = 8;
const PAGE_GROWTH = 8;

/** Events of a page end once they have so many bytes. */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;

type Reading = ReturnType<EventStoreDBClient["readAll"]> | ReturnType<EventStoreDBClient["readStream"]>;
type Page = { readonly records: readonly ClientRecord[]; readonly atEnd: boolean };

/** The newest event of ours, and how far the log was searched for a newer one. */
type Tail = { readonly own: bigint; readonly searched: bigint };

export class Reader {
  readonly #connection: ReadConnection;
  readonly #names: LogNames;
  readonly #timeoutMs: number;
  #closed = false;
  #tail: Tail | undefined;

  constructor(connection: ReadConnection, names: LogNames, timeoutMs = READ_TIMEOUT_MS) {
    this.#connection = connection;
    this.#names = names;
    this.#timeoutMs = timeoutMs;
  }

  /** To be called before the connection's client is ended: that ends what it reads as if there were no more. */
  close(): void {
    this.#closed = true;
  }

  async stream(stream: string, read: StreamRead): Promise<readonly RecordedEvent[]> {
    checkStreamRead(read);
    const { direction = "forward", limit } = read;
    const step = direction === "backward" ? -1 : 1;
    const events: RecordedEvent[] = [];
    if (!isName(stream) || (step < 0 && read.from !== undefined && read.from < 0)) return events;
    let from = read.from;
    while (events.length < limit) {
      const size = Math.min(limit - events.length, MAX_PAGE);
      const page = await this.#streamPage(stream, { from, direction, limit: size });
      events.push(...page.records.map((record) => fromRecord(record, this.#names)));
      const last = events.at(-1);
      if (last === undefined || page.atEnd || (step < 0 && last.revision === 0)) break;
      from = last.revision + step;
    }
    return events;
  }

  async ping(): Promise<void> {
    const timeoutMs = Math.min(PING_TIMEOUT_MS, this.#timeoutMs);
    await this.#streamPage(LOG_STREAM, { from: 0, direction: "forward", limit: 1 }, timeoutMs);
  }

  async all({ after, limit, maxBytes, withoutBlobs }: AllRead): Promise<readonly RecordedEvent[]> {
    checkLimit(limit);
    const events: RecordedEvent[] = [];
    let from = after;
    while (events.length < limit) {
      const page = await this.page(from, limit - events.length, maxBytes);
      events.push(...(withoutBlobs === true ? page.events.filter((event) => !isBlob(event)) : page.events));
      from = page.events.at(-1)?.position ?? from;
      if (page.atEnd || maxBytes !== undefined) break;
    }
    return events;
  }

  /**
   * The next events of ours, at most `limit` and about `maxBytes`; and whether the log had no more. Others' events
   * are read as well: reading knows no filter.
   */
  async page(
    after: Position | "start",
    limit: number,
    maxBytes = MAX_PAGE_BYTES,
  ): Promise<{ events: RecordedEvent[]; atEnd: boolean }> {
    const events: RecordedEvent[] = [];
    let bytes = 0;
    let from = after === "start" ? undefined : clientPosition(this.#names, after);
    for (let size = Math.min(Math.max(limit + 1, FIRST_PAGE), MAX_PAGE); ; ) {
      const page = await this.#allPage(from ?? START, FORWARDS, size);
      for (const record of page.records) {
        // Reading begins with the event that stands at the position; it has been read before.
        if ((from !== undefined && commitOf(record) <= from.commit) || !this.#isOurs(record)) continue;
        if (events.length >= limit || bytes >= maxBytes) return { events, atEnd: false };
        const event = fromRecord(record, this.#names);
        events.push(event);
        bytes += sizeOf(event);
      }
      if (page.atEnd) return { events, atEnd: true };
      from = page.records.at(-1)?.position;
      size = Math.min(size * PAGE_GROWTH, MAX_PAGE);
    }
  }

  /**
   * Searched for from the log's end, for system events and other systems' stand between; what was searched once is not
   * searched again.
   */
  async tail(): Promise<Position> {
    const known = this.#tail;
    let searched: bigint | undefined;
    let from: typeof END | ClientPosition = END;
    for (let size = FIRST_PAGE; ; size = Math.min(size * PAGE_GROWTH, MAX_PAGE)) {
      const { records }: Page = await this.#allPage(from, BACKWARDS, size);
      const newest: ClientRecord | undefined = records[0];
      searched ??= newest === undefined ? 0n : commitOf(newest);
      // A log that ends earlier than it did was put back from a backup: nothing is known of it.
      const floor = known !== undefined && known.searched <= searched ? known : undefined;
      const ours = records.find((record) => this.#isOurs(record));
      const oldest = records.at(-1);
      let own = ours === undefined ? undefined : commitOf(ours);
      if (floor !== undefined && (oldest === undefined || commitOf(oldest) <= floor.searched)) own ??= floor.own;
      if (own !== undefined) {
        if (this.#tail === known || (this.#tail?.searched ?? 0n) < searched) this.#tail = { own, searched };
        return positionOf(this.#names.logId, own);
      }
      if (oldest?.position === undefined) throw new StoreUnavailable("the log has no event of ours");
      from = oldest.position;
    }
  }

  #isOurs(record: ClientRecord): boolean {
    return record.streamId.startsWith(this.#names.prefix);
  }

  async #streamPage(
    stream: string,
    { from, direction, limit }: { from: number | undefined; direction: "forward" | "backward"; limit: number },
    timeoutMs = this.#timeoutMs,
  ): Promise<Page> {
    const backward = direction === "backward";
    const edge = backward ? END : START;
    const options: ReadStreamOptions = {
      direction: backward ? BACKWARDS : FORWARDS,
      fromRevision: from === undefined ? edge : BigInt(Math.max(0, from)),
      maxCount: limit,
      requiresLeader: true,
    };
    try {
      return await this.#pageAtLeader(limit, timeoutMs, (client) =>
        client.readStream(this.#names.prefix + stream, options),
      );
    } catch (error) {
      if (typeOf(error) === ErrorType.STREAM_NOT_FOUND) return { records: [], atEnd: true };
      throw unavailable(error);
    }
  }

  async #allPage(
    fromPosition: typeof START | typeof END | ClientPosition,
    direction: typeof FORWARDS | typeof BACKWARDS,
    maxCount: number,
  ): Promise<Page> {
    const options = { fromPosition, direction, maxCount, requiresLeader: true };
    try {
      return await this.#pageAtLeader(maxCount, this.#timeoutMs, (client) => client.readAll(options));
    } catch (error) {
      throw unavailable(error);
    }
  }

  /** A node that does not lead may lag, and says so: once more, at the one that leads. */
  async #pageAtLeader(size: number, timeoutMs: number, open: (client: EventStoreDBClient) => Reading): Promise<Page> {
    const { client } = this.#connection;
    try {
      return await this.#readPage(size, timeoutMs, open(client));
    } catch (error) {
      this.#connection.failed(client, error);
      if (!isNotLeader(error)) throw error;
      await sleep(RETRY_MS);
      return this.#readPage(size, timeoutMs, open(client));
    }
  }

  async #readPage(size: number, timeoutMs: number, reading: Reading): Promise<Page> {
    const records: ClientRecord[] = [];
    let bytes = 0;
    reading.on("error", () => undefined); // a reading that is cut fails later, and an error without a listener ends the process
    // A server that has just started may take a read and never answer it.
    const timer = setTimeout(() => {
      void reading.cancel().catch(() => undefined);
      reading.destroy(new StoreUnavailable(`no answer to a read within ${timeoutMs} ms`)); // to cancel ends it without an error
    }, timeoutMs);
    try {
      for await (const { event } of reading as AsyncIterable<{ readonly event?: ClientRecord }>) {
        timer.refresh();
        if (event === undefined) continue;
        records.push(event);
        bytes += event.data instanceof Uint8Array ? event.data.byteLength : 0;
        if (bytes < MAX_PAGE_BYTES) continue;
        await reading.cancel();
        break;
      }
    } finally {
      clearTimeout(timer);
    }
    if (this.#closed) throw new StoreUnavailable("the log is closed");
    return { records, atEnd: records.length < size && bytes < MAX_PAGE_BYTES };
  }
}

const unavailable = (error: unknown): StoreUnavailable =>
  error instanceof StoreUnavailable ? error : new StoreUnavailable(messageOf(error), { cause: error });
