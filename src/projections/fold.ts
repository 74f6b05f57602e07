// Folding events onto rows, in memory: pure, the same for the live path, rebuilds, and answers as of an event.
import { decode, decodeMetadata, type StoredEvent } from "../event-store/envelope.ts";
import type { RecordedEvent } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import type { EventFacts, Key, Projection, Row, RowChange } from "./projection.ts";

/** An event as folds take it: opened only if somebody looks inside. */
export type FoldEvent = { readonly facts: EventFacts; readonly opened: StoredEvent | null };

/** Decodes events; of those that no projection has a handler for, the metadata alone. Throws UnreadableEvent. */
export async function decodeFor(
  keyring: Keyring,
  projections: readonly Projection[],
  events: readonly RecordedEvent[],
): Promise<readonly FoldEvent[]> {
  const wanted = new Set(projections.flatMap((projection) => Object.keys(projection.on)));
  const opened = await decode(
    keyring,
    events.filter((event) => wanted.has(event.type)),
  );
  const byPosition = new Map(opened.map((event) => [event.position, event]));
  return events.map((event) => {
    const found = byPosition.get(event.position);
    if (found !== undefined) return { facts: found, opened: found };
    const { id, type, stream, revision, position } = event;
    return { facts: { id, type, stream, revision, position, meta: decodeMetadata(event) }, opened: null };
  });
}

/** What events do to one row, in order. */
type Touched = { readonly key: Key; readonly changes: RowChange[] };
/** The rows of one table that events touch, by their keys as text. */
export type TouchedRows = ReadonlyMap<string, Touched>;

export const keyText = (key: Key): string => JSON.stringify(key);

/** What events do to the rows of a projection. Calls each handler once. */
export function touchedRows(projection: Projection, events: readonly FoldEvent[]): TouchedRows {
  const rows = new Map<string, Touched>();
  for (const { facts, opened } of events) {
    for (const change of changesOf(projection, facts, opened)) {
      const name = keyText(change.key);
      const row = rows.get(name);
      if (row === undefined) rows.set(name, { key: change.key, changes: [change] });
      else row.changes.push(change);
    }
  }
  return rows;
}

function changesOf(projection: Projection, facts: EventFacts, opened: StoredEvent | null): readonly RowChange[] {
  const always = projection.each?.(facts) ?? [];
  if (opened === null || !Object.hasOwn(projection.on, opened.type)) return always;
  // The handler under an event's type takes that event: `Handlers` says so, but not of a union.
  const handler = projection.on[opened.type] as ((event: StoredEvent) => readonly RowChange[]) | undefined;
  return [...always, ...(handler?.(opened) ?? [])];
}

/** Whether the row must be known to apply the changes. */
export const needsRow = ({ changes: [first] }: Touched): boolean => first?.kind === "upsert" && !first.fresh;

/** The row after its changes; undefined when there is none; `before` itself when nothing changed. */
export function foldRow(projection: Projection, { key, changes }: Touched, before: Row | undefined): Row | undefined {
  let row = before;
  for (const change of changes) {
    if (change.kind === "remove") {
      row = undefined;
      continue;
    }
    const body = change.fold(row);
    if (body !== undefined) row = complete(projection, key, body);
  }
  return row;
}

/** A row with all its columns, in their order. Throws when a column that may not be null has no value. */
function complete(projection: Projection, key: Key, body: Row): Row {
  const row: Record<string, Row[string]> = {};
  for (const name in projection.columns) {
    const place = projection.key.indexOf(name);
    const value = (place < 0 ? body[name] : key[place]) ?? null;
    if (value === null && projection.columns[name]?.nullable !== true) {
      throw new Error(`${projection.name} ${keyText(key)}: ${name} has no value`);
    }
    row[name] = value;
  }
  return row;
}

/** The rows that a projection has after these events, from nothing, in the order in which they came to be. */
export function foldRows(projection: Projection, events: readonly StoredEvent[]): readonly Row[] {
  const touched = touchedRows(
    projection,
    events.map((event) => ({ facts: event, opened: event })),
  );
  return [...touched.values()].map((one) => foldRow(projection, one, undefined)).filter((row) => row !== undefined);
}
