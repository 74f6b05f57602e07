// Sealed fields: what only the holder of a data key can read. AES-256-GCM, one blob for all fields of one key.
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomFillSync } from "node:crypto";
import { z } from "zod";
import type { ClientId, KeyRef, Subject } from "../contract/ids.ts";
import { isObject, type JsonObject, type JsonValue } from "../contract/json.ts";
import type { Seals } from "../domain/event.ts";

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
  /** The plaintext of what this process sealed last; cleared when a key is destroyed. */
  readonly plaintextCache: PlaintextCache;
}

/** An event's data as its schema gives it, and its metadata. Shared by all readers: nobody may change it. */
export type Plaintext = { readonly data: unknown; readonly meta: unknown };

/** Plaintexts by the array that holds an event's sealed data: this process's subscriptions are handed the very same array. */
class PlaintextGeneration {
  readonly #entries = new WeakMap<Uint8Array, Plaintext | { readonly open: () => Plaintext }>();

  /** `open` is called when the event is first read. */
  add(sealed: Uint8Array, open: () => Plaintext): void {
    this.#entries.set(sealed, { open });
  }

  /** Throws what `open` throws. */
  find(sealed: Uint8Array): Plaintext | undefined {
    const entry = this.#entries.get(sealed);
    if (entry === undefined || !("open" in entry)) return entry;
    const plaintext = entry.open();
    this.#entries.set(sealed, plaintext);
    return plaintext;
  }
}

/** The longest time that a plaintext is cached: a process that destroys a key cannot reach the memory of the others. */
export const PLAINTEXT_CACHE_MS = 5_000;

/**
 * The plaintext of events that this process sealed a moment ago, so that who follows the log need not decipher them again.
 * An entry lives as long as the array of bytes that it belongs to. The keyring clears the cache when it destroys a key.
 */
export class PlaintextCache {
  #generation = new PlaintextGeneration();
  #since = performance.now();

