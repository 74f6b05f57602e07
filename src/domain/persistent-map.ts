// A map that is never changed: `set` and `delete` give a new one and copy only one small shard.

const SHARDS = 256;

function shardOf(key: string | number): number {
  if (typeof key === "number") return key % SHARDS;
  let hash = 0;
  for (let i = 0; i < key.length; i += 1) hash = (hash * 31 + key.charCodeAt(i)) | 0;
  return (hash >>> 0) % SHARDS;
}

/**
 * An immutable map for states that grow large: a change costs 1/256 of a copy. Iterates in no particular order.
 */
export class PersistentMap<K extends string | number, V> {
  readonly size: number;
  readonly #shards: readonly (ReadonlyMap<K, V> | undefined)[];

  private constructor(shards: readonly (ReadonlyMap<K, V> | undefined)[], size: number) {
    this.#shards = shards;
    this.size = size;
  }

  static empty<K extends string | number, V>(): PersistentMap<K, V> {
    return new PersistentMap<K, V>([], 0);
  }

  static of<K extends string | number, V>(entries: Iterable<readonly [K, V]>): PersistentMap<K, V> {
    const shards: (Map<K, V> | undefined)[] = [];
    let size = 0;
    for (const [key, value] of entries) {
      const at = shardOf(key);
      const shard = shards[at] ?? new Map<K, V>();
      shards[at] = shard;
      if (!shard.has(key)) size += 1;
      shard.set(key, value);
    }
    return new PersistentMap(shards, size);
  }

  get(key: K): V | undefined {
    return this.#shards[shardOf(key)]?.get(key);
  }

  has(key: K): boolean {
    return this.#shards[shardOf(key)]?.has(key) ?? false;
  }

  set(key: K, value: V): PersistentMap<K, V> {
    const shard = new Map(this.#shards[shardOf(key)]);
    const grown = shard.has(key) ? 0 : 1;
    shard.set(key, value);
    return this.#with(key, shard, this.size + grown);
  }

  delete(key: K): PersistentMap<K, V> {
    const old = this.#shards[shardOf(key)];
    if (old === undefined || !old.has(key)) return this;
    const shard = new Map(old);
    shard.delete(key);
    return this.#with(key, shard, this.size - 1);
  }

  *entries(): IterableIterator<[K, V]> {
    for (const shard of this.#shards) if (shard !== undefined) yield* shard.entries();
  }

  *keys(): IterableIterator<K> {
    for (const [key] of this.entries()) yield key;
  }

  #with(key: K, shard: ReadonlyMap<K, V>, size: number): PersistentMap<K, V> {
    const shards = this.#shards.slice();
    shards[shardOf(key)] = shard;
    return new PersistentMap(shards, size);
  }
}
