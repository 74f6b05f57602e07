// Sealed fields: what only the holder of a data key can read. AES-256-GCM, one blob for all fields of one key.
import { createCipheriv, createDecipheriv, randomFillSync } from "node:crypto";
import { z } from "zod";
import type { ClientId, KeyRef, Subject } from "../contract/ids.ts";
import { isObject, type JsonObject, type JsonValue, parseJson } from "../contract/json.ts";
import type { Seals } from "../domain/event.ts";
import { keyObjectOf } from "../platform/secrets.ts";
import type { EventMacs } from "./event-macs.ts";
import type { RecordedEvent } from "./event-store.ts";

/** A data key. Its id stands in the blobs; the key itself is kept wrapped, and destroying it erases what it sealed. */
export type DataKey = { readonly id: string; readonly key: Uint8Array };

/** Holds data keys. Keys that it hands out for sealing are durable. */
export interface Keyring {
  /** The current key of each reference; one that has none gets one. */
  keysFor(client: ClientId | null, refs: ReadonlySet<KeyRef>): Promise<ReadonlyMap<KeyRef, DataKey>>;
  /** The keys with these ids, as far as there are any. */
  keysById(ids: ReadonlySet<string>): Promise<ReadonlyMap<string, DataKey>>;
  /** Which of these ids belonged to keys that were destroyed. An id of neither kind is of a key that is missing. */
  destroyedAmong(ids: ReadonlySet<string>): Promise<ReadonlySet<string>>;
  /** The subject of a user id of this client. */
  subjectOfUser(client: ClientId, user: string): Promise<Subject>;
  /** The subject of an address (a mail address or a URL) of this client. */
  subjectOfAddress(client: ClientId, address: string): Promise<Subject>;
  /** Destroys a key for good, which erases what it sealed; false when there was none. */
  destroy(ref: KeyRef): Promise<boolean>;
  /** A secret of this client's that never leaves the server, for HMACs. */
  pepper(client: ClientId): Promise<Uint8Array>;
  /** Makes and checks the MACs of the log's events. */
  readonly macs: EventMacs;
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

/** What is bound to a sealed value besides its field: it opens nowhere else. */
type EventIdentity = Pick<RecordedEvent, "id" | "stream" | "revision" | "type">;

/** A sealed value is not what this program stored: it is in the open, was moved, or was changed. */
export class ForgedSeal extends Error {
  override readonly name = "ForgedSeal";
}

/** `box` is IV, ciphertext and tag. Blobs of events without a MAC were bound to the event's id alone. */
const BlobSchema = z.union([
  z.object({ key: z.string(), box: z.string() }),
  z.object({ key: z.string(), iv: z.string(), ct: z.string(), tag: z.string() }),
]);
type Blob = z.infer<typeof BlobSchema>;
const BlobsSchema = z.array(BlobSchema);
/** The member of stored data that holds the blobs, and of the mark that replaces a sealed value. */
export const SEALED = "$sealed";

/** The sealed values of one key, and their fields' paths. */
type SealedValues = { readonly paths: string[]; readonly values: JsonValue[] };
type Taken = { readonly open: JsonObject; readonly sealed: ReadonlyMap<KeyRef, SealedValues> };

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
  const sealed = new Map<KeyRef, SealedValues & { readonly order: number }>();
  const take: Replace = (field, { depth, path, name }, above, at) => {
    if (!isObject(field) || !("open" in field)) return field;
    const ref = valueAt(above[depth] ?? null, path);
    if (typeof ref !== "string") throw new Error(`no key reference at ${name}`);
    const taken = sealed.get(ref as KeyRef) ?? { order: sealed.size, paths: [], values: [] };
    sealed.set(ref as KeyRef, taken);
    taken.paths.push(at);
    taken.values.push(field.open ?? null);
    return { [SEALED]: [taken.order, taken.values.length - 1] };
  };
  const open = rewrite(data as JsonObject, stepsOf(seals), [], "", take);
  return { open: open as JsonObject, sealed };
}

/** Gives what replaces a sealed field; `at` is its own path, with the indexes of arrays. */
type Replace = (field: JsonValue, ref: Reference, above: readonly JsonValue[], at: string) => JsonValue;

/** A copy of `node` with the sealed fields replaced; copies only along their paths. `above` are its ancestors, topmost first. */
function rewrite(
  node: JsonValue,
  steps: Steps,
  above: readonly JsonValue[],
  prefix: string,
  replace: Replace,
): JsonValue {
  const path = [...above, node];
  const below = (child: JsonValue, step: Step, at: string) =>
    step.ref === undefined ? rewrite(child, step.below, path, `${at}.`, replace) : replace(child, step.ref, path, at);
  const each = steps.get("*");
  if (each !== undefined) {
    return Array.isArray(node) ? node.map((child, index) => below(child, each, `${prefix}${index}`)) : node;
  }
  if (!isObject(node)) return node;
  const copy = { ...node };
  for (const [name, step] of steps) {
    const child = copy[name];
    if (child !== undefined && child !== null) copy[name] = below(child, step, `${prefix}${name}`);
  }
  return copy;
}

const valueAt = (node: JsonValue, path: readonly string[]): JsonValue =>
  path.reduce<JsonValue>((value, step) => (isObject(value) ? (value[step] ?? null) : null), node);

/** The data as it is stored: with its blobs, each bound to its event, its place in the log and its fields. */
export function putBlobs(
  { open, sealed }: Taken,
  keys: ReadonlyMap<KeyRef, DataKey>,
  identity: EventIdentity,
): JsonObject {
  if (sealed.size === 0) return open;
  const blobs = [...sealed].map(([ref, { paths, values }]) => {
    const key = keys.get(ref);
    if (key === undefined) throw new Error(`the keyring gave no key for ${ref}`);
    return sealBlob(key, boundTo(identity, paths), JSON.stringify(values));
  });
  return { ...open, [SEALED]: blobs };
}

