// Random data for every event type, made by walking its schema: a new type needs nothing here.
import type { z } from "zod";
import {
  ClientIdSchema,
  DeliveryIdSchema,
  EndpointIdSchema,
  EventIdSchema,
  KeyIdSchema,
  KeyRefSchema,
  MessageIdSchema,
  NotificationIdSchema,
  RoomIdSchema,
  SubjectSchema,
} from "../../src/contract/ids.ts";
import { JsonObjectSchema, JsonValueSchema } from "../../src/contract/json.ts";
import type { EventDefinition } from "../../src/domain/event.ts";
import { wildJson, wildObject, wildText } from "./arbitraries.ts";
import fc from "./seed.ts";

/** What stands in the open and what is sealed are drawn from different sources, so that a test can tell them apart. */
export type Sources = {
  readonly text: fc.Arbitrary<string>;
  readonly json: fc.Arbitrary<unknown>;
  readonly object: fc.Arbitrary<unknown>;
};
export const WILD: Sources = { text: wildText(), json: wildJson(), object: wildObject() };

const CUSTOM: ReadonlyMap<z.ZodType, readonly string[]> = new Map<z.ZodType, readonly string[]>([
  [ClientIdSchema, ["cli_a"]],
  [KeyIdSchema, ["key_a", "key_b"]],
  [RoomIdSchema, ["room_a"]],
  [MessageIdSchema, ["msg_a", "msg_b"]],
  [NotificationIdSchema, ["ntf_a"]],
  [DeliveryIdSchema, ["dlv_a", "dlv_b"]],
  [EndpointIdSchema, ["whk_a"]],
  [EventIdSchema, ["evt_a"]],
  [SubjectSchema, ["sub_a", "sub_b", "sub_c"]],
  [KeyRefSchema, ["sub_a", "cli_a", "ntf_a"]],
]);

/** A zod schema as far as it is looked into here. */
export type Node =
  | { kind: "object"; shape: Readonly<Record<string, z.ZodType>> }
  | { kind: "array"; element: z.ZodType }
  | { kind: "nullable"; inner: z.ZodType }
  | { kind: "optional"; inner: z.ZodType }
  | { kind: "sealed"; inner: z.ZodType }
  | { kind: "union"; options: readonly [z.ZodType, ...z.ZodType[]] }
  | { kind: "choice"; values: readonly unknown[] }
  | { kind: "id"; values: readonly string[] }
  | { kind: "text" | "number" | "boolean" | "json" | "jsonObject" };

type Def = {
  type: string;
  shape?: Record<string, z.ZodType>;
  element?: z.ZodType;
  innerType?: z.ZodType;
  options?: z.ZodType[];
  entries?: Record<string, unknown>;
  values?: unknown[];
};

/** Throws for a kind of schema that events have not used so far: add it here then. */
export function nodeOf(schema: z.ZodType): Node {
  if (schema === JsonValueSchema) return { kind: "json" };
  if (schema === JsonObjectSchema) return { kind: "jsonObject" };
  const ids = CUSTOM.get(schema);
  if (ids !== undefined) return { kind: "id", values: ids };
  const def = schema.def as Def;
  const [first, second] = def.options ?? [];
  if (def.type === "object" && def.shape !== undefined) return { kind: "object", shape: def.shape };
  if (def.type === "array" && def.element !== undefined) return { kind: "array", element: def.element };
  if (def.type === "nullable" && def.innerType !== undefined) return { kind: "nullable", inner: def.innerType };
  if (def.type === "optional" && def.innerType !== undefined) return { kind: "optional", inner: def.innerType };
  if (def.type === "union" && first !== undefined && second !== undefined && def.options?.length === 2) {
    const [open, erased] = [(first.def as Def).shape, (second.def as Def).shape];
    if (open?.open !== undefined && erased?.erased !== undefined) return { kind: "sealed", inner: open.open };
  }
  if (def.type === "union" && first !== undefined)
    return { kind: "union", options: [first, ...(def.options ?? []).slice(1)] };
  if (def.type === "enum" && def.entries !== undefined) return { kind: "choice", values: Object.values(def.entries) };
  if (def.type === "literal" && def.values !== undefined) return { kind: "choice", values: def.values };
  if (def.type === "string") return { kind: "text" };
  if (def.type === "number" || def.type === "boolean") return { kind: def.type };
  throw new Error(`an event uses a schema that is not known here: ${def.type}`);
}

