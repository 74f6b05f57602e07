// Bounds on how much is done or kept at once: side by side, in batches of one round trip or one tick, in a cache.

/** As Promise.all over `items.map(each)`, with at most `most` under way; after the first failure no more are begun. */
export async function mapBounded<T, R>(
  items: readonly T[],
  most: number,
  each: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = new Array<R>(items.length);
  const waiting = items.entries();
  let failed = false;
  const work = async () => {
    for (const [index, item] of waiting) {
      if (failed) return;
      try {
        results[index] = await each(item, index);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, work));
  return results;
}

/** Options of an LRU cache for at most this many entries. Unlike `max` they allocate nothing up front: 200,000 take 30 ms. */
export const maxEntries = (entries: number) => ({ maxSize: entries, sizeCalculation: () => 1 }) as const;

/** A failure that concerns one key alone. */
export type Failed = { readonly error: Error };

/** Loads one key. Undefined when it does not exist; throws what the batch threw, or the error of this key alone. */
type LoadOne<R, V> = (key: string, request: R) => Promise<V | undefined>;

/**
 * Makes a function that loads keys in batches: while one batch is loading, further keys wait for the next one. `load` gets
 * requests by key, at most `maxBatch` of them, and never runs twice at once. The callers bound how many keys wait.
 */
export function batchLoader<R, V extends object>(
  load: (requests: ReadonlyMap<string, R>) => Promise<ReadonlyMap<string, V | Failed>>,
  maxBatch: number,
): LoadOne<R, V> {
  const waiting = new Map<string, { request: R; result: PromiseWithResolvers<V | undefined> }>();
  let running = false;

  async function run(): Promise<void> {
    running = true;
    await null; // so that keys requested in the same step load together
    while (waiting.size > 0) {
      const batch = [...waiting].slice(0, maxBatch);
      for (const [key] of batch) waiting.delete(key);
      try {
        const found = await load(new Map(batch.map(([key, { request }]) => [key, request])));
        for (const [key, { result }] of batch) {
          const value = found.get(key);
          if (value !== undefined && "error" in value) result.reject(value.error);
          else result.resolve(value);
        }
      } catch (error) {
        for (const [, { result }] of batch) result.reject(error);
      }
    }
    running = false;
  }

  return (key, request) => {
    const entry = waiting.get(key) ?? { request, result: Promise.withResolvers<V | undefined>() };
    waiting.set(key, entry);
    if (!running) void run();
    return entry.result.promise;
  };
}

let nextTick: Promise<void> | undefined;

/**
 * Resolves in the next tick of the event loop, at once for all callers of this tick. They continue side by side, one step
 * each: a step's code is in the processor's cache for all but the first, and what they hand on arrives as one batch.
 * (Measured: a fifth to a quarter more posts a second than when each request runs through by itself.)
 */
export function batchPerTick(): Promise<void> {
  nextTick ??= new Promise((resolve) => {
    setImmediate(() => {
      nextTick = undefined;
      resolve();
    });
  });
  return nextTick;
}
