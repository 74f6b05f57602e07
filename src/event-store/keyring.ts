// The keyring on PostgreSQL: data keys that are found or made, cached in the open, and destroyed; subjects and secrets.
import { LRUCache } from "lru-cache";
import type pg from "pg";
import type { ClientId, KeyRef, Subject } from "../contract/ids.ts";
import { batchLoader, type Failed } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import { deriveSecretTail } from "./derived-ids.ts";
import { type DataKey, type Keyring, PLAINTEXT_CACHE_MS, PlaintextCache } from "./sealing.ts";
import {
  createKeyTable,
  deleteKey,
  exportKeys,
  type ImportedKeys,
  importKeys,
  insertKeys,
  type KeyRow,
  newKeyRow,
  readRing,
  selectById,
  selectByOwner,
  selectOnePerKek,
  type WrappedKey,
  type WrappingRing,
} from "./wrapped-keys.ts";

/** Data keys cached in the open, by owner and again by id. */
const MAX_CACHED_KEYS = 100_000;
/** The most keys of one round trip. */
const MAX_BATCH = 5_000;
/** Subjects cached, of all clients: deriving one takes as long as the rest of a look-up. */
const MAX_CACHED_SUBJECTS = 50_000;
/** How long this process may still open what another one erased, whose destruction cannot reach this one's memory. */
const ERASED_ELSEWHERE_MS = 60_000;
/** How often the key cache reads the clock. */
const KEY_CACHE_TICK_MS = 500;
/** Until this has passed, this process may also seal with a key that nobody will find again. */
const KEY_CACHE_MS = ERASED_ELSEWHERE_MS - PLAINTEXT_CACHE_MS - KEY_CACHE_TICK_MS;
const CACHE = { max: MAX_CACHED_KEYS, ttl: KEY_CACHE_MS, ttlResolution: KEY_CACHE_TICK_MS };

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
  for (const row of await selectOnePerKek(pool)) ring.unwrap(row, row);
  return new PostgresKeyring(pool, ring);
}

/** Data keys on PostgreSQL. */
export class PostgresKeyring implements Keyring {
  readonly plaintextCache = new PlaintextCache();
  readonly #pool: pg.Pool;
  readonly #ring: WrappingRing;
  readonly #byOwner = new LRUCache<string, DataKey>(CACHE);
  readonly #byId = new LRUCache<string, DataKey>(CACHE);
  // Of all clients: a cache for each would allocate for each.
  readonly #subjects = new LRUCache<string, Subject>({ max: MAX_CACHED_SUBJECTS });
  /** Grows with each destruction. A look-up that was under way meanwhile may have read the key before, and is not cached. */
  #destructions = 0;
  readonly #findOrMake = batchLoader<string | null, DataKey>((clients) => this.#findOrMakeAll(clients), MAX_BATCH);
  readonly #findById = batchLoader<null, DataKey>((ids) => this.#findAllById([...ids.keys()]), MAX_BATCH);

  constructor(pool: pg.Pool, ring: WrappingRing) {
    this.#pool = pool;
    this.#ring = ring;
  }