/** Random data of a schema; what is sealed is drawn from `sealed`. */
export function dataOf(schema: z.ZodType, open: Sources = WILD, sealed: Sources = open): fc.Arbitrary<unknown> {
  const node = nodeOf(schema);
  switch (node.kind) {
    case "object": {
      const members = Object.entries(node.shape).map(([name, member]) => [name, dataOf(member, open, sealed)] as const);
      const requiredKeys = Object.keys(node.shape).filter((name) => !isOptional(node.shape[name]));
      return fc.record(Object.fromEntries(members), { requiredKeys });
    }
    case "array":
      return fc.array(dataOf(node.element, open, sealed), { maxLength: 3 });
    case "optional":
      return dataOf(node.inner, open, sealed);
    case "nullable":
      return fc.option(dataOf(node.inner, open, sealed), { freq: 4 });
    case "sealed":
      return dataOf(node.inner, sealed, sealed).map((value) => ({ open: value }));
    case "union":
      return fc.oneof(...node.options.map((option) => dataOf(option, open, sealed)));
    case "choice":
    case "id":
      return fc.constantFrom<unknown>(...node.values);
    case "text":
      return open.text;
    case "number":
      return fc.oneof(fc.nat(), fc.maxSafeInteger());
    case "boolean":
      return fc.boolean();
    case "json":
      return open.json;
    case "jsonObject":
      return open.object;
  }
}

/** The same data on every run, with nothing left out, for golden values. Each text says where it stands. */
export function exampleOf(schema: z.ZodType, path = ""): unknown {
  const node = nodeOf(schema);
  switch (node.kind) {
    case "object":
      return Object.fromEntries(
        Object.entries(node.shape)
          .filter(([, member]) => !isOptional(member))
          .map(([name, member]) => [name, exampleOf(member, path === "" ? name : `${path}.${name}`)]),
      );
    case "array":
      return [exampleOf(node.element, `${path}.0`), exampleOf(node.element, `${path}.1`)];
    case "optional":
    case "nullable":
      return exampleOf(node.inner, path);
    case "sealed":
      return { open: exampleOf(node.inner, path) };
    case "union":
      return exampleOf(node.options[0], path);
    case "choice":
      return node.values[0];
    case "id":
      return node.values[path.includes(".1") ? node.values.length - 1 : 0];
    case "text":
      return `${path} ☃`;
    case "number":
      return 1_767_225_600_000 + path.length;
    case "boolean":
      return true;
    case "json":
    case "jsonObject":
      return { b: [1, null, path], a: { [path]: 0.5 } };
  }
}

/** The paths of the fields that a schema says are sealed, in the notation of `seals`. */
export function sealedPaths(schema: z.ZodType, path = ""): readonly string[] {
  const node = nodeOf(schema);
  const below = (name: string) => (path === "" ? name : `${path}.${name}`);
  switch (node.kind) {
    case "object":
      return Object.entries(node.shape).flatMap(([name, member]) => sealedPaths(member, below(name)));
    case "array":
      return sealedPaths(node.element, below("*"));
    case "optional":
    case "nullable":
      return sealedPaths(node.inner, path);
    case "sealed":
      return [path];
    default:
      return [];
  }
}

/** The schema of the field at a path of `seals`; undefined when there is none. */
export function schemaAt(definition: EventDefinition, path: string): z.ZodType | undefined {
  return path.split(".").reduce<z.ZodType | undefined>((schema, step) => {
    const node = schema === undefined ? undefined : unwrapped(schema);
    if (node?.kind === "array" && step === "*") return node.element;
    return node?.kind === "object" ? node.shape[step] : undefined;
  }, definition.data);
}

function unwrapped(schema: z.ZodType): Node {
  const node = nodeOf(schema);
  return node.kind === "nullable" || node.kind === "optional" ? unwrapped(node.inner) : node;
}

const isOptional = (schema: z.ZodType | undefined): boolean =>
  schema !== undefined && nodeOf(schema).kind === "optional";
