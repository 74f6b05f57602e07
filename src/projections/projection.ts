// What a read model is: columns, and pure handlers that say which rows an event touches and what becomes of them.

import type { DeliveryId, NotificationId, RedriveId, RoomId, ScheduledMessageId, Subject } from "../contract/ids.ts";
import type { JsonValue } from "../contract/json.ts";
import type { DomainEvent } from "../domain/catalogue.ts";
import type { StoredEvent } from "../event-store/envelope.ts";

/** A row as it is kept, by column name. Json columns hold JSON, all others scalars; what is absent is null. */
export type Row = Readonly<Record<string, JsonValue>>;
export type Key = readonly (string | number)[];

/**
 * What an event does to a row of its projection's table. `fold` is pure, it never sees another row, and it gives the
 * complete row, undefined, which leaves things as they are, or null, after which there is none. Columns of the key need not
 * be repeated; a new row's `client` is the event's. `fresh`: the fold does not look at the row, so that it need not be loaded.
 */
export type RowChange<R = Row, B = Row> =
  // A method, so that a change of a typed row is also a change of any row.
  | {
      readonly kind: "upsert";
      readonly key: Key;
      readonly fresh: boolean;
      fold(row: R | undefined): B | null | undefined;
    }
  | { readonly kind: "remove"; readonly key: Key };

/** Makes or changes the row with this key. */
export const upsert = <R, B>(key: Key, fold: (row: R | undefined) => B | null | undefined): RowChange<R, B> => ({
  kind: "upsert",
  key,
  fresh: false,
  fold,
});
/** Changes the row with this key if there is one. */
export const change = <R, B>(key: Key, fold: (row: R) => B): RowChange<R, B> =>
  upsert<R, B>(key, (row) => (row === undefined ? undefined : fold(row)));
/** Puts a row, whatever was there; for the first event that a row can have. */
export const put = <R, B>(key: Key, row: B): RowChange<R, B> => ({ kind: "upsert", key, fresh: true, fold: () => row });
export const remove = (key: Key): RowChange<never, never> => ({ kind: "remove", key });

export type ColumnType = "text" | "integer" | "bigint" | "boolean" | "json" | "integers" | "tsvector";
/** `T` is what its values are in a row. */
export type Column<T extends JsonValue = JsonValue> = {
  readonly type: ColumnType;
  readonly nullable: boolean;
  readonly value?: T;
};
type MakeColumn<D extends JsonValue> = {
  <T extends D = D>(): Column<T>;
  <T extends D = D>(options: { nullable: true }): Column<T | null>;
};
const column = <D extends JsonValue>(type: ColumnType): MakeColumn<D> => {
  return (options?: { nullable: true }) => ({ type, nullable: options?.nullable ?? false });
};
export const text = column<string>("text");
/** Up to 2^31: seqs, counts. */
export const integer = column<number>("integer");
/** Up to 2^53: instants in milliseconds. */
export const bigint = column<number>("bigint");
export const boolean = column<boolean>("boolean");
/** An array of integers. */
export const integers = column<number[]>("integers");
/** What full-text search finds a row by, as PostgreSQL writes it. */
export const tsvector = column<string>("tsvector");
/** Kept as the very text of JSON.stringify. */
export const json = column<JsonValue>("json");

type Columns = Readonly<Record<string, Column>>;
/** A row of a table with these columns. */
export type RowOf<C extends Columns> = { readonly [N in keyof C]: C[N] extends Column<infer T> ? T : never };

/** What a fold gives of a row: the fold's caller adds the key, and the client of the event that made the row. */
export type Body<R, K extends keyof R> = Omit<R, K | "client">;

/** What is known of an event without opening it. */
export type EventFacts = Omit<StoredEvent, "data" | "type"> & { readonly type: string };

type Handlers<R, B> = {
  readonly [T in DomainEvent["type"]]?: (
    event: StoredEvent<Extract<DomainEvent, { type: T }>>,
  ) => readonly RowChange<R, B>[];
};

/** A row of another read model before and after a batch, where it changed; undefined: there was or is none. */
export type RowMove<R = Row, B = Row> = {
  readonly before: R | undefined;
  readonly after: R | undefined;
  /** The row that goes with it; undefined when there is none. */
  readonly beside: B | undefined;
};

/**
 * How a read model follows from the rows of another one, in the batch that changes these: sums, which no event tells by
 * itself. What `changes` does to a row is an addition of what came and a subtraction of what was, so that it does not
 * matter how the log was cut into batches.
 */