  keysFor(client: ClientId | null, refs: ReadonlySet<KeyRef>): Promise<ReadonlyMap<KeyRef, DataKey>> {
    return eachKey(refs, this.#byOwner, (ref) => this.#keyOf(ref, client));
  }

  keysById(ids: ReadonlySet<string>): Promise<ReadonlyMap<string, DataKey>> {
    return eachKey(ids, this.#byId, (id) => this.#findById(id, null));
  }

  subjectOfUser(client: ClientId, user: string): Promise<Subject> {
    return this.#subject(client, "user", user);
  }

  subjectOfAddress(client: ClientId, address: string): Promise<Subject> {
    return this.#subject(client, "address", address);
  }

  async pepper(client: ClientId): Promise<Uint8Array> {
    return (await this.#pepperOf(client)).key;
  }

  /** 32 random bytes that the server keeps for itself, made when first needed; the same on every node. */
  async serverSecret(name: string): Promise<Uint8Array> {
    return (await this.#keyOf(`server:${name}`, null)).key;
  }

  /** Destroys a key for good, which erases what it sealed; false when there was none. A later use makes another key. */
  async destroy(ref: KeyRef): Promise<boolean> {
    const id = await deleteKey(this.#pool, ref);
    this.#destructions += 1;
    // fence: erasure-forgets
    this.plaintextCache.clear();
    const cached = this.#byOwner.get(ref)?.id;
    this.#byOwner.delete(ref);
    for (const one of [id, cached]) if (one !== undefined) this.#byId.delete(one);
    return id !== undefined;
  }

  /**
   * All keys as they are kept, none in the open. Keys of events that were read before the first row is taken are among
   * them, since keys are durable before their events.
   */
  exportWrapped(): AsyncIterable<WrappedKey> {
    return exportKeys(this.#pool);
  }

  /**
   * Takes over exported keys, all or none, and wraps them with this ring's newest key. Throws WrongEncryptionKeys when
   * this ring lacks the key that wraps one, KeyConflict when an owner has another key here.
   */
  importWrapped(keys: AsyncIterable<WrappedKey> | Iterable<WrappedKey>): Promise<ImportedKeys> {
    return importKeys(this.#pool, this.#ring, keys);
  }

  #pepperOf(client: ClientId): Promise<DataKey> {
    return this.#keyOf(`pepper:${client}`, client);
  }

  async #subject(client: ClientId, kind: "user" | "address", value: string): Promise<Subject> {
    const { id, key } = await this.#pepperOf(client);
    // By the pepper's id, so that another pepper has subjects of its own.
    const name = `${id} ${kind} ${value}`;
    const subject = this.#subjects.get(name) ?? (`sub_${deriveSecretTail(key, kind, value)}` as const);
    this.#subjects.set(name, subject);
    return subject;
  }

  async #keyOf(owner: string, client: string | null): Promise<DataKey> {
    const key = this.#byOwner.get(owner) ?? (await this.#findOrMake(owner, client));
    // Made by another process, and destroyed before it could be read here.
    if (key === undefined) throw new Error(`the data key of ${owner} was destroyed while it was read`);
    return key;
  }

  async #findOrMakeAll(clients: ReadonlyMap<string, string | null>): Promise<ReadonlyMap<string, DataKey | Failed>> {
    const before = this.#destructions;
    const owners = [...clients.keys()];
    const rows = [...(await selectByOwner(this.#pool, owners))];
    const known = new Set(rows.map((row) => row.owner));
    const missing = owners.filter((owner) => !known.has(owner));
    if (missing.length > 0) {
      const made = missing.map((owner) => newKeyRow(this.#ring, owner, clients.get(owner) ?? null));
      const inserted = await insertKeys(this.#pool, made);
      failpoint("key-durable/append");
      rows.push(...made.filter((row) => inserted.has(row.id)));
      const madeElsewhere = made.filter((row) => !inserted.has(row.id)).map((row) => row.owner);
      if (madeElsewhere.length > 0) rows.push(...(await selectByOwner(this.#pool, madeElsewhere)));
    }
    return this.#unwrapAll(rows, (row) => row.owner, before);
  }

  async #findAllById(ids: readonly string[]): Promise<ReadonlyMap<string, DataKey | Failed>> {
    const before = this.#destructions;
    return this.#unwrapAll(await selectById(this.#pool, ids), (row) => row.id, before);
  }

  /** Caches the keys unless one was destroyed since `before`. */
  #unwrapAll(rows: readonly KeyRow[], nameOf: (row: KeyRow) => string, before: number) {
    const found = new Map<string, DataKey | Failed>();
    for (const row of rows) {
      const key = unwrap(this.#ring, row);
      found.set(nameOf(row), key);
      if ("error" in key || this.#destructions !== before) continue;
      this.#byOwner.set(row.owner, key);
      this.#byId.set(row.id, key);
    }
    return found;
  }
}

/** The keys by these names, from the cache or else found together; those that are found nowhere are missing. */
async function eachKey<N extends string>(
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

function unwrap(ring: WrappingRing, row: KeyRow): DataKey | Failed {
  try {
    return { id: row.id, key: ring.unwrap(row, row) };
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }
}
