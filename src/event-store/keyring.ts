// The keyring on PostgreSQL: data keys that are found or made, cached in the open, and destroyed; subjects and secrets.
import { createHmac, timingSafeEqual } from "node:crypto";
import { LRUCache } from "lru-cache";
import type pg from "pg";
import type { ClientId, KeyRef, Subject } from "../contract/ids.ts";
import { batchLoader, type Failed, maxEntries } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import { LOCKS, lockInTransaction } from "../platform/locks.ts";
import { inTransaction } from "../platform/postgres.ts";
import { keyObjectOf } from "../platform/secrets.ts";
import { deriveSecretTail } from "./derived-ids.ts";
import { checkedLog, EventMacs, isSigned } from "./event-macs.ts";
import type { EventStore, Position, RecordedEvent } from "./event-store.ts";
import { exportKeys, type ImportedKeys, importKeys, type WrappedKey } from "./key-transfer.ts";
import { type RotatedSecret, type RotateOptions, readRotated, rotate } from "./rotated-secrets.ts";
import { blobKeysOf, type DataKey, type Keyring, PLAINTEXT_CACHE_MS, PlaintextCache } from "./sealing.ts";
import {
  createKeyTable,
  deleteKey,
  insertDestroyed,
  insertKeys,
  type KeyRow,
  keysBesides,
  MAC_KEY,
  newKeyRow,
  readRing,
  rewrapKeys,
  selectById,
  selectByOwner,
  selectByPrefix,
  selectDestroyed,
  selectOnePerKek,
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
const CACHE = { ...maxEntries(MAX_CACHED_KEYS), ttl: KEY_CACHE_MS, ttlResolution: KEY_CACHE_TICK_MS };

/** The log and the database do not belong together. The message is one line that says what to do; exit code 78. */
export class StoresDiffer extends Error {
  override readonly name = "StoresDiffer";
}

type TrustOptions = {
  /** Events are about to be imported: the log may be empty although the database has keys. Default false. */
  readonly importing?: boolean;
  readonly onForged?: (event: RecordedEvent) => void;
  readonly warn?: (message: string) => void;
};

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
  readonly #destroyed = new LRUCache<string, true>(maxEntries(MAX_CACHED_KEYS));
  #macs: EventMacs | undefined;
  #macKeyId: string | undefined;
  // Of all clients: a cache for each would allocate for each.
  readonly #subjects = new LRUCache<string, Subject>(maxEntries(MAX_CACHED_SUBJECTS));
  /** Grows with each destruction. A look-up that was under way meanwhile may have read the key before, and is not cached. */
  #destructions = 0;
  readonly #findOrMake = batchLoader<string | null, DataKey>((clients) => this.#findOrMakeAll(clients), MAX_BATCH);
  readonly #findById = batchLoader<null, DataKey>((ids) => this.#findAllById([...ids.keys()]), MAX_BATCH);

  constructor(pool: pg.Pool, ring: WrappingRing) {
    this.#pool = pool;
    this.#ring = ring;
  }

  /** Data keys in memory, for metrics. */
  get cachedKeys(): number {
    return this.#byId.size;
  }

  keysFor(client: ClientId | null, refs: ReadonlySet<KeyRef>): Promise<ReadonlyMap<KeyRef, DataKey>> {
    return eachKey(refs, this.#byOwner, (ref) => this.#keyOf(ref, client));
  }

  keysById(ids: ReadonlySet<string>): Promise<ReadonlyMap<string, DataKey>> {
    // A destroyed key does not come back: what it sealed is read for ever, and asks the database once.
    const find = async (id: string) => (this.#destroyed.has(id) ? undefined : this.#findById(id, null));
    return eachKey(ids, this.#byId, find);
  }

  get macs(): EventMacs {
    if (this.#macs === undefined) throw new Error("the keyring belongs to no log yet");
    return this.#macs;
  }

  /**
   * The log with every read checked, once it is known to belong to this database. The first time, the key of its MACs is
   * made, and bound to the log's id and end: events up to there need no MAC. Throws StoresDiffer.
   */
  async trust<S extends EventStore>(store: S, options: TrustOptions = {}): Promise<S> {
    const prefix = `${MAC_KEY}${store.logId}.`;
    const findOrMake = async (client: pg.PoolClient) => {
      await lockInTransaction(client, LOCKS.keyTable);
      const [there] = await selectByPrefix(client, prefix);
      if (there !== undefined) return there;
      const position = await this.#macsBegin(store, await keysBesides(client, MAC_KEY), options);
      const made = newKeyRow(this.#ring, `${MAC_KEY}${position}`, null);
      await insertKeys(client, [made]);
      return made;
    };
    const [known] = await selectByPrefix(this.#pool, prefix);
    const row = known ?? (await inTransaction(this.#pool, findOrMake, { silenceMs: LOG_READ_MS }));
    const key = this.#ring.unwrap(row, row);
    const requiredAfter = row.owner.slice(MAC_KEY.length) as Position;
    this.#macKeyId = row.id;
    this.#macs = new EventMacs({ key, requiredAfter, onForged: options.onForged ?? (() => {}) });
    return checkedLog(store, this.#macs);
  }

  /** Whether the database still has the key that `trust` found or made. Throws when it cannot be asked. */
  async hasMacKey(): Promise<boolean> {
    return this.#macKeyId !== undefined && (await selectById(this.#pool, [this.#macKeyId])).length > 0;
  }

  /** Where MACs begin in a log that has none yet. */
  async #macsBegin(
    store: EventStore,
    keys: { readonly any: boolean; readonly sinceMacs: boolean },
    { importing = false, warn }: TrustOptions,
  ): Promise<Position> {
    const [tail, events] = await Promise.all([
      store.tail(),
      store.readAll({ after: "start", limit: SAMPLE, withoutBlobs: true }),
    ]);
    if (events.length <= 1) {
      if (keys.any && !importing) throw new StoresDiffer(EMPTY_LOG);
      return tail;
    }
    const sealedBy = new Set(events.flatMap(blobKeysOf));
    const isForeign = sealedBy.size > 0 && (await this.keysById(sealedBy)).size === 0;
    // fence: foreign-database
    if (keys.sinceMacs || isForeign || events.some(isSigned)) throw new StoresDiffer(LOST_KEYS);
    warn?.(`events up to ${tail} were written before events had MACs and are accepted without`);
    return tail;
  }

  async destroyedAmong(ids: ReadonlySet<string>): Promise<ReadonlySet<string>> {
    const unknown = [...ids].filter((id) => !this.#destroyed.has(id));
    if (unknown.length > 0) {
      for (const { id, proof } of await selectDestroyed(this.#pool, unknown)) {
        const expected = await this.#proofOf(id);
        // fence: destruction-proof
        if (proof.byteLength === expected.byteLength && timingSafeEqual(proof, expected)) this.#destroyed.set(id, true);
      }
    }
    return new Set([...ids].filter((id) => this.#destroyed.has(id)));
  }

  /** Records as destroyed those of the keys that are not here: they were destroyed where the events come from. */
  async recordMissing(ids: ReadonlySet<string>): Promise<void> {
    const present = await this.keysById(ids);
    const records = new Map<string, Uint8Array>();
    for (const id of ids) if (!present.has(id)) records.set(id, await this.#proofOf(id));
    await insertDestroyed(this.#pool, records);
  }

  /** Wraps all data keys with the ring's newest key, so that the others can be taken out of it; gives how many it wrapped. */
  rewrap(): Promise<number> {
    return rewrapKeys(this.#pool, this.#ring);
  }

  async #proofOf(id: string): Promise<Uint8Array> {
    return createHmac("sha256", keyObjectOf(await this.serverSecret("destroyed-keys")))
      .update(id)
      .digest();
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

  /** Those of this name that still count, newest first; the first one is made when there is none. */
  async rotatedSecrets(name: string): Promise<readonly RotatedSecret[]> {
    const there = await readRotated(this.#pool, this.#ring, `server:${name}`);
    if (there.length > 0) return there;
    await this.serverSecret(name);
    return readRotated(this.#pool, this.#ring, `server:${name}`);
  }

  /** Makes a new one of this name and drops those that are over; gives its id and how many went. */
  rotateSecret(name: string, options: RotateOptions): Promise<{ readonly id: string; readonly dropped: number }> {
    return rotate(this.#pool, this.#ring, `server:${name}`, options);
  }

  /** Destroys a key for good, which erases what it sealed; false when there was none. A later use makes another key. */
  async destroy(ref: KeyRef): Promise<boolean> {
    const id = await deleteKey(this.#pool, ref, (key) => this.#proofOf(key));
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

/** How long the transaction waits for the log. */
const LOG_READ_MS = 60_000;
/** Events that are read to see whether a log without MACs belongs to this database. */
const SAMPLE = 1_000;
const EMPTY_LOG =
  "the log is empty, but the database has the data keys of another one. To move a log here, stop the nodes, run `chatapi events export <file>` with the old settings and `chatapi events import <file>` with the new ones; to go on with the old log, take back EVENTSTORE_URL, EVENTSTORE_STREAM_PREFIX or the restore that changed it";
const LOST_KEYS =
  "the log has events of which the database lacks the keys: restore the schema `keys` that belongs to this log, or set DATABASE_URL to the database that has it";

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
