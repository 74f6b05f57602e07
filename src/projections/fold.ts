// Folding events onto rows: pure and in memory, the same for the live path, rebuilds, and answers as of an event.
import type { ClientId } from "../contract/ids.ts";
import { catalogue } from "../domain/catalogue.ts";
import { decode, decodeMetadata, type StoredEvent } from "../event-store/envelope.ts";
import type { RecordedEvent } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { Slices } from "../platform/bounded.ts";
import {
  type Derivation,
  type EventFacts,
  type Key,
  type Projection,
  type Row,
  type RowChange,
  type RowMove,
  sourcesOf,
  tableName,
} from "./projection.ts";
import type { Queryable } from "./read-as.ts";
import { loadRows, type TableWrite } from "./row-store.ts";

/** Longest that a batch's handlers are called before others have their turn. */
const SLICE_MS = 10;

/** An event as folds take it: opened only if a handler needs its data. */
export type FoldEvent = { readonly facts: EventFacts; readonly opened: StoredEvent | null };

/** Decodes events; of those that no projection has a handler for, the metadata alone. Throws UnreadableEvent. */
export async function decodeFor(
  keyring: Keyring,
  projections: readonly Projection[],
  events: readonly RecordedEvent[],
): Promise<readonly FoldEvent[]> {
  const named = new Set(projections.flatMap((projection) => Object.keys(projection.on)));
  const all = projections.some((projection) => projection.other !== undefined);
  const wanted = ({ type }: RecordedEvent) => named.has(type) || (all && Object.hasOwn(catalogue, type));
  const opened = await decode(keyring, events.filter(wanted));
  const byPosition = new Map(opened.map((event) => [event.position, event]));
  return events.map((event) => {
    const found = byPosition.get(event.position);
    if (found !== undefined) return { facts: found, opened: found };
    const { id, type, stream, revision, position } = event;
    return { facts: { id, type, stream, revision, position, meta: decodeMetadata(event) }, opened: null };
  });
}

/** What events do to one row, in order; the client is that of the first, null where the key holds it. */
type Touched = { readonly key: Key; readonly client: ClientId | null; readonly changes: RowChange[] };
/** The rows of one table that events touch, by their keys as text. */
type TouchedRows = ReadonlyMap<string, Touched>;

const keyText = (key: Key): string => JSON.stringify(key);

/** What events do to the rows of a projection. Calls each handler once. */
function touchedRows(projection: Projection, events: readonly FoldEvent[]): TouchedRows {
  const rows = new Map<string, Touched>();
  for (const event of events) addTouched(rows, projection, event);
  return rows;
}

/** As `touchedRows`, but others have their turn meanwhile: what a handler makes of a long text takes tens of milliseconds. */
async function touchedRowsInSlices(projection: Projection, events: readonly FoldEvent[]): Promise<TouchedRows> {
  const rows = new Map<string, Touched>();
  const slices = new Slices(SLICE_MS);
  for (const event of events) {
    addTouched(rows, projection, event);
    if (slices.over) await slices.next();
  }
  return rows;
}

function addTouched(rows: Map<string, Touched>, projection: Projection, { facts, opened }: FoldEvent): void {
  const { client } = facts.meta;
  if (client === null) return; // its rows would be seen by nobody
  for (const change of changesOf(projection, facts, opened)) {
    const name = keyText(change.key);
    const row = rows.get(name);
    if (row === undefined) rows.set(name, { key: change.key, client, changes: [change] });
    else row.changes.push(change);
  }
}

function changesOf(projection: Projection, facts: EventFacts, opened: StoredEvent | null): readonly RowChange[] {
  const always = projection.each?.(facts) ?? [];
  if (opened === null) return always;
  // The handler under an event's type takes that event: `Handlers` says so, but not of a union.
  const handler = Object.hasOwn(projection.on, opened.type) ? projection.on[opened.type] : projection.other;
  const changes = (handler as ((event: StoredEvent) => readonly RowChange[]) | undefined)?.(opened);
  return changes === undefined ? always : [...always, ...changes];
}

