// Read models being built beside the live ones: from the first event, in bounded memory, seen by nobody; and compared with them.
import type pg from "pg";
import type { EventStore, Position } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import { hasCode, transactionOn } from "../platform/postgres.ts";
import { type Checkpoint, isAfter } from "./consumer.ts";
import { decodeFor, type FoldEvent, type FoldedTable, foldBatch } from "./fold.ts";
import { type Projection, type Row, tableName } from "./projection.ts";
import { columnTypes } from "./read-as.ts";
import { copyRows, Parameters, writeParts } from "./row-store.ts";
import { createIndexes, createTable, existingTables, shadowName } from "./tables.ts";

/** Events that are in memory at once; as many more are read ahead meanwhile. */
const PAGE = 2_000;
const UNIQUE_VIOLATION = "23505";

type Parts = { readonly store: EventStore; readonly keyring: Keyring };
type DecodedPage = { readonly events: readonly FoldEvent[]; readonly last: Position | undefined };

/** Writes through one connection. How far it is, is what was committed on it: the caller says when that is. */
export class ShadowTables {
  readonly #parts: Parts;
  readonly #client: pg.PoolClient;
  readonly #projections: readonly Projection[];

  constructor(parts: Parts, client: pg.PoolClient, projections: readonly Projection[]) {
    this.#parts = parts;
    this.#client = client;
    this.#projections = projections;
  }

  async create(): Promise<void> {
    await this.drop();
    for (const projection of this.#projections) {
      for (const statement of createTable(projection, shadowName(projection))) await this.#client.query(statement);
    }
  }

  async drop(): Promise<void> {
    for (const projection of this.#projections) {
      await this.#client.query(`drop table if exists read.${shadowName(projection)}`);
    }
  }

  /** Once they hold most of their rows. */
  async index(): Promise<void> {
    for (const projection of this.#projections) {
      for (const statement of createIndexes(projection, shadowName(projection))) await this.#client.query(statement);
      await this.#client.query(`analyze read.${shadowName(projection)}`);
    }
  }