  /**
   * The entries of now. Take it before asking for the keys that seal: what is added to it after a key was destroyed
   * meanwhile is then found by nobody.
   */
  current(): PlaintextGeneration {
    if (performance.now() - this.#since > PLAINTEXT_CACHE_MS) this.clear();
    return this.#generation;
  }

  clear(): void {
    this.#generation = new PlaintextGeneration();
    this.#since = performance.now();
  }
}

// Handing over raw bytes makes such an object each time, which costs several times what the cipher or the HMAC does.
const keyObjects = new WeakMap<Uint8Array, KeyObject>();

/** The key as the crypto library takes it. The same object for the same array, whose bytes must not change. */
export function keyObjectOf(key: Uint8Array): KeyObject {
  const known = keyObjects.get(key);
  if (known !== undefined) return known;
  const made = createSecretKey(key);
  keyObjects.set(key, made);
  return made;
}

const BlobSchema = z.object({ key: z.string(), iv: z.string(), ct: z.string(), tag: z.string() });
type Blob = z.infer<typeof BlobSchema>;
const BlobsSchema = z.array(BlobSchema);
/** The member of stored data that holds the blobs, and of the mark that replaces a sealed value. */
export const SEALED = "$sealed";

type Taken = { readonly open: JsonObject; readonly sealed: ReadonlyMap<KeyRef, JsonValue[]> };

/** A step of the paths to sealed fields. A sealed field has the path to its key's reference, others have fields below. */
type Step = { readonly below: Steps; readonly ref?: Reference };
type Steps = Map<string, Step>;
/** `path` leads on from the field's ancestor at a depth (the data itself is at 0); `name` is the whole path as declared. */
type Reference = { readonly depth: number; readonly path: readonly string[]; readonly name: string };

const known = new WeakMap<Seals, Steps>();

/** The paths as a tree, made once for each event type. */
function stepsOf(seals: Seals): Steps {
  const before = known.get(seals);
  if (before !== undefined) return before;
  const root: Steps = new Map();
  for (const [path, name] of Object.entries(seals)) {
    const [own, refPath] = [path.split("."), name.split(".")];
    let depth = 0;
    while (depth < own.length - 1 && own[depth] === refPath[depth]) depth += 1;
    const ref = { depth, path: refPath.slice(depth), name };
    let steps = root;
    for (const [index, step] of own.entries()) {
      const next: Step = steps.get(step) ?? { below: new Map(), ...(index === own.length - 1 ? { ref } : {}) };
      steps.set(step, next);
      steps = next.below;
    }
  }
  known.set(seals, root);
  return root;
}

/** Splits an event's data: the open part, with a mark where a sealed value was, and the values by key reference. */
export function takeSealed(data: unknown, seals: Seals): Taken {
  const sealed = new Map<KeyRef, JsonValue[]>();
  const order = new Map<KeyRef, number>();
  const take: Replace = (field, { depth, path, name }, above) => {
    if (!isObject(field) || !("open" in field)) return field;
    const found = at(above[depth] ?? null, path);
    if (typeof found !== "string") throw new Error(`no key reference at ${name}`);
    const ref = found as KeyRef;
    const values = sealed.get(ref) ?? [];
    if (values.length === 0) order.set(ref, sealed.size);
    sealed.set(ref, values);
    values.push(field.open ?? null);
    return { [SEALED]: [order.get(ref) ?? 0, values.length - 1] };
  };
  const open = rewrite(data as JsonObject, stepsOf(seals), [], take);
  return { open: open as JsonObject, sealed };
}

/** Replaces the marks where fields are declared sealed, and nowhere else: a mark in a user's JSON is just JSON. */
function rewriteMarks(data: JsonObject, seals: Seals, replace: (mark: readonly JsonValue[]) => JsonValue): JsonObject {
  const put: Replace = (field) => {
    const mark = isObject(field) ? field[SEALED] : undefined;
    return Array.isArray(mark) ? replace(mark) : field;
  };
  return rewrite(data, stepsOf(seals), [], put) as JsonObject;
}

type Replace = (field: JsonValue, ref: Reference, above: readonly JsonValue[]) => JsonValue;

/** A copy of `node` with the sealed fields replaced; copies only along their paths. `above` are its ancestors, topmost first. */
function rewrite(node: JsonValue, steps: Steps, above: readonly JsonValue[], replace: Replace): JsonValue {
  const path = [...above, node];
  const each = steps.get("*");
  if (each !== undefined) return Array.isArray(node) ? node.map((child) => below(child, each, path, replace)) : node;
  if (!isObject(node)) return node;
  const copy = { ...node };
  for (const [name, step] of steps) {
    const child = copy[name];
    if (child !== undefined && child !== null) copy[name] = below(child, step, path, replace);
  }
  return copy;
}

const below = (child: JsonValue, step: Step, path: readonly JsonValue[], replace: Replace): JsonValue =>
  step.ref === undefined ? rewrite(child, step.below, path, replace) : replace(child, step.ref, path);

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
/** Random bytes for the next blobs: generating twelve takes as long as generating thousands. */
const ivs = Buffer.alloc(512 * IV_BYTES);
let nextIv = ivs.length;

/** Each is used once. */
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
  const cipher = createCipheriv("aes-256-gcm", keyObjectOf(key.key), iv)
    // fence: sealed-event-id
    .setAAD(Buffer.from(eventId));
  const ct = cipher.update(text, "utf8");
  cipher.final(); // a stream cipher keeps nothing back
  const tag = cipher.getAuthTag();
  return { key: key.id, iv: iv.toString("base64"), ct: ct.toString("base64"), tag: tag.toString("base64") };
}

/** The blobs of stored data. */
export function blobsOf(data: JsonObject): readonly Blob[] {
  const blobs = data[SEALED];
  return blobs === undefined ? [] : BlobsSchema.parse(blobs);
}

function openBlob(blob: Blob, key: DataKey, eventId: string): JsonValue[] {
  // The length is named because a shorter tag would pass otherwise, and is easier to forge.
  const decipher = createDecipheriv("aes-256-gcm", keyObjectOf(key.key), Buffer.from(blob.iv, "base64"), {
    // fence: seal-tag-length
    authTagLength: 16,
  })
    // fence: opened-event-id
    .setAAD(Buffer.from(eventId))
    .setAuthTag(Buffer.from(blob.tag, "base64"));
  const text = decipher.update(Buffer.from(blob.ct, "base64"));
  decipher.final(); // throws for what was not sealed like this
  const values: unknown = JSON.parse(text.toString());
  if (!Array.isArray(values)) throw new Error("a blob holds no list of values");
  return values as JsonValue[];
}

/** The data with each sealed value back in its place as `{open}`, or `{erased: true}` when its key is gone. */
export function openBlobs(
  data: JsonObject,
  blobs: readonly Blob[],
  seals: Seals,
  keys: ReadonlyMap<string, DataKey>,
  eventId: string,
): JsonObject {
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