/** Whether the row must be loaded to apply the changes, or to derive something from it: a `put` is a row's first change. */
const needsRow = ({ changes: [first] }: Touched, isSource: boolean): boolean =>
  first?.kind === "upsert" ? !first.fresh : /* fence: derived-before */ isSource;

/** The row after its changes; undefined when there is none; `before` itself when nothing changed. */
function foldRow(projection: Projection, { key, client, changes }: Touched, before: Row | undefined): Row | undefined {
  let row = before;
  for (const change of changes) {
    if (change.kind === "remove") {
      row = undefined;
      continue;
    }
    const body = change.fold(row);
    if (body === null) row = undefined;
    else if (body !== undefined) row = complete(projection, key, client, body);
  }
  return row;
}

/** A row with all its columns, in their order. Throws when a column that may not be null has no value. */
function complete(projection: Projection, key: Key, client: ClientId | null, body: Row): Row {
  const row: Record<string, Row[string]> = {};
  for (const name in projection.columns) {
    const index = projection.key.indexOf(name);
    const value = (index < 0 ? body[name] : key[index]) ?? (name === "client" ? client : null);
    if (value === null && projection.columns[name]?.nullable !== true) {
      throw new Error(`${projection.name} ${keyText(key)}: ${name} has no value`);
    }
    row[name] = value;
  }
  return row;
}

/** The row that an event touches, after it: of a projection in which that is a single one. */
export function foldOnto(projection: Projection, event: StoredEvent, before: Row | undefined): Row | undefined {
  const [touched] = touchedRows(projection, [{ facts: event, opened: event }]).values();
  return touched === undefined ? before : foldRow(projection, touched, before);
}

/** The rows that a projection has after these events, from nothing, in the order in which they came to be. */
export function foldRows(projection: Projection, events: readonly StoredEvent[]): readonly Row[] {
  const touched = touchedRows(
    projection,
    events.map((event) => ({ facts: event, opened: event })),
  );
  return [...touched.values()].map((one) => foldRow(projection, one, undefined)).filter((row) => row !== undefined);
}

/** What a batch writes to one table. `fresh` are among `put`: rows that no event before touched. */
export type FoldedTable = TableWrite & {
  readonly fresh: ReadonlySet<Row>;
  /** The rows that the batch touched, by their keys as text, before and after it. */
  readonly rows: ReadonlyMap<string, Pick<RowMove, "before" | "after">>;
};

type FoldOptions = {
  readonly nameOf?: (projection: Projection) => string;
  /** Tables one after the other: a connection, unlike a pool, takes one query at a time. */
  readonly oneByOne?: boolean;
};

/**
 * Folds a batch: loads the rows that it touches, by key and once, and returns what is to be written. Nothing is written.
 * The rows are the newest as long as nobody else writes, which the fence decides when the result is written.
 */
export async function foldBatch(
  db: Queryable,
  projections: readonly Projection[],
  events: readonly FoldEvent[],
  { nameOf = tableName, oneByOne = false }: FoldOptions = {},
): Promise<readonly FoldedTable[]> {
  const byName = new Map(projections.map((one) => [one.name, one]));
  const sources = new Set(projections.map(({ derived }) => derived?.from.name));
  const foldAll = async (all: readonly (() => Promise<FoldedTable>)[]): Promise<FoldedTable[]> => {
    if (!oneByOne) return Promise.all(all.map((work) => work()));
    const tables: FoldedTable[] = [];
    for (const work of all) tables.push(await work());
    return tables;
  };
  const works: (() => Promise<FoldedTable>)[] = [];
  for (const projection of projections) {
    const rows = await touchedRowsInSlices(projection, events);
    if (rows.size === 0) continue;
    works.push(() => foldTable(db, projection, nameOf(projection), rows, sources.has(projection.name)));
  }
  const folded = await foldAll(works);
  const derived = await foldAll(
    projections.flatMap((projection) => {
      const { derived: derivation } = projection;
      if (derivation === undefined) return [];
      const missing = sourcesOf(projection).find((name) => !byName.has(name));
      if (missing !== undefined)
        throw new Error(`${projection.name} follows from ${missing}, which is not folded with it`);
      const source = folded.find((one) => one.projection.name === derivation.from.name);
      if (source === undefined) return [];
      const besides = derivation.beside && byName.get(derivation.beside.projection.name);
      const loadBeside = async (keys: readonly Key[]) =>
        besides === undefined ? new Map() : rowsAfter(db, besides, nameOf(besides), keys, folded);
      return [() => deriveTable(db, projection, nameOf(projection), derivation, source, loadBeside)];
    }),
  );
  return [...folded, ...derived];
}