/** The additional authenticated data of a blob: a storage format. */
const boundTo = ({ id, stream, revision, type }: EventIdentity, paths: readonly string[]): Buffer =>
  // fence: sealed-place
  Buffer.from(JSON.stringify([2, id, stream, revision, type, paths]));

const IV_BYTES = 12;
const TAG_BYTES = 16;
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

function sealBlob(key: DataKey, bound: Buffer, text: string): SealedText {
  const iv = freshIv();
  const cipher = createCipheriv("aes-256-gcm", keyObjectOf(key.key), iv).setAAD(bound);
  const ct = cipher.update(text, "utf8");
  cipher.final(); // a stream cipher keeps nothing back
  return { key: key.id, box: Buffer.concat([iv, ct, cipher.getAuthTag()]).toString("base64") };
}

/** The blobs of stored data. */
export function blobsOf(data: JsonObject): readonly Blob[] {
  const blobs = data[SEALED];
  return blobs === undefined ? [] : BlobsSchema.parse(blobs);
}

/** The ids of the keys that seal something in an event; none when its data is not as this program stores it. */
export function blobKeysOf({ data }: Pick<RecordedEvent, "data">): readonly string[] {
  if (!Buffer.from(data.buffer, data.byteOffset, data.byteLength).includes(`"${SEALED}"`)) return [];
  try {
    return blobsOf(JSON.parse(Buffer.from(data).toString())).map(({ key }) => key);
  } catch {
    return [];
  }
}

function openBlob(blob: Blob, key: DataKey, identity: EventIdentity, paths: readonly string[]): JsonValue[] {
  const isOld = "ct" in blob;
  const box = Buffer.from(isOld ? "" : blob.box, "base64");
  const [iv, ct, tag] = isOld
    ? [blob.iv, blob.ct, blob.tag].map((text) => Buffer.from(text, "base64"))
    : [box.subarray(0, IV_BYTES), box.subarray(IV_BYTES, -TAG_BYTES), box.subarray(-TAG_BYTES)];
  if (iv === undefined || ct === undefined || tag === undefined) throw new ForgedSeal("a blob is cut short");
  try {
    // The length is named because a shorter tag would pass otherwise, and is easier to forge.
    const decipher = createDecipheriv("aes-256-gcm", keyObjectOf(key.key), iv, {
      // fence: seal-tag-length
      authTagLength: TAG_BYTES,
    })
      .setAAD(isOld ? Buffer.from(identity.id) : boundTo(identity, paths))
      .setAuthTag(tag);
    const text = decipher.update(ct);
    decipher.final(); // throws for what was not sealed like this
    const values = parseJson(text.toString());
    if (Array.isArray(values) && values.length >= paths.length) return values as JsonValue[];
  } catch (cause) {
    throw new ForgedSeal("a blob was not sealed for this event and these fields", { cause });
  }
  throw new ForgedSeal("a blob does not hold a value for each of its fields");
}

/** A text that is sealed outside of the log, until an event holds what became of it. */
export type SealedText = { readonly key: string; readonly box: string };
const TEXT = ["text"];

/** `slot`: where it is kept; it opens nowhere else. */
export const sealText = (key: DataKey, slot: EventIdentity, text: string): SealedText =>
  sealBlob(key, boundTo(slot, TEXT), JSON.stringify([text]));

/** Throws ForgedSeal. */
export function openText(sealed: SealedText, key: DataKey, slot: EventIdentity): string {
  const [text] = openBlob(sealed, key, slot, TEXT);
  if (typeof text !== "string") throw new ForgedSeal("a sealed text is none");
  return text;
}

type Mark = { readonly path: string; readonly field: { open?: JsonValue; erased?: true } };

/**
 * The data with each sealed value back in its place as `{open}`, or `{erased: true}` when its key is not among `keys`.
 * Marks stand where fields are declared sealed, and nowhere else: a mark in a user's JSON is just JSON. Throws ForgedSeal.
 */
export function openBlobs(
  data: JsonObject,
  blobs: readonly Blob[],
  seals: Seals,
  keys: ReadonlyMap<string, DataKey>,
  identity: EventIdentity,
): JsonObject {
  const { [SEALED]: _blobs, ...rest } = data;
  const marks = blobs.map((): Mark[] => []);
  const open = rewrite(rest, stepsOf(seals), [], "", (field, _ref, _above, path) => {
    if (isObject(field) && field.erased === true) return { erased: true }; // what was erased before it was written
    const mark = isObject(field) ? field[SEALED] : undefined;
    const [order, index] = Array.isArray(mark) ? mark.map(Number) : [];
    const ofBlob = marks[order ?? -1];
    // fence: sealed-in-the-open
    if (ofBlob === undefined || index === undefined) throw new ForgedSeal(`${path} is stored in the open`);
    const opened = {};
    ofBlob[index] = { path, field: opened };
    return opened;
  });
  blobs.forEach((blob, order) => {
    const ofBlob = marks[order] ?? [];
    const key = keys.get(blob.key);
    const paths = Array.from(ofBlob, (mark) => mark?.path ?? "");
    const values = key === undefined ? undefined : openBlob(blob, key, identity, paths);
    for (const [index, mark] of ofBlob.entries()) {
      if (mark === undefined) continue;
      if (values === undefined) mark.field.erased = true;
      else mark.field.open = values[index] ?? null;
    }
  });
  return open as JsonObject;
}
