// Many appends to `log.append_in_order_v1`, in the order given, in one round trip: for moving whole logs.

import pg from "pg";
import { messageOf } from "../../platform/backoff.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { type Connection, connect, within } from "../../platform/postgres.ts";
import { checkAppend } from "../append-checks.ts";
import { type Append, type EventStore, OutcomeUnknown } from "../event-store.ts";
import { prepareForFlushing } from "./flush.ts";
import { encodeInOrder } from "./wire.ts";

/** The most bytes of one round trip; what is more goes in several. */
const MAX_BYTES = 8 * 1024 * 1024;

const WRITE = {
  name: "chatapi-append-in-order-v1",
  text: `SELECT base FROM log.append_in_order_v1($1::text[], $2::int[], $3::text[], $4::int[], $5::uuid[], $6::text[], $7::bytea[], $8::bytea[])`,
};

type Options = {
  readonly url: string;
  readonly appendTimeoutMs: number;
  /** For appends that do not all fit where they should: it finds out which, and what of them is there already. */
  readonly append: EventStore["append"];
};

/** Holds a connection of its own from the first use on: whoever answers commands does not wait for it. */
export class InOrder {
  readonly #options: Options;
  #connection: Promise<Connection> | undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  async append(appends: readonly Append[]): Promise<void> {
    for (const part of parts(appends)) {
      if (await this.#write(part)) continue;
      for (const { stream, expectedRevision, events } of part) {
        await this.#options.append(stream, expectedRevision, events);
      }
    }
  }

  async close(): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined);
    await connection?.close();
  }

  /** Writes all of them, or nothing and gives false. */
  async #write(appends: readonly Append[]): Promise<boolean> {
    const heads = headsOf(appends);
    if (heads === undefined) return false;
    const wire = appends.map(({ stream, expectedRevision, events }) => ({
      stream,
      expected: expectedRevision,
      events,
    }));
    try {
      this.#connection ??= this.#connect();
      const { client } = await this.#connection;
      const values = encodeInOrder(heads, wire);
      const sending = client.query<{ base: string | null }>({ ...WRITE, values });
      failpoint("in-order-sent/commit-known");
      const { rows } = await within(this.#options.appendTimeoutMs, sending, "no answer in time");
      return rows[0]?.base !== null;
    } catch (error) {
      // One that the server cannot take is found by sending each alone.
      if (error instanceof pg.DatabaseError && error.code?.startsWith("22") === true) return false;
      const connection = await this.#connection?.catch(() => undefined);
      this.#connection = undefined;
      await connection?.close();
      throw new OutcomeUnknown(`appends in order: ${messageOf(error)}`, { cause: error });
    }
  }

  async #connect(): Promise<Connection> {
    const { url, appendTimeoutMs } = this.#options;
    const connection = await connect(url, "chatapi log in order");
    await prepareForFlushing(connection.client, appendTimeoutMs);
    return connection;
  }
}

/** Where each stream has to stand; undefined when two appends of one stream do not follow each other. */
function headsOf(appends: readonly Append[]): ReadonlyMap<string, number> | undefined {
  const heads = new Map<string, number>();
  const ends = new Map<string, number>();
  for (const { stream, expectedRevision, events } of appends) {
    const end = ends.get(stream);
    if (end === undefined) heads.set(stream, expectedRevision);
    else if (end !== expectedRevision) return undefined;
    ends.set(stream, expectedRevision + events.length);
  }
  return heads;
}

function* parts(appends: readonly Append[]): Generator<readonly Append[]> {
  let part: Append[] = [];
  let bytes = 0;
  for (const append of appends) {
    const size = checkAppend(append.stream, append.expectedRevision, append.events);
    if (part.length > 0 && bytes + size > MAX_BYTES) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(append);
    bytes += size;
  }
  if (part.length > 0) yield part;
}
