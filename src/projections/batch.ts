// One batch of events: which rows it touches, what becomes of them.
import { type FoldEvent, foldRow, keyText, needsRow, type TouchedRows, touchedRows } from "./fold.ts";
import type { Key, Projection, Row } from "./projection.ts";
import { tableName } from "./projection.ts";
import type { Queryable } from "./read-as.ts";
import { loadRows, type TableWrite } from "./row-store.ts";

/** What a batch writes to one table. `fresh` are among `put`: rows that no event before touched. */
export type FoldedTable = TableWrite & { readonly fresh: ReadonlySet<Row> };

/**
 * Folds a batch: loads the rows that it touches, by key and once, and gives what is to be written. Nothing is written.
 * The rows are the newest as long as nobody else writes, which the fence decides when the result is.
 */
export async function foldBatch(
  db: Queryable,
  projections: readonly Projection[],
  events: readonly FoldEvent[],
  nameOf: (projection: Projection) => string = tableName,
): Promise<readonly FoldedTable[]> {
  const touched = projections
    .map((projection) => ({ projection, rows: touchedRows(projection, events) }))
    .filter(({ rows }) => rows.size > 0);
  return Promise.all(touched.map(({ projection, rows }) => foldTable(db, projection, nameOf(projection), rows)));
}

async function foldTable(db: Queryable, projection: Projection, table: string, touched: TouchedRows) {
  const known = [...touched.values()].filter(needsRow).map(({ key }) => key);
  const loaded = await loadRows(db, projection, table, known);
  const before = new Map(loaded.map((row) => [keyText(keyOf(projection, row)), row]));
  const put: Row[] = [];
  const fresh = new Set<Row>();
  const removed: Key[] = [];
  for (const [name, one] of touched) {
    const old = before.get(name);
    const row = foldRow(projection, one, old);
    if (row === undefined) {
      if (old !== undefined || !needsRow(one)) removed.push(one.key);
    } else if (row !== old) {
      put.push(row);
      if (!needsRow(one)) fresh.add(row);
    }
  }
  return { projection, table, put, removed, fresh };
}

const keyOf = (projection: Projection, row: Row): Key =>
  projection.key.map((name) => {
    const value = row[name];
    if (typeof value === "string" || typeof value === "number") return value;
    throw new Error(`${projection.name}: a key's column ${name} holds neither text nor number`);
  });