async function foldTable(
  db: Queryable,
  projection: Projection,
  table: string,
  touched: TouchedRows,
  isSource: boolean,
): Promise<FoldedTable> {
  const known = [...touched.values()].filter((one) => needsRow(one, isSource)).map(({ key }) => key);
  const loaded = await loadRows(db, projection, table, known);
  const before = new Map(loaded.map((row) => [keyText(keyOf(projection, row)), row]));
  const put: Row[] = [];
  const fresh = new Set<Row>();
  const removed: Key[] = [];
  const rows = new Map<string, Pick<RowMove, "before" | "after">>();
  for (const [name, one] of touched) {
    const old = before.get(name);
    const row = foldRow(projection, one, old);
    rows.set(name, { before: old, after: row });
    if (row === undefined) {
      if (old !== undefined || !needsRow(one, isSource)) removed.push(one.key);
    } else if (row !== old) {
      put.push(row);
      if (!needsRow(one, isSource)) fresh.add(row);
    }
  }
  return { projection, table, put, removed, fresh, rows };
}

/** What follows from rows that were folded. */
async function deriveTable(
  db: Queryable,
  projection: Projection,
  table: string,
  { beside, changes }: Derivation,
  source: FoldedTable,
  loadBeside: (keys: readonly Key[]) => Promise<RowsByKey>,
): Promise<FoldedTable> {
  const keyBeside = (row: Row | undefined): Key | null => (row && beside?.keyOf(row)) ?? null;
  const changed = [...source.rows.values()]
    .filter(({ before, after }) => before !== after)
    .map(({ before, after }) => ({ before, after, key: keyBeside(after ?? before) }));
  const found = await loadBeside(changed.map(({ key }) => key).filter((key) => key !== null));
  const moves = changed.map(({ before, after, key }) => ({
    ...{ before, after },
    beside: key === null ? undefined : found.get(keyText(key)),
  }));
  const touched = new Map<string, Touched>();
  for (const change of changes(moves)) {
    touched.set(keyText(change.key), { key: change.key, client: null, changes: [change] });
  }
  return foldTable(db, projection, table, touched, false);
}

type RowsByKey = ReadonlyMap<string, Row>;

/** Rows by their keys as text: as the batch leaves them, else as they are stored. */
async function rowsAfter(
  db: Queryable,
  projection: Projection,
  table: string,
  keys: readonly Key[],
  folded: readonly FoldedTable[],
): Promise<RowsByKey> {
  const inBatch = folded.find((one) => one.projection === projection)?.rows;
  const found = new Map<string, Row>();
  const missing = new Map<string, Key>();
  for (const key of keys) {
    const name = keyText(key);
    const row = inBatch?.get(name)?.after;
    if (row === undefined) missing.set(name, key);
    else found.set(name, row);
  }
  for (const row of await loadRows(db, projection, table, [...missing.values()])) {
    found.set(keyText(keyOf(projection, row)), row);
  }
  return found;
}

const keyOf = (projection: Projection, row: Row): Key =>
  projection.key.map((name) => {
    const value = row[name];
    if (typeof value === "string" || typeof value === "number") return value;
    throw new Error(`${projection.name}: a key's column ${name} holds neither text nor number`);
  });