  /** Folds what lies after `from`, up to `to` and not beyond, each page in a transaction of its own. Gives how many. */
  async fold(from: Checkpoint, to: Checkpoint, onPage: (upTo: Position, events: number) => void): Promise<number> {
    return this.#pages(from, to, async (page, upTo) => {
      await this.#inTransaction(page.events);
      onPage(upTo, page.events.length);
    });
  }

  /** The same within a transaction that the caller has begun and ends. */
  async foldWithin(from: Checkpoint, to: Checkpoint): Promise<number> {
    return this.#pages(from, to, async ({ events }) => this.#write(await this.#folded(events), false));
  }

  async #pages(
    from: Checkpoint,
    to: Checkpoint,
    handle: (page: DecodedPage, upTo: Position) => Promise<void>,
  ): Promise<number> {
    let count = 0;
    let next = this.#read(from, to);
    for (;;) {
      const page = await next;
      if (page.last === undefined) return count;
      next = this.#read(page.last, to);
      next.catch(() => undefined); // awaited in the next round, unless this one throws
      await handle(page, page.last);
      count += page.events.length;
    }
  }

  async #read(after: Checkpoint, to: Checkpoint): Promise<DecodedPage> {
    const { store, keyring } = this.#parts;
    if (!isAfter(to, after)) return { events: [], last: undefined };
    const recorded = await store.readAll({ after, limit: PAGE, withoutBlobs: true });
    const within = recorded.filter((event) => !isAfter(event.position, to));
    return { events: await decodeFor(keyring, this.#projections, within), last: within.at(-1)?.position };
  }

  async #inTransaction(events: readonly FoldEvent[]): Promise<void> {
    const writes = await this.#folded(events);
    try {
      await this.#commit(writes, true);
    } catch (error) {
      // A row that began anew: COPY cannot replace the old one.
      if (!hasCode(error, UNIQUE_VIOLATION)) throw error;
      await this.#commit(writes, false);
    }
  }

  async #commit(writes: readonly FoldedTable[], copy: boolean): Promise<void> {
    await transactionOn(this.#client, async () => {
      await this.#client.query("set local synchronous_commit = off");
      await this.#write(writes, copy);
      failpoint("shadow-rows/page-commit");
    });
  }

  #folded(events: readonly FoldEvent[]): Promise<readonly FoldedTable[]> {
    return foldBatch(this.#client, this.#projections, events, { nameOf: shadowName, oneByOne: true });
  }

  async #write(writes: readonly FoldedTable[], copy: boolean): Promise<void> {
    for (const write of writes) {
      const isNew = (row: Row) => copy && write.fresh.has(row);
      const copied = write.put.filter(isNew);
      if (copied.length > 0) await copyRows(this.#client, write.projection, write.table, copied);
      const changed = { ...write, put: write.put.filter((row) => !isNew(row)) };
      for (const part of ["put", "removed"] as const) {
        const parameters = new Parameters();
        const one = { ...changed, put: [], removed: [], [part]: changed[part] };
        for (const text of writeParts(one, parameters, "true")) {
          await this.#client.query({ text, values: parameters.values });
        }
      }
    }
  }

  /** Compares with the live tables that are there, within the caller's transaction: its snapshot has both at one position. */
  async compare(): Promise<readonly Comparison[]> {
    const live = await existingTables(this.#client, this.#projections);
    const compared: Comparison[] = [];
    for (const one of this.#projections) {
      if (live.has(tableName(one))) compared.push(await compareTables(this.#client, one));
    }
    return compared;
  }
}

/** Differences that are told of one table; further ones are only counted. */
const MAX_DIFFERENCES = 100;

export type Difference = {
  readonly table: string;
  readonly key: Row;
  /** `missing`: only the rebuilt table has the row; `extra`: only the live one; `different`: in these columns. */
  readonly kind: "missing" | "extra" | "different";
  readonly columns: readonly string[];
};
/** Of one table: how many rows differ, and the first of them. */
export type Comparison = {
  readonly table: string;
  readonly rows: number;
  readonly differing: number;
  readonly differences: readonly Difference[];
};

async function compareTables(client: pg.ClientBase, projection: Projection): Promise<Comparison> {
  const [live, built] = [`read.${tableName(projection)}`, `read.${shadowName(projection)}`];
  const names = Object.keys(projection.columns);
  const text = (alias: string, name: string) =>
    projection.columns[name]?.type === "json" ? `${alias}.${name}::text` : `${alias}.${name}`;
  const differs = names.map((name) => `${text("l", name)} is distinct from ${text("b", name)}`);
  const same = projection.key.map((name) => `l.${name} = b.${name}`).join(" and ");
  const [first = names[0]] = projection.key;
  const found = await client.query<Row & { kind: Difference["kind"]; columns: string[]; differing: number }>({
    text: `
      select ${projection.key.map((name) => `coalesce(l.${name}, b.${name}) as ${name}`).join(", ")},
        case when l.${first} is null then 'missing' when b.${first} is null then 'extra' else 'different' end as kind,
        array_remove(array[${names.map((name, at) => `case when ${differs[at]} then '${name}' end`).join(", ")}], null)
          as columns,
        count(*) over () as differing
      from ${live} l full join ${built} b on ${same}
      where ${differs.join(" or ")}
      limit ${MAX_DIFFERENCES}`,
    types: columnTypes,
  });
  const counted = await client.query<{ count: number }>({
    text: `select count(*) as count from ${built}`,
    types: columnTypes,
  });
  const differences = found.rows.map(({ kind, columns, differing: _, ...key }) => ({
    table: tableName(projection),
    key: Object.fromEntries(projection.key.map((name) => [name, key[name] ?? null])),
    kind,
    columns: kind === "different" ? columns : [],
  }));
  return {
    table: tableName(projection),
    rows: counted.rows[0]?.count ?? 0,
    differing: found.rows[0]?.differing ?? 0,
    differences,
  };
}
