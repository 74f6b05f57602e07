// How event types are declared: schema, version, upcasters, and which fields are sealed with whose key.
import { z } from "zod";
import type { JsonObject } from "../contract/json.ts";

/** A field that only the holder of a data key can read. `erased` when that key is gone. */
export type Sealed<T> = { readonly open: T } | { readonly erased: true };

/** The schema of a sealed field. */
export const sealed = <T extends z.ZodType>(inner: T) =>
  z.union([z.object({ open: inner }), z.object({ erased: z.literal(true) })]);

/** Marks a value for sealing. */
export const seal = <T>(value: T): Sealed<T> => ({ open: value });

export const sealOrNull = <T>(value: T | null): Sealed<T> | null => (value === null ? null : seal(value));

/** The value of a sealed field; null when it is absent or erased. */
export const reveal = <T>(field: Sealed<T> | null | undefined): T | null =>
  field !== null && field !== undefined && "open" in field ? field.open : null;

/**
 * A field's path to the path of the key reference that it is sealed for, both dotted, `*` for every element of an
 * array (the same element on both sides): `{"recipients.*.address": "recipients.*.subject"}`.
 */
export type Seals = Readonly<Record<string, string>>;

export type EventDefinition<D extends z.ZodType = z.ZodType> = {
  /** The version that is written now. */
  readonly v: number;
  readonly data: D;
  readonly seals: Seals;
  /** From version n to n + 1, on opened data: `upcasts[n]`. */
  readonly upcasts: Readonly<Record<number, (data: JsonObject) => JsonObject>>;
};

export type EventCatalogue = Readonly<Record<string, EventDefinition>>;

/** Declares an event type. A storage format: change it only by a new version with an upcaster from the last. */
export const event = <D extends z.ZodType>(definition: {
  data: D;
  v?: number;
  seals?: Seals;
  upcasts?: EventDefinition["upcasts"];
}): EventDefinition<D> => ({
  v: definition.v ?? 1,
  data: definition.data,
  seals: definition.seals ?? {},
  upcasts: definition.upcasts ?? {},
});

/** Brings data of an older version to the one that is written now, and checks it. Throws an Error that says why not. */
export function upcast(definition: EventDefinition, from: number, data: JsonObject): unknown {
  if (from > definition.v) throw new Error(`is of version ${from}, newer than this code`);
  let current = data;
  for (let version = from; version < definition.v; version += 1) {
    const step = definition.upcasts[version];
    if (step === undefined) throw new Error(`has no upcaster from version ${version}`);
    current = step(current);
  }
  return definition.data.parse(current);
}

/** The union of a catalogue's events as `{type, data}`. */
export type EventsOf<C extends EventCatalogue> = {
  [T in keyof C & string]: { readonly type: T; readonly data: z.infer<C[T]["data"]> };
}[keyof C & string];

/** Any event, where its type does not matter. */
export type AnyEvent = { readonly type: string; readonly data: unknown };
