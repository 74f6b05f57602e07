// What a read model is: columns, and pure handlers that say which rows an event touches and what becomes of them.
import type { DomainEvent } from "../domain/catalogue.ts";
import type { JsonValue } from "../domain/event.ts";
import type { StoredEvent } from "../event-store/envelope.ts";

/** A row as handlers see it, by column name. Json columns hold JSON, all others scalars. */
export type Row = Readonly<Record<string, JsonValue>>;
export type Key = readonly (string | number)[];

/** What an event does to a row of its projection's table. `fold` is pure; it never sees another row. */
export type RowChange =
  | { readonly kind: "upsert"; readonly key: Key; readonly fold: (row: Row | undefined) => Row | undefined }
  | { readonly kind: "remove"; readonly key: Key };

/** Makes or changes the row with this key; a fold that gives undefined leaves it as it is. Columns of the key need not be repeated. */
export const upsert = (key: Key, fold: (row: Row | undefined) => Row | undefined): RowChange => ({
  kind: "upsert",
  key,
  fold,
});
/** Changes the row with this key if there is one. */
export const change = (key: Key, fold: (row: Row) => Row): RowChange =>
  upsert(key, (row) => (row === undefined ? undefined : fold(row)));
export const remove = (key: Key): RowChange => ({ kind: "remove", key });

export type ColumnType = "text" | "integer" | "bigint" | "boolean" | "json";
export type Column = { readonly type: ColumnType; readonly nullable: boolean };
const column =
  (type: ColumnType) =>
  (options: { nullable?: boolean } = {}): Column => ({
    type,
    nullable: options.nullable ?? false,
  });
export const text = column("text");
/** Up to 2^31: seqs, counts. */
export const integer = column("integer");
/** Up to 2^53: instants in milliseconds. */
export const bigint = column("bigint");
export const boolean = column("boolean");
export const json = column("json");

type Handlers = {
  readonly [T in DomainEvent["type"]]?: (event: StoredEvent<Extract<DomainEvent, { type: T }>>) => readonly RowChange[];
};

/** One read model: one table, `read.<name>_v<version>`. */
export type Projection = {
  readonly name: string;
  /** Raised with every change of columns or handlers: a new version builds up beside the old one. */
  readonly version: number;
  /** The columns of the primary key. */
  readonly key: readonly string[];
  readonly columns: Readonly<Record<string, Column>>;
  /** Index definitions after `on <table>`: `(client, room_id)`, or with a method or condition. */
  readonly indexes: readonly string[];
  /** Columns that hold a person's data, blanked when the person is erased. */
  readonly personal: readonly string[];
  readonly on: Handlers;
};

export const projection = (definition: Projection): Projection => definition;
