// The keyring on PostgreSQL: data keys in the schema `keys`, wrapped by ENCRYPTION_KEYS, cached in the open.
import { randomBytes } from "node:crypto";
import { LRUCache } from "lru-cache";
import type pg from "pg";
import type { ClientId, KeyRef, Subject } from "../contract/ids.ts";
import { batchLoader, type Failed } from "../platform/batch-loader.ts";
import { failpoint } from "../platform/failpoint.ts";
import { deriveSecretTail } from "./derived-ids.ts";
import { exportKeys, type ImportedKeys, importKeys, type WrappedKey } from "./keyring-moving.ts";
import {
  createKeyTable,
  deleteKey,
  insertKeys,
  type KeyRow,
  oneOfEachKek,
  selectById,
  selectByOwner,
} from "./keyring-table.ts";
import { KEY_BYTES, readRing, type WrappingRing } from "./keyring-wrapping.ts";
import { type DataKey, type Keyring, PLAINTEXT_CACHE_MS, PlaintextCache } from "./sealing.ts";

/** Data keys held in the open in memory, by owner and again by id. */
const MAX_CACHED_KEYS = 100_000;
/** The most keys of one round trip. */
const MAX_LOOKUP = 5_000;
/** Of all clients: deriving one costs as much as the rest of the lookup. */
const MAX_CACHED_SUBJECTS = 50_000;
/** Another process that destroys a key cannot reach this one's memory: so long this one may still open what was erased. */
const ERASED_ELSEWHERE_MS = 60_000;
/** How exactly the cache keeps its time: it asks for it only so often. */
const KEY_CACHE_TICK_MS = 500;
/** How long. Until this has passed, this process may also seal with a key that nobody will find again. */
const KEY_CACHE_MS = ERASED_ELSEWHERE_MS - PLAINTEXT_CACHE_MS - KEY_CACHE_TICK_MS;
const ID_BYTES = 12;

/** Data keys on PostgreSQL. */
export interface PostgresKeyring extends Keyring {
  /** 32 random bytes that the server keeps for itself, made when first asked for; the same on every node. */
  serverSecret(name: string): Promise<Uint8Array>;
  /** Destroys a key for good, which erases what it sealed; false when there was none. A later use makes another key. */
  destroy(ref: KeyRef): Promise<boolean>;
  /**
   * All keys as they are kept, none in the open. Keys of events that were read before the first row is taken are among
   * them, since keys are durable before their events.
   */
  exportWrapped(): AsyncIterable<WrappedKey>;
  /**
   * Takes over exported keys, all or none, and wraps them with this ring's newest key. Throws WrongEncryptionKeys when
   * this ring lacks the key that wraps one, KeyConflict when an owner has another key here.
   */
  importWrapped(keys: AsyncIterable<WrappedKey> | Iterable<WrappedKey>): Promise<ImportedKeys>;
}

type KeyringOptions = {
  readonly pool: pg.Pool;
  /** The ring, newest first: 32 bytes in base64 each, or `<id>:` and that. */
  readonly encryptionKeys: readonly string[];
};

/**
 * Makes the schema when it is missing and checks the ring against one data key of each wrapping key in use. Throws
 * InvalidEncryptionKeys, or WrongEncryptionKeys when the ring does not open them.
 */
