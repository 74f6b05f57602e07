// Bounds on how much is done or kept at once.

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
