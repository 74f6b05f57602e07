// Sealed fields: what only the holder of a data key can read. AES-256-GCM, one blob for all fields of one key.
import { createCipheriv, createDecipheriv, randomFillSync } from "node:crypto";
import { z } from "zod";
import type { JsonObject, JsonValue, Seals } from "../domain/event.ts";
import type { ClientId, KeyRef, Subject } from "../domain/ids.ts";
import { keyObjectOf } from "./key-object.ts";

/** A data key. Its id stands in the blobs; the key itself is kept wrapped, and destroying it erases what it sealed. */
export type DataKey = { readonly id: string; readonly key: Uint8Array };

/** Holds data keys. Keys that it hands out for sealing are durable. */
export interface Keyring {
  /** The current key of each reference; one that has none gets one. */
  keysFor(client: ClientId | null, refs: ReadonlySet<KeyRef>): Promise<ReadonlyMap<KeyRef, DataKey>>;
  /** The keys with these ids; those that were destroyed are missing. */
  keysById(ids: ReadonlySet<string>): Promise<ReadonlyMap<string, DataKey>>;
  /** The subject of a user id of this client. */
  subjectOfUser(client: ClientId, user: string): Promise<Subject>;
  /** The subject of an address (a mail address or a URL) of this client. */
  subjectOfAddress(client: ClientId, address: string): Promise<Subject>;
  /** A secret of this client's that never leaves the server, for HMACs. */
  pepper(client: ClientId): Promise<Uint8Array>;
}

const BlobSchema = z.object({ key: z.string(), iv: z.string(), ct: z.string(), tag: z.string() });
type Blob = z.infer<typeof BlobSchema>;
const BlobsSchema = z.array(BlobSchema);
/** The stored data's member that holds the blobs, and the mark that stands where a sealed value was. */
export const SEALED = "$sealed";

type Taken = { readonly open: JsonObject; readonly sealed: ReadonlyMap<KeyRef, JsonValue[]> };

type SealedPath = { readonly path: readonly string[]; readonly refPath: readonly string[]; readonly name: string };
const paths = new WeakMap<Seals, readonly SealedPath[]>();

/** The steps of the paths, taken apart once for each event type. `name` is the reference's path as it is declared. */
function pathsOf(seals: Seals): readonly SealedPath[] {
  const known = paths.get(seals);
  if (known !== undefined) return known;
  const split = Object.entries(seals).map(([path, name]) => ({
    path: path.split("."),
    refPath: name.split("."),
    name,
  }));
  paths.set(seals, split);
  return split;
}

/** Splits an event's data: the open part, with a mark where a sealed value was, and the values by key reference. */
export function takeSealed(data: unknown, seals: Seals): Taken {
  const sealed = new Map<KeyRef, JsonValue[]>();
  const order = new Map<KeyRef, number>();
  const take = (refPath: string) => (field: JsonValue, found: JsonValue) => {
    if (!isObject(field) || !("open" in field)) return field;
    if (typeof found !== "string") throw new Error(`no key reference at ${refPath}`);
    const ref = found as KeyRef;
    const values = sealed.get(ref) ?? [];
    if (values.length === 0) order.set(ref, sealed.size);
    sealed.set(ref, values);
    values.push(field.open ?? null);
    return { [SEALED]: [order.get(ref) ?? 0, values.length - 1] };
  };
  const open = pathsOf(seals).reduce<JsonValue>(
    (node, { path, refPath, name }) => rewrite(node, node, path, refPath, take(name)),
    data as JsonObject,
  );
  return { open: open as JsonObject, sealed };
}

/** Replaces the marks that stand where fields are declared sealed, and nowhere else: a mark in a user's JSON is just JSON. */
function rewriteMarks(data: JsonValue, seals: Seals, replace: (mark: readonly JsonValue[]) => JsonValue): JsonObject {
  return pathsOf(seals).reduce<JsonValue>(
    (node, { path, refPath }) =>
      rewrite(node, node, path, refPath, (field) => {
        const mark = isObject(field) ? field[SEALED] : undefined;
        return Array.isArray(mark) ? replace(mark) : field;
      }),
    data,
  ) as JsonObject;
}