export async function openKeyring({ pool, encryptionKeys }: KeyringOptions): Promise<PostgresKeyring> {
  const ring = readRing(encryptionKeys);
  await createKeyTable(pool);
  for (const row of await oneOfEachKek(pool)) ring.unwrap(row, row);

  const caching = { max: MAX_CACHED_KEYS, ttl: KEY_CACHE_MS, ttlResolution: KEY_CACHE_TICK_MS };
  const byOwner = new LRUCache<string, DataKey>(caching);
  const byId = new LRUCache<string, DataKey>(caching);
  const plaintextCache = new PlaintextCache();
  // Grows with each destruction: a look-up that was under way meanwhile may have read the key before, and is not cached.
  let destructions = 0;

  /** Unwraps rows; those found are cached. */
  function open(rows: readonly KeyRow[], nameOf: (row: KeyRow) => string, before: number) {
    const found = new Map<string, DataKey | Failed>();
    for (const row of rows) {
      const key = unwrap(ring, row);
      found.set(nameOf(row), key);
      if ("error" in key || destructions !== before) continue;
      byOwner.set(row.owner, key);
      byId.set(row.id, key);
    }
    return found;
  }

  const findOrMake = batchLoader<string | null, DataKey>(async (clients) => {
    const before = destructions;
    const owners = [...clients.keys()];
    const rows = [...(await selectByOwner(pool, owners))];
    const known = new Set(rows.map((row) => row.owner));
    const missing = owners.filter((owner) => !known.has(owner));
    if (missing.length > 0) {
      const made = missing.map((owner) => newRow(ring, owner, clients.get(owner) ?? null));
      const inserted = await insertKeys(pool, made);
      failpoint("key-durable/append");
      rows.push(...made.filter((row) => inserted.has(row.id)));
      const beaten = made.filter((row) => !inserted.has(row.id)).map((row) => row.owner);
      if (beaten.length > 0) rows.push(...(await selectByOwner(pool, beaten)));
    }
    return open(rows, (row) => row.owner, before);
  }, MAX_LOOKUP);

  const find = batchLoader<null, DataKey>(async (ids) => {
    const before = destructions;
    return open(await selectById(pool, [...ids.keys()]), (row) => row.id, before);
  }, MAX_LOOKUP);

  async function keyOf(owner: string, client: string | null): Promise<DataKey> {
    const key = byOwner.get(owner) ?? (await findOrMake(owner, client));
    // Made by another process, and destroyed before we could read it.
    if (key === undefined) throw new Error(`the data key of ${owner} was destroyed while it was asked for`);
    return key;
  }

  const pepperOf = (client: ClientId) => keyOf(`pepper:${client}`, client);
  // Of all clients: a cache for each would set room aside for each.
  const subjects = new LRUCache<string, Subject>({ max: MAX_CACHED_SUBJECTS });
  async function subject(client: ClientId, kind: "user" | "address", value: string): Promise<Subject> {
    const { id, key } = await pepperOf(client);
    // By the pepper's id, so that another pepper has subjects of its own.
    const name = `${id} ${kind} ${value}`;
    const derived = subjects.get(name) ?? (`sub_${deriveSecretTail(key, kind, value)}` as const);
    subjects.set(name, derived);
    return derived;
  }

  return {
    keysFor: (client, refs) => eachOf(refs, byOwner, (ref) => keyOf(ref, client)),
    keysById: (ids) => eachOf(ids, byId, (id) => find(id, null)),
    subjectOfUser: (client, user) => subject(client, "user", user),
    subjectOfAddress: (client, address) => subject(client, "address", address),
    pepper: async (client) => (await pepperOf(client)).key,
    serverSecret: async (name) => (await keyOf(`server:${name}`, null)).key,
    plaintextCache,
    async destroy(ref) {
      const id = await deleteKey(pool, ref);
      destructions += 1;
      // fence: erasure-forgets
      plaintextCache.clear();
      const cached = byOwner.get(ref)?.id;
      byOwner.delete(ref);
      for (const one of [id, cached]) if (one !== undefined) byId.delete(one);
      return id !== undefined;
    },
    exportWrapped: () => exportKeys(pool),
    importWrapped: (keys) => importKeys(pool, ring, keys),
  };
}

/** The keys by these names, from the cache or else found together; those that are found nowhere are missing. */
async function eachOf<N extends string>(
  names: ReadonlySet<N>,
  cache: LRUCache<string, DataKey>,
  find: (name: N) => Promise<DataKey | undefined>,
): Promise<ReadonlyMap<N, DataKey>> {
  const keys = new Map<N, DataKey>();
  const missing: N[] = [];
  for (const name of names) {
    const key = cache.get(name);
    if (key === undefined) missing.push(name);
    else keys.set(name, key);
  }
  if (missing.length === 0) return keys;
  for (const [index, key] of (await Promise.all(missing.map(find))).entries()) {
    const name = missing[index];
    if (key !== undefined && name !== undefined) keys.set(name, key);
  }
  return keys;
}

function newRow(ring: WrappingRing, owner: string, client: string | null): KeyRow {
  const id = randomBytes(ID_BYTES).toString("base64url");
  return { id, owner, client, ...ring.wrap({ id, owner }, randomBytes(KEY_BYTES)) };
}

function unwrap(ring: WrappingRing, row: KeyRow): DataKey | Failed {
  try {
    return { id: row.id, key: ring.unwrap(row, row) };
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }
}
