// Chance that can be had again: the same numbers for the same seed.

export type Random = {
  /** Uniform in [0, 1). */
  (): number;
  /** A whole number below this. */
  below(limit: number): number;
};

export function seeded(seed: number): Random {
  let state = seed >>> 0;
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  return Object.assign(next, { below: (limit: number) => Math.floor(next() * limit) });
}

/** One of a list. */
export function pick<T>(random: Random, list: readonly T[]): T {
  const one = list[random.below(list.length)];
  if (one === undefined) throw new Error("there is nothing to pick from");
  return one;
}