/** A copy of `node` with the values at `path` replaced; copies only along the path. `refPath` leads to each one's key reference. */
function rewrite(
  node: JsonValue,
  refNode: JsonValue,
  path: readonly string[],
  refPath: readonly string[],
  replace: (value: JsonValue, ref: JsonValue) => JsonValue,
): JsonValue {
  const [step = "", ...rest] = path;
  if (step === "*") {
    if (!Array.isArray(node)) return node;
    return node.map((child) => rewrite(child, child, rest, refPath.slice(1), replace));
  }
  if (!isObject(node)) return node;
  const child = node[step];
  if (child === undefined || child === null) return node;
  if (rest.length === 0) return { ...node, [step]: replace(child, at(refNode, refPath)) };
  const shared = refPath[0] === step;
  const nextRef = shared && isObject(refNode) ? (refNode[step] ?? null) : refNode;
  return { ...node, [step]: rewrite(child, nextRef, rest, shared ? refPath.slice(1) : refPath, replace) };
}

const isObject = (value: JsonValue | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const at = (node: JsonValue, path: readonly string[]): JsonValue =>
  path.reduce<JsonValue>((value, step) => (isObject(value) ? (value[step] ?? null) : null), node);

/** The data as it is stored: with its blobs, each bound to the event id. */
export function putBlobs(
  open: JsonObject,
  sealed: ReadonlyMap<KeyRef, readonly JsonValue[]>,
  keys: ReadonlyMap<KeyRef, DataKey>,
  eventId: string,
): JsonObject {
  if (sealed.size === 0) return open;
  const blobs = [...sealed].map(([ref, values]) => {
    const key = keys.get(ref);
    if (key === undefined) throw new Error(`the keyring gave no key for ${ref}`);
    return sealBlob(key, eventId, JSON.stringify(values));
  });
  return { ...open, [SEALED]: blobs };
}

const IV_BYTES = 12;
/** Random bytes in hand: asking for twelve costs as much as asking for thousands. */
const ivs = Buffer.alloc(512 * IV_BYTES);
let nextIv = ivs.length;

/** Each is given out once. */
function freshIv(): Buffer {
  if (nextIv === ivs.length) {
    randomFillSync(ivs);
    nextIv = 0;
  }
  nextIv += IV_BYTES;
  return Buffer.from(ivs.subarray(nextIv - IV_BYTES, nextIv));
}

function sealBlob(key: DataKey, eventId: string, text: string): Blob {
  const iv = freshIv();
  const cipher = createCipheriv("aes-256-gcm", keyObjectOf(key.key), iv).setAAD(Buffer.from(eventId));
  const ct = cipher.update(text, "utf8", "base64") + cipher.final("base64");
  return { key: key.id, iv: iv.toString("base64"), ct, tag: cipher.getAuthTag().toString("base64") };
}

/** The blobs of stored data. */
export function blobsOf(data: JsonObject): readonly Blob[] {
  const blobs = data[SEALED];
  return blobs === undefined ? [] : BlobsSchema.parse(blobs);
}

function openBlob(blob: Blob, key: DataKey, eventId: string): JsonValue[] {
  // The length is named because a shorter tag would pass otherwise, and is easier to forge.
  const decipher = createDecipheriv("aes-256-gcm", keyObjectOf(key.key), Buffer.from(blob.iv, "base64"), {
    authTagLength: 16,
  })
    .setAAD(Buffer.from(eventId))
    .setAuthTag(Buffer.from(blob.tag, "base64"));
  const values: unknown = JSON.parse(decipher.update(blob.ct, "base64", "utf8") + decipher.final("utf8"));
  if (!Array.isArray(values)) throw new Error("a blob holds no list of values");
  return values as JsonValue[];
}

/** The data with each sealed value back in its place as `{open}`, or `{erased: true}` when its key is gone. */
export function openBlobs(
  data: JsonObject,
  seals: Seals,
  keys: ReadonlyMap<string, DataKey>,
  eventId: string,
): JsonObject {
  const blobs = blobsOf(data);
  if (blobs.length === 0) return data;
  const values = blobs.map((blob) => {
    const key = keys.get(blob.key);
    return key === undefined ? undefined : openBlob(blob, key, eventId);
  });
  const { [SEALED]: _blobs, ...rest } = data;
  return rewriteMarks(rest, seals, ([order, index]) => {
    const opened = values[Number(order)];
    return opened === undefined ? { erased: true } : { open: opened[Number(index)] ?? null };
  });
}