export type Derivation<R = Row, B = Row> = {
  readonly from: Projection;
  /** A third read model, a row of which goes with each: for facts that are there before, and never change. */
  readonly beside?: {
    readonly projection: Projection;
    /** Null: there is none. */
    keyOf(row: R): Key | null;
  };
  /** At most one change of each row; what holds a client is in the key. Pure. */
  changes(moves: readonly RowMove<R, B>[]): readonly RowChange[];
};

type Definition<C extends Columns, K extends keyof C & string> = {
  readonly name: string;
  /** Raised with every change of columns or handlers: a new version builds up beside the old one. */
  readonly version: number;
  /** The columns of the primary key. */
  readonly key: readonly K[];
  /** One of them is `client`: rows without a client would be seen by nobody. */
  readonly columns: C & { readonly client: Column };
  /** Index definitions after `on <table>`: `(client, room_id)`, or with a condition. */
  readonly indexes: readonly string[];
  /** Statements that make or replace the SQL functions by which it is queried; the table need not exist yet. */
  readonly functions?: readonly string[];
  /** Columns that hold a person's data, blanked when the person is erased. */
  readonly personal: readonly (keyof C & string)[];
  /** What every event of a client does, whatever its type: it is not opened for this. */
  readonly each?: (event: EventFacts) => readonly RowChange<RowOf<C>, Body<RowOf<C>, K>>[];
  /** What an event does whose type `on` does not name. Every event of a known type is opened for this. */
  readonly other?: (event: StoredEvent) => readonly RowChange<RowOf<C>, Body<RowOf<C>, K>>[];
  readonly on: Handlers<RowOf<C>, Body<RowOf<C>, K>>;
  /** Its rows follow from those of another read model; `on` is empty then. */
  readonly derived?: Derivation;
};

/** One read model: one table, `read.<name>_v<version>`. */
export type Projection<C extends Columns = Columns> = {
  readonly name: string;
  readonly version: number;
  readonly key: readonly string[];
  readonly columns: C;
  readonly indexes: readonly string[];
  readonly functions?: readonly string[];
  readonly personal: readonly string[];
  readonly each?: (event: EventFacts) => readonly RowChange[];
  readonly other?: (event: StoredEvent) => readonly RowChange[];
  readonly on: Handlers<Row, Row>;
  readonly derived?: Derivation;
};

const NAME = /^[a-z][a-z0-9_]{0,30}$/;

/** Declares a read model. Throws for names that are no plain identifiers: they stand in SQL as they are. */
export function projection<const C extends Columns, const K extends keyof C & string>(
  definition: Definition<C, K>,
): Projection<C> {
  for (const name of [definition.name, ...Object.keys(definition.columns)]) {
    if (!NAME.test(name)) throw new Error(`not a name for a table or column: ${name}`);
  }
  for (const name of [...definition.key, ...definition.personal]) {
    if (!(name in definition.columns)) throw new Error(`${definition.name} has no column ${name}`);
  }
  return Object.freeze(definition) as unknown as Projection<C>;
}

/** The read models that a derived one looks at, by name. */
export const sourcesOf = ({ derived }: Projection): readonly string[] =>
  derived === undefined
    ? []
    : [derived.from.name, ...(derived.beside === undefined ? [] : [derived.beside.projection.name])];

/**
 * Those that are chosen with all that have to be built with them: rows of a derived one follow while those of its sources are
 * folded. The sources may be built without it.
 */
export function withSources(all: readonly Projection[], chosen: readonly Projection[]): readonly Projection[] {
  const names = new Set(chosen.flatMap((one) => /* fence: derived-sources */ [one.name, ...sourcesOf(one)]));
  return all.filter(({ name }) => names.has(name));
}

/** Those that are chosen, and those that follow from one of them: rows of another version may count otherwise. */
export function withDerived(all: readonly Projection[], chosen: readonly Projection[]): readonly Projection[] {
  const names = new Set(chosen.map(({ name }) => name));
  return all.filter((one) => [one.name, ...sourcesOf(one)].some((name) => names.has(name)));
}

/** The table of a projection, in the schema `read`. */
export const tableName = (projection: Projection): string => `${projection.name}_v${projection.version}`;

const idIn = (stream: string): string => stream.slice(stream.indexOf("-") + 1);

// Stream names are made by the domain from ids of these types (`roomStream` and its like).
/** Of `room-…` and `reads-…` streams. */
export const roomOf = (stream: string) => idIn(stream) as RoomId;
export const notificationOf = (stream: string) => idIn(stream) as NotificationId;
/** Of `inbox-…` streams. */
export const subjectOf = (stream: string) => idIn(stream) as Subject;
export const redriveOf = (stream: string) => idIn(stream) as RedriveId;
export const scheduledOf = (stream: string) => idIn(stream) as ScheduledMessageId;
export const deliveryOf = (stream: string) => idIn(stream) as DeliveryId;
